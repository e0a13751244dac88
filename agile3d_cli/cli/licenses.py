"""`agile3d licenses`: the terms of every model, style and stylizer here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agile3d_cli.cli.choices import complete_styles
from agile3d_cli.cli.session import Session
from agile3d_cli.errors import RefusedError


def licenses(
    session: Session,
    styles: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STYLE]...", help="Only what these styles rest on.", autocompletion=complete_styles),
    ] = None,
    commercial_only: Annotated[
        bool, typer.Option("--commercial-only", help="End with code 5 if anything forbids commercial use.")
    ] = False,
) -> None:
    """Shows where every model and style comes from, and on which terms."""
    chains = _chains(styles or [])
    refused = [chain["name"] for chain in chains if not chain["commercial"]]
    lines = []
    for chain in chains:
        lines.append(f"{chain['kind']} {chain['name']}{'' if chain['commercial'] else '  (NOT for commercial use)'}")
        lines += [f"    {note['license']}: {note['item']} ({note['origin']})" for note in chain["licenses"]]
    session.result({"licenses": chains, "refused": refused if commercial_only else []}, "\n".join(lines))
    if commercial_only and refused:
        session.note(f"agile3d: not for commercial use: {', '.join(refused)}. Remove these, or do not use them.")
        raise typer.Exit(RefusedError.exit_code)


def _chains(styles: list[str]) -> list[dict[str, Any]]:
    from agile3d_cli.plugins import find_stylizers
    from agile3d_cli.registry import assets, find_file, list_files, look

    chosen = [found for name in styles if (found := look(find_file(name, "style"), "style")) is not None]
    for found in chosen:
        if found.error:
            raise RefusedError(found.error)
    named = {str(found.card.meta.get("base", {}).get("name")) for found in chosen if found.card}
    models = [found for found in list_files("model") if not styles or found.name in named]
    chains = [_chain("model", found.name, found.licenses) for found in models]
    chains += [_chain("model", asset.name, asset.licenses) for asset in assets()]
    chains += [_chain("style", found.name, found.licenses) for found in (chosen if styles else list_files("style"))]
    if not styles:
        chains += [_chain("stylizer", s.name, s.description.licenses) for s in find_stylizers() if s.description]
    return chains


def _chain(kind: str, name: str, notes: Any) -> dict[str, Any]:
    free = bool(notes) and all(note.commercial for note in notes)
    return {"kind": kind, "name": name, "commercial": free, "licenses": [note.as_json() for note in notes]}
