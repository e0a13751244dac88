"""`agile3d models`: generators and face networks on this machine."""

from __future__ import annotations

from pathlib import Path
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

Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name or file.", autocompletion=complete_models)]
group = typer.Typer(no_args_is_help=True, help="Generators and face networks on this machine.")


def list_models(session: Session) -> None:
    """Lists the models, shipped and own."""
    from agile3d_cli.registry import assets, list_files

    entries = [*(as_entry(found) for found in list_files("model")), *(asset_entry(asset) for asset in assets())]
    session.result({"models": entries}, describe_entries(entries) or "There are no models.")


def show(
    session: Session,
    model: Name,
    tensors: Annotated[bool, typer.Option("--tensors", help="Also name, shape, type and hash of each tensor.")] = False,
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
    if not tensors:
        session.result(document, describe_card(card))
        return
    from agile3d_cli.bundle import read_model
    from agile3d_cli.cli.tensors import describe_tensors, tensor_entries

    entries = tensor_entries(read_model(card.path))
    session.result({**document, "tensors": entries}, f"{describe_card(card)}\n{describe_tensors(entries)}")


def import_model(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Network pickle, PyTorch or safetensors file.")],
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="the file's name")] = None,
    license: Annotated[
        str | None,
        typer.Option(help="Terms of the network, SPDX.", show_default="NVIDIA Source Code License, non-commercial"),
    ] = None,
    origin: Annotated[str, typer.Option(help="Where the file came from, for the card.")] = "",
    rendered: Annotated[
        int | None, typer.Option(min=4, max=1024, help="Pixels that are rendered, over what the file says.")
    ] = None,
    rendering: Annotated[
        Path | None, typer.Option(metavar="JSON", help="Rendering options, for files that say nothing of them.")
    ] = None,
    plane_axes: Annotated[
        str, typer.Option(help="xy_xz_zx as published; xy_xz_zy where they were corrected.")
    ] = "xy_xz_zx",
    force: Annotated[bool, typer.Option("--force", help="Replace your model of this name.")] = False,
) -> None:
    """Reads an EG3D-type generator from a file, without running anything in it, and adds it to your own models."""
    from agile3d_cli.models.importing import ImportOptions, import_file, read_rendering

    told = None if rendering is None else read_rendering(rendering)
    options = ImportOptions(name, license, origin, rendered, told, plane_axes)
    path, imported = import_file(file, options, force)
    model = imported.model
    for sentence in imported.notes:
        session.note(sentence)
    document = {"model": model.name, "file": str(path), "sha256": model.sha256, "architecture": model.architecture}
    document |= {"license": model.license, "training": model.training, "notes": list(imported.notes)}
    session.result(document, f"{model.name}: {path}\n{model.summary}\nlicense: {model.license}")


def remove(session: Session, model: Name) -> None:
    """Removes one of your own models."""
    from agile3d_cli.registry import remove_file

    path = remove_file(model, "model")
    session.result({"model": model, "file": str(path)}, f"Removed {path}")


def native(
    session: Session,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it again.")] = False,
) -> None:
    """Compiles the part that makes views of imported generators faster on this processor. Never needed."""
    from agile3d_cli.models.native import build, built

    path = built()
    if remove:
        path.unlink(missing_ok=True)
        session.result({"native": None, "file": str(path)}, f"Removed {path}")
        return
    build()
    session.result({"native": str(path), "file": str(path)}, f"Built and tried: {path}")


def verify(session: Session) -> None:
    """Reads every model in full and checks it against its checksum or the shipped list."""
    from agile3d_cli.registry import assets, list_files

    checked = [verify_file(found.path, "model") for found in list_files("model")]
    finish_verifying(session, "models", [*checked, *(verify_asset(asset) for asset in assets())])


add_command(group, "models list", list_models)
add_command(group, "models show", show)
add_command(group, "models import", import_model)
add_command(group, "models remove", remove)
add_command(group, "models native", native)
add_command(group, "models verify", verify)
