"""portrait -> file: a mesh file, a viewer page or a moving picture.

In: a portrait file, or a head. Out: one file, written whole or not at all. Last in the avatar flow.
Convention of all mesh files: y up, face towards +z, metres, origin in the middle of the neck's cut. A world unit is
``camera.METRES_PER_UNIT``, with which the standard head (chin to crown 0.621 units) is 0.23 m high.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agile3d_cli import __version__
from agile3d_cli.avatar.config import MeshConfig, ViewsConfig
from agile3d_cli.avatar.glb import glb_bytes
from agile3d_cli.avatar.head import Head
from agile3d_cli.avatar.mesh import Mesh, extract_mesh
from agile3d_cli.avatar.meshfiles import mtl_bytes, obj_bytes, ply_bytes, stl_bytes
from agile3d_cli.avatar.usdz import usdz_bytes
from agile3d_cli.avatar.viewer import build_viewer_html
from agile3d_cli.avatar.views import ANIMATIONS, animation_bytes, turntable
from agile3d_cli.camera import METRES_PER_UNIT
from agile3d_cli.device import choose_device
from agile3d_cli.errors import UsageError
from agile3d_cli.image import save_png, write_whole
from agile3d_cli.safefile import read_card

if TYPE_CHECKING:
    import torch

MESH_FORMATS = ("glb", "obj", "ply", "stl", "usdz", "html")
FORMATS = (*MESH_FORMATS, *ANIMATIONS)
"""Kinds of file, by suffix without the dot."""
TEXTURED = ("glb", "obj", "usdz", "html")
"""Formats that can hold a texture; the others get their colours at the vertices."""
USDZ_TEXTURE = 1024
"""Width of the texture of a USDZ unless asked otherwise: its viewers show no vertex colours, so there is always one."""
CUT = 0.01
"""The lowest share of the height, in which the neck's cut is looked for."""

LoadHead = Callable[[Path, "torch.device"], Head]
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ExportResult:
    """What was written."""

    file: Path
    format: str
    vertices: int | None
    """None for a moving picture, as are the next three."""
    faces: int | None
    texture: tuple[int, int] | None
    """Width and height, pixels; None where the vertices carry the colours."""
    watertight: bool | None
    """Whether the surface is closed: measured on what was written, vertices at one place taken as one."""
    seconds: float


def export_portrait(
    portrait: Path,
    format: str = "glb",
    output: Path | None = None,
    *,
    mesh: MeshConfig | None = None,
    views: ViewsConfig | None = None,
    device: str = "auto",
    load: LoadHead | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Writes a portrait as one file.

    Args:
        portrait: a portrait file.
        format: one of ``FORMATS``.
        output: the file to write; by default beside the portrait, under its name.
        mesh: how the mesh is made.
        views: how the moving picture is made.
        device: where to compute.
        load: builds the head from the portrait; the avatar pipeline's by default.
        progress: called with the stage's name and the share of it that is done.

    Raises:
        UsageError: an unknown format.
        RefusedError: not a portrait.
        OutputError: the place cannot be written.
    """
    check_format(format)
    facts = portrait_facts(portrait)
    if load is None:
        from agile3d_cli.avatar.pipeline import load_head

        load = load_head
    head = load(portrait, choose_device(device))
    target = portrait.with_suffix(f".{format}") if output is None else output
    return export_head(head, format, target, facts, mesh=mesh, views=views, progress=progress)


def export_head(
    head: Head,
    format: str,
    output: Path,
    facts: Mapping[str, Any] | None = None,
    *,
    mesh: MeshConfig | None = None,
    views: ViewsConfig | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Writes a head as one file; ``facts`` (plain data) go into formats that can hold them. See ``export_portrait``."""
    check_format(format)
    started = time.perf_counter()
    report = progress or (lambda stage, share: None)
    if format in ANIMATIONS:
        views = views or ViewsConfig()
        frames = turntable(head, views, lambda share: report("turntable", share))
        data = animation_bytes(frames, format, views.fps)
        write_whole(output, lambda stream: stream.write(data))
        return ExportResult(output, format, None, None, None, None, time.perf_counter() - started)
    mesh = mesh or MeshConfig()
    if format not in TEXTURED:
        mesh = replace(mesh, texture=0)
    elif format == "usdz" and not mesh.texture:
        mesh = replace(mesh, texture=USDZ_TEXTURE)
    model = placed(extract_mesh(head, mesh, lambda share: report("mesh", share)))
    report("file", 0.0)
    _write_mesh(model, format, output, facts or {})
    report("file", 1.0)
    return ExportResult(
        file=output,
        format=format,
        vertices=len(model.vertices),
        faces=len(model.faces),
        texture=None if model.texture is None else (model.texture.shape[1], model.texture.shape[0]),
        watertight=model.watertight,
        seconds=time.perf_counter() - started,
    )


def placed(mesh: Mesh) -> Mesh:
    """The mesh in metres, its origin in the middle of the neck's cut."""
    vertices = mesh.vertices.astype(np.float64)
    low, high = vertices[:, 1].min(), vertices[:, 1].max()
    corners = vertices[mesh.faces]
    corners = corners[(corners[:, :, 1] < low + CUT * (high - low)).all(1)]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if area.sum() > 0:
        middle = (corners.mean(1) * area[:, None]).sum(0) / area.sum()
    else:
        middle = vertices[vertices[:, 1].argmin()]
    origin = np.array([middle[0], low, middle[2]])
    return replace(mesh, vertices=((vertices - origin) * METRES_PER_UNIT).astype(np.float32))


def portrait_facts(portrait: Path) -> dict[str, Any]:
    """What an exported file should say about where it comes from: style, base model, licences."""
    meta = read_card(portrait, "portrait").meta
    style = meta.get("style") or {}
    base = meta.get("base") or {}
    return {
        "generator": f"agile3d {__version__}",
        "style": {key: style[key] for key in ("name", "sha256") if key in style} or None,
        "base": {key: base[key] for key in ("name", "sha256") if key in base},
        "licenses": meta.get("licenses", []),
        "unit": "metre",
    }


def check_format(format: str) -> None:
    """Refuses an unknown format with the choices there are."""
    if format not in FORMATS:
        raise UsageError(f"There is no export format {format!r}; choose one of {', '.join(FORMATS)}.")


def _write_mesh(mesh: Mesh, format: str, output: Path, facts: Mapping[str, Any]) -> None:
    if format == "obj" and mesh.texture is not None:
        picture = save_png(output.with_suffix(".png"), mesh.texture)
        material = output.with_suffix(".mtl")
        write_whole(material, lambda stream: stream.write(mtl_bytes(picture.name)))
        data = obj_bytes(mesh, material.name)
    elif format in ("glb", "html"):
        names = {note["license"] for note in facts.get("licenses", ()) if "license" in note}
        data = glb_bytes(mesh, "head", {"agile3d": dict(facts)} if facts else None, ", ".join(sorted(names)))
        if format == "html":
            data = build_viewer_html(data, output.stem).encode("utf-8")
    else:
        data = {"obj": obj_bytes, "ply": ply_bytes, "stl": stl_bytes, "usdz": usdz_bytes}[format](mesh)
    write_whole(output, lambda stream: stream.write(data))
