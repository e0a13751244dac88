"""`agile3d styles`: the styles you have, shipped and own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agile3d_cli.cli.choices import complete_styles
from agile3d_cli.cli.listing import as_entry, describe_card, describe_entries, verify_file
from agile3d_cli.cli.session import Session, add_command

group = typer.Typer(no_args_is_help=True, help="The styles you have, shipped and own.")
Name = Annotated[str, typer.Argument(metavar="STYLE", help="Name or file.", autocompletion=complete_styles)]


def list_styles(session: Session) -> None:
    """Lists the styles; one that is refused with the reason."""
    from agile3d_cli.registry import list_files

    entries = [as_entry(found) for found in list_files("style")]
    session.result({"styles": entries}, describe_entries(entries) or "There are no styles.")


def show(
    session: Session,
    style: Name,
    preview: Annotated[Path | None, typer.Option(help="Write the preview picture to this PNG file.")] = None,
) -> None:
    """Shows what a style says about itself."""
    from agile3d_cli.registry import find_file
    from agile3d_cli.safefile import read_card

    card = read_card(find_file(style, "style"), "style")
    written = None
    if preview is not None:
        from agile3d_cli.bundle import read_style
        from agile3d_cli.errors import MissingError
        from agile3d_cli.image import save_png

        picture = read_style(card.path).preview
        if picture is None:
            raise MissingError(f"The style {style!r} holds no preview picture.")
        written = str(save_png(preview, picture.numpy()))
    document = {"style": dict(card.meta), "file": str(card.path), "bytes": card.bytes, "sha256": card.sha256}
    session.result({**document, "preview": written}, describe_card(card))


def install(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A style file.")],
    force: Annotated[bool, typer.Option("--force", help="Replace your style of this name.")] = False,
) -> None:
    """Copies a style file to your own styles after checking it."""
    from agile3d_cli.registry import install_file

    found = install_file(file, "style", replace=force)
    session.result({"style": found.name, "file": str(found.path)}, f"{found.name}: {found.path}")


def remove(session: Session, style: Name) -> None:
    """Removes one of your own styles."""
    from agile3d_cli.registry import remove_file

    path = remove_file(style, "style")
    session.result({"style": style, "file": str(path)}, f"Removed {path}")


def verify(
    session: Session,
    styles: Annotated[
        list[str] | None, typer.Argument(metavar="[STYLE]...", help="Names or files; all without.")
    ] = None,
) -> None:
    """Reads styles in full and checks them: container, checksum, numbers, and the base they belong to."""
    from agile3d_cli.cli.listing import finish_verifying
    from agile3d_cli.registry import find_file, list_files

    paths = [find_file(name, "style") for name in styles] if styles else [found.path for found in list_files("style")]
    finish_verifying(session, "styles", [verify_file(path, "style") for path in paths])


def blend(
    session: Session,
    first: Annotated[str, typer.Argument(metavar="A", help="Name or file.", autocompletion=complete_styles)],
    second: Annotated[str, typer.Argument(metavar="B", help="Name or file.", autocompletion=complete_styles)],
    weight: Annotated[float, typer.Option(help="0 is A, 1 is B.")] = 0.5,
    name: Annotated[str | None, typer.Option(help="Name of the blend.", show_default="A-B")] = None,
    output: Annotated[Path | None, typer.Option(help="Write it to this file instead of to your own styles.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace your style of this name.")] = False,
) -> None:
    """Makes a style between two others."""
    from agile3d_cli.bundle import read_style, write_style
    from agile3d_cli.device import choose_device
    from agile3d_cli.errors import UsageError
    from agile3d_cli.models.checkpoints import load_base
    from agile3d_cli.registry import find_file, own_folder
    from agile3d_cli.style.blend import blend_styles

    sides = [read_style(find_file(style, "style")) for style in (first, second)]
    called = name or f"{sides[0].name}-{sides[1].name}"[:40]
    path = output or own_folder("style") / f"{called}.safetensors"
    if path.exists() and not force:
        raise UsageError(f"There is already {path}; choose another --name, or --force to replace it.")
    base = load_base(sides[0].base.name, choose_device(session.device))
    blended = blend_styles(sides[0], sides[1], weight, called, base)
    write_style(path, blended)
    session.result({"style": called, "file": str(path), "weight": weight}, f"{called}: {path}")


add_command(group, "styles list", list_styles)
add_command(group, "styles show", show)
add_command(group, "styles install", install)
add_command(group, "styles remove", remove)
add_command(group, "styles verify", verify)
add_command(group, "styles blend", blend)
