"""Terms of large bases and what is added to them, as their own model cards name them. Imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

from agile3d_cli.licenses import LicenseNote
from agile3d_diffusion.config import DiffusionConfig

COMMERCIAL = {
    "apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "bsd-3-clause", "openrail", "openrail++", "creativeml-openrail-m",
}  # fmt: skip
"""Licences that allow commercial use, as the hub spells them; those named openrail forbid certain uses."""
HEAD = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
LICENSE = re.compile(r"^license(_name)?:\s*[\"']?([^\"'\n]+?)[\"']?\s*$", re.MULTILINE)


def terms_of(config: DiffusionConfig) -> tuple[LicenseNote, ...]:
    """One note for each model that the settings name."""
    named = (("base", config.base), ("LoRA", config.lora), ("ControlNet", config.controlnet))
    return tuple(_note(kind, where) for kind, where in (*named, ("IP-Adapter", config.ip_adapter)) if where)


def _note(kind: str, where: str) -> LicenseNote:
    name = _license_in(_card_text(where))
    return LicenseNote(f"{kind} {Path(where).name}", name, where, commercial=name.lower() in COMMERCIAL)


def _card_text(where: str) -> str:
    """The model card beside a file, in a folder, or in the hub's cache; empty where there is none."""
    path = Path(where)
    card: Path | str | None = (path if path.is_dir() else path.parent) / "README.md"
    if not path.exists():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(where, "README.md")
        except HFValidationError:
            found = None
        card = found if isinstance(found, str) else None
    if card is None or not Path(card).is_file():
        return ""
    return Path(card).read_text(encoding="utf-8", errors="replace")


def _license_in(text: str) -> str:
    """The licence in a card's head; its own name where it says "other"; "unknown" without one."""
    head = HEAD.match(text)
    found = {bool(own): name for own, name in LICENSE.findall(head.group(1))} if head else {}
    if found.get(False, "other") == "other":
        return found.get(True, "unknown")
    return found[False]
