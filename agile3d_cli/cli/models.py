"""`agile3d models`: generators and face networks on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from agile3d_cli.cli.choices import complete_models
from agile3d_cli.cli.listing import (
    as_entry,
    asset_entry,
    describe_card,
    describe_entries,
    finish_verifying,
    verify_asset,
    verify_file,
)
from agile3d_cli.cli.session import Session, add_command

group = typer.Typer(no_args_is_help=True, help="Generators and face networks on this machine.")


def list_models(session: Session) -> None:
    """Lists the models, shipped and own."""
    from agile3d_cli.registry import assets, list_files

    entries = [*(as_entry(found) for found in list_files("model")), *(asset_entry(asset) for asset in assets())]
    session.result({"models": entries}, describe_entries(entries) or "There are no models.")


def show(
    session: Session,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name or file.", autocompletion=complete_models)],
) -> None:
    """Shows what a model says about itself."""
    from agile3d_cli.registry import assets, find_file
    from agile3d_cli.safefile import read_card

    for asset in assets():
        if asset.name == model:
            entry = asset_entry(asset)
            lines = [f"{key}: {value}" for key, value in entry.items() if key != "licenses" and value is not None]
            session.result({"model": entry}, "\n".join(lines))
            return
    card = read_card(find_file(model, "model"), "model")
    document = {"model": dict(card.meta), "file": str(card.path), "bytes": card.bytes, "sha256": card.sha256}
    session.result(document, describe_card(card))


def verify(session: Session) -> None:
    """Reads every model in full and checks it against its checksum or the shipped list."""
    from agile3d_cli.registry import assets, list_files

    checked = [verify_file(found.path, "model") for found in list_files("model")]
    finish_verifying(session, "models", [*checked, *(verify_asset(asset) for asset in assets())])


add_command(group, "models list", list_models)
add_command(group, "models show", show)
add_command(group, "models verify", verify)
