"""`agile3d plugins list`: stylizers found, with state, origin and licence."""

from __future__ import annotations

import typer

from agile3d_cli.cli.session import Session, add_command

group = typer.Typer(no_args_is_help=True, help="Stylizers that other packages bring along.")


def list_plugins(session: Session) -> None:
    """Lists the stylizers found; a broken one with the reason."""
    from agile3d_cli.plugins import find_stylizers

    found = find_stylizers()
    entries = [
        {
            "name": stylizer.name,
            "package": stylizer.package,
            "version": stylizer.version,
            "summary": stylizer.description.summary if stylizer.description else "",
            "origin": stylizer.description.origin if stylizer.description else "",
            "state": stylizer.state,
            "error": stylizer.error,
            "licenses": [note.as_json() for note in stylizer.description.licenses] if stylizer.description else [],
        }
        for stylizer in found
    ]
    lines = [
        f"{entry['name']}  {entry['package']} {entry['version']}  {entry['state']}"
        f"  {entry['error'] or entry['summary']}"
        for entry in entries
    ]
    session.result({"plugins": entries}, "\n".join(lines) or "No stylizers are installed.")


add_command(group, "plugins list", list_plugins)
