"""`agile3d export`: a portrait to a 3D file or a moving picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.cli.choices import OUTPUT_FOLDER
from agile3d_cli.cli.session import Session, plain


def export(
    session: Session,
    portrait: Annotated[
        Path | None,
        typer.Argument(metavar="[PORTRAIT]", help="A portrait file.", show_default=f"newest below {OUTPUT_FOLDER}"),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="glb, obj, ply, stl, usdz, html, mp4, webp, gif.", show_default="from --output, else glb"),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="File to write.", show_default="beside the portrait")] = None,
    resolution: Annotated[int, typer.Option(help="Grid cells per side; more is finer.")] = MeshConfig.resolution,
    faces: Annotated[
        int | None, typer.Option(help="Simplify to about so many triangles (needs the extra mesh).")
    ] = MeshConfig.faces,
    texture: Annotated[
        int, typer.Option(help="Width of a texture, pixels; 0 colours vertices (else needs the extra mesh).")
    ] = MeshConfig.texture,
    dense: Annotated[bool, typer.Option("--dense", help="Evaluate the whole grid; same mesh, slower.")] = False,
) -> None:
    """Writes a portrait as a 3D file."""
    mesh = MeshConfig(resolution=resolution, faces=faces, texture=texture, dense=dense)
    chosen = choose_portrait(portrait)

    from agile3d_cli.avatar.export import export_portrait

    kind = format or (output.suffix[1:].lower() if output is not None else "") or "glb"
    with session.progress(chosen.name) as progress:
        result = export_portrait(chosen, kind, output, mesh=mesh, device=session.device, progress=progress)
    facts = plain(result)
    session.result(facts, str(facts["file"]))


def choose_portrait(portrait: Path | None) -> Path:
    """The portrait that was named, else the newest, after a look at its header; torch is not needed for that."""
    from agile3d_cli.registry import newest_portrait
    from agile3d_cli.safefile import read_card

    chosen = portrait if portrait is not None else newest_portrait(OUTPUT_FOLDER)
    if chosen.is_dir():
        chosen = chosen / "portrait.safetensors"
    read_card(chosen, "portrait")
    return chosen
