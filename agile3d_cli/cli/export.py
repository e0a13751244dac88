"""`agile3d export`: a portrait to a 3D file or a moving picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agile3d_cli.cli.apply import as_json
from agile3d_cli.cli.choices import OUTPUT_FOLDER
from agile3d_cli.cli.session import Session


def export(
    session: Session,
    portrait: Annotated[
        Path | None, typer.Argument(metavar="[PORTRAIT]", help=f"A portrait file. [newest below {OUTPUT_FOLDER}]")
    ] = None,
    format: Annotated[str, typer.Option(help="Kind of file.")] = "glb",
    output: Annotated[Path | None, typer.Option(help="File to write. [beside the portrait]")] = None,
) -> None:
    """Writes a portrait as a 3D file."""
    from agile3d_cli.registry import newest_portrait
    from agile3d_cli.safefile import read_card

    chosen = portrait if portrait is not None else newest_portrait(OUTPUT_FOLDER)
    # Reported before torch is imported.
    read_card(chosen, "portrait")

    from agile3d_cli.avatar.export import export_portrait

    with session.progress(chosen.name):
        result = export_portrait(chosen, format, output)
    facts = as_json(result)
    session.result(facts, str(facts["file"]))
