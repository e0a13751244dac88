"""A file of others -> a model file of ours: the generator's tensors under our names, with a card that says it all.

In: a network pickle, a PyTorch file or a safetensors file from the user's disk. Out: a ``Model``, in the precision of
the file, so that it shows what the original shows. Nothing in the file is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agile3d_cli import __version__
from agile3d_cli.bundle import NAME, Model, read_model, write_model
from agile3d_cli.errors import ConfigError, MissingError, RefusedError, UsageError
from agile3d_cli.licenses import FREE, LicenseNote
from agile3d_cli.models.checkpoints import architecture, build
from agile3d_cli.models.config import PLANE_AXES, GeneratorConfig
from agile3d_cli.models.foreign import eg3d_names, from_eg3d, left_away
from agile3d_cli.models.foreign_config import SR_ENTRY, eg3d_config
from agile3d_cli.models.foreign_networks import OFFICIAL, read_network
from agile3d_cli.registry import SUFFIX, list_files, own_folder
from agile3d_cli.safefile import KEY, file_sha256

NONCOMMERCIAL = "NVIDIA Source Code License, non-commercial"
"""Terms of EG3D's published networks and of whatever is derived from them."""
RESOLUTION = "neural_rendering_resolution"
MOST_OPTIONS = 1 << 20
"""Bytes of a file of rendering options."""


@dataclass(frozen=True)
class ImportOptions:
    """What the user says of a file."""

    name: str | None = None
    """Of the model; the file's name without one."""
    license: str | None = None
    """Terms, SPDX where there is one; ``NONCOMMERCIAL`` unless told."""
    origin: str = ""
    """Where the file came from."""
    rendered: int | None = None
    """Pixels of the rendered picture, over what the file says."""
    rendering: Mapping[str, Any] | None = None
    """The family's ``rendering_kwargs``, for files that say nothing of rendering; may hold ``RESOLUTION`` too,
    and for MMagic's files ``SR_ENTRY``."""
    plane_axes: str = PLANE_AXES[0]
    """As published, or corrected."""


@dataclass(frozen=True)
class Imported:
    """A model in memory, and what had to be assumed, one sentence each."""

    model: Model
    notes: tuple[str, ...]


def import_file(path: Path, options: ImportOptions, replace_old: bool = False) -> tuple[Path, Imported]:
    """Imports a file into the user's own models; returns where it is.

    Raises:
        MissingError: there is no such file.
        UsageError: the name is taken or is no name.
        RefusedError: the file is not one that is understood.
    """
    name = model_name(path, options.name)
    taken = {entry.name: entry for entry in list_files("model")}
    if name in taken and not replace_old:
        raise UsageError(f"There is already a model {name!r} at {taken[name].path}; give another --name, or --force.")
    imported = convert(path, options)
    target = own_folder("model") / f"{name}{SUFFIX}"
    sha256 = write_model(target, imported.model)
    return target, replace(imported, model=replace(imported.model, sha256=sha256))


def model_name(path: Path, name: str | None) -> str:
    """The name of a model: as told, else the file's in small letters."""
    made = name or re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:40]
    if not re.fullmatch(NAME, made):
        raise UsageError(f"{made!r} is no name for a model; give one of a-z, 0-9, dash and underscore with --name.")
    return made


def convert(path: Path, options: ImportOptions) -> Imported:
    """A file as a model in memory, see ``import_file``."""
    name = model_name(path, options.name)
    if _is_ours(path):
        model = read_model(path)
        build(model, path)
        return Imported(replace(model, name=name), ())
    network = read_network(path)
    if options.rendering is not None:
        rendering = dict(options.rendering)
        rendered = rendering.pop(RESOLUTION, network.rendered)
        entry = rendering.pop(SR_ENTRY, network.entry)
        network = replace(network, rendering=rendering, rendered=rendered, entry=entry)
    try:
        config, notes = eg3d_config(network, options.rendered)
        config = replace(config, plane_axes=options.plane_axes)
        state = from_eg3d(network.tensors, config)
    except RefusedError as error:
        raise RefusedError(f"{path} is refused: {error}") from error
    except ConfigError as error:
        raise UsageError(str(error)) from error
    terms = options.license or NONCOMMERCIAL
    origin = options.origin or f"the user's file {path.name}"
    record = {
        "converted_by": f"agile3d {__version__}",
        "source": {"file": path.name, "sha256": file_sha256(path), "bytes": path.stat().st_size},
        "container": network.container,
        "names": OFFICIAL,
        "layout": network.layout,
        "left_away": sorted(tensor for tensor in network.tensors if left_away(tensor)),
        "rendering": network.rendering,
        RESOLUTION: network.rendered,
        "settings": dict(network.settings),
        "assumed": notes,
    }
    sizes = config.superresolution
    model = Model(
        name=name,
        architecture=architecture(config),
        tensors=state,
        summary=f"EG3D-type generator, {(sizes.sizes or (sizes.rendered,))[-1]} pixels from {sizes.rendered} rendered",
        license=terms,
        origin=origin,
        training=_plain_data(path, record),
        licenses=(LicenseNote(f"network {path.name}", terms, origin, terms in FREE),),
    )
    return Imported(model, tuple(notes))


def read_rendering(path: Path) -> dict[str, Any]:
    """Rendering options from a JSON file: a table, or a file that has one under ``rendering_kwargs``.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is not JSON, or no table.
    """
    if not path.is_file():
        raise MissingError(f"There is no file {path}; check the path.")
    if path.stat().st_size > MOST_OPTIONS:
        raise RefusedError(
            f"{path} has {path.stat().st_size:,} bytes; rendering options have less than {MOST_OPTIONS:,}."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not JSON; a table of rendering options is expected.") from error
    if isinstance(found, dict) and isinstance(found.get("rendering_kwargs"), dict):
        outer = {name: found[name] for name in (RESOLUTION, SR_ENTRY) if name in found}
        found = found["rendering_kwargs"] | outer
    if not isinstance(found, dict):
        raise RefusedError(f"{path} holds no table of rendering options.")
    return found


def official_names(model: Model) -> dict[str, str]:
    """Our name of each tensor -> its official one, for imported models; empty for others."""
    if model.training.get("names") != OFFICIAL:
        return {}
    return eg3d_names(GeneratorConfig.from_dict({k: v for k, v in model.architecture.items() if k != "kind"}))


def _is_ours(path: Path) -> bool:
    """Whether it is a safetensors file with a card of ours."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        start = stream.read(8)
        length = min(int.from_bytes(start, "little"), 1 << 24)
        head = stream.read(length) if stream.read(1) == b"{" else b""
    try:
        metadata = json.loads(b"{" + head[: length - 1]).get("__metadata__", {})
    except (ValueError, RecursionError):
        return False
    return isinstance(metadata, dict) and KEY in metadata


def _plain_data(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The record as a card can hold it."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(record, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{path} is refused: its options are no plain data ({error}).") from error
    return plain
