"""`agile3d doctor`: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import typer

from agile3d_cli import __version__
from agile3d_cli.cli.session import Session
from agile3d_cli.errors import Agile3dError

LEAST_MEMORY = 4e9
"""Memory that the default settings of `apply` need, bytes."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: str
    """``ok``, ``warning`` (something optional is missing) or ``failed``."""
    found: str
    advice: str = ""


def doctor(session: Session) -> None:
    """Checks what works here; ends with code 1 if something needed does not."""
    checks = [check for look in LOOKS for check in look(session)]
    failed = any(check.state == "failed" for check in checks)
    lines = [
        f"{check.state:8} {check.name}: {check.found}" + (f"\n         -> {check.advice}" if check.advice else "")
        for check in checks
    ]
    session.result({"ok": not failed, "checks": [asdict(check) for check in checks]}, "\n".join(lines))
    if failed:
        raise typer.Exit(Agile3dError.exit_code)


def _program(session: Session) -> list[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    here = Path(__file__).parents[1]
    return [
        Check("agile3d", "ok", f"{__version__} in {here}"),
        Check("python", "ok", f"{version} on {platform.platform()}, {os.cpu_count()} CPUs"),
    ]


def _torch(session: Session) -> list[Check]:
    from agile3d_cli.device import choose_device

    try:
        import torch
    except (ImportError, OSError) as error:
        return [Check("torch", "failed", f"does not load: {error}", "Install agile3d again with pip.")]
    checks = [Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")]
    try:
        device = choose_device(session.device)
        sum_of_ones = float(torch.ones(8, device=device).sum())
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        checks.append(Check("device", "ok" if sum_of_ones == 8 else "failed", name))
    except (Agile3dError, RuntimeError) as error:
        checks.append(Check("device", "failed", str(error), "Use --device cpu."))
    return checks


def _memory(session: Session) -> list[Check]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return [Check("memory", "warning", "cannot be read on this platform")]
    if size < LEAST_MEMORY:
        return [Check("memory", "warning", f"{size / 1e9:.1f} GB", "Use a smaller --size; 4 GB are meant.")]
    return [Check("memory", "ok", f"{size / 1e9:.1f} GB")]


def _home(session: Session) -> list[Check]:
    from agile3d_cli.registry import HOME_VARIABLE, home

    place = home()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place):
            return [Check("home", "ok", str(place))]
    except OSError as error:
        reason = error.strerror or str(error)
        return [Check("home", "failed", f"{place} cannot be written ({reason})", f"Set {HOME_VARIABLE} elsewhere.")]


def _models(session: Session) -> list[Check]:
    from agile3d_cli.cli.listing import verify_asset, verify_file
    from agile3d_cli.registry import assets, list_files

    models, styles = list_files("model"), list_files("style")
    entries = [("model", verify_file(found.path, "model")) for found in models]
    entries += [("model", verify_asset(asset)) for asset in assets()]
    entries += [("style", verify_file(found.path, "style")) for found in styles]
    checks = [
        Check(f"{kind} {entry['name']}", "failed", str(entry["error"]), "Remove it, or install it again.")
        if entry["error"]
        else Check(f"{kind} {entry['name']}", "ok", str(entry["file"]))
        for kind, entry in entries
    ]
    if not models:
        checks.append(Check("generator", "failed", "there is none", "Install agile3d again; `mini` is part of it."))
    if not styles:
        checks.append(Check("styles", "warning", "there are none", "Learn one with `agile3d new-style FOLDER`."))
    return checks


def _plugins(session: Session) -> list[Check]:
    from agile3d_cli.plugins import find_stylizers

    found = find_stylizers()
    if not found:
        return [Check("stylizers", "warning", "there are none", "`new-style` needs one: pip install agile3d-linear.")]
    return [
        Check(f"stylizer {s.name}", "warning", s.error, f"Repair or uninstall {s.package}.")
        if s.error
        else Check(f"stylizer {s.name}", "ok", f"{s.package} {s.version}")
        for s in found
    ]


def _video(session: Session) -> list[Check]:
    import shutil
    from importlib.util import find_spec

    if find_spec("imageio_ffmpeg") or shutil.which("ffmpeg"):
        return [Check("mp4", "ok", "an encoder is installed")]
    return [Check("mp4", "warning", "no encoder; turntables are WebP", "pip install 'agile3d[video]'")]


LOOKS: tuple[Callable[[Session], list[Check]], ...] = (
    _program,
    _torch,
    _memory,
    _home,
    _models,
    _plugins,
    _video,
)
