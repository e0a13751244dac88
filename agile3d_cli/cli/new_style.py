"""`agile3d new-style`: about 20 pictures to a style."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from agile3d_cli.cli.choices import OUTPUT_FOLDER, complete_models, complete_stylizers
from agile3d_cli.cli.session import Session, plain
from agile3d_cli.errors import RefusedError, UsageError
from agile3d_cli.style.config import PRESETS, NewStyleConfig


def new_style(
    session: Session,
    exemplars: Annotated[Path, typer.Argument(metavar="EXEMPLARS_DIR", help="Folder with about 20 pictures.")],
    name: Annotated[str | None, typer.Option(help="Name of the style.", show_default="the folder's name")] = None,
    stylizer: Annotated[
        str, typer.Option(help="Who learns the style in 2D.", autocompletion=complete_stylizers)
    ] = NewStyleConfig.stylizer,
    base: Annotated[
        str, typer.Option(help="Generator it belongs to.", autocompletion=complete_models)
    ] = NewStyleConfig.base,
    preset: Annotated[str, typer.Option(help=f"How long to train: {', '.join(PRESETS)}.")] = NewStyleConfig.preset,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run stopped.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only check the pictures and say what it would take; writes nothing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse pictures about which there is a warning, with exit code 5.")
    ] = False,
    photos: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Real photos to stylize too; they show the style's shapes on real faces."),
    ] = None,
    export_dataset: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the stylized pictures and their cameras for other tools (EG3D)."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write losses and scores for TensorBoard (needs the extra log)."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for bundle, preview and report.", show_default=f"{OUTPUT_FOLDER}/NAME-style"),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install/--no-install", help="Also add it to your own styles, so its name works.")
    ] = True,
) -> None:
    """Learns a style from about 20 pictures and writes it as one file."""
    if not exemplars.is_dir():
        raise UsageError(f"{exemplars} is not a folder; give the folder that holds the pictures of the style.")
    if photos is not None and not photos.is_dir():
        raise UsageError(f"{photos} is not a folder; give --photos a folder of photos, or leave it away.")
    config = NewStyleConfig(
        name=name or re.sub(r"[^a-z0-9_-]+", "-", exemplars.resolve().name.lower()).strip("-")[:40],
        stylizer=stylizer,
        base=base,
        preset=preset,
        resume=resume,
        strict=strict,
        photos=photos,
        dataset=export_dataset,
        log=log,
        seed=session.seed,
        device=session.device,
    )
    # Reported before torch is imported.
    from agile3d_cli.plugins import choose_stylizer
    from agile3d_cli.registry import find_file, install_file

    find_file(base, "model")
    choose_stylizer(stylizer)

    if dry_run:
        _look_ahead(session, exemplars, config)
        return

    from agile3d_cli.style.pipeline import learn_style, take_part
    from agile3d_cli.style.together import join

    place, together = output or OUTPUT_FOLDER / f"{config.name}-style", join(session.device)
    if not together.first:
        take_part(exemplars, place, config, together)
        return
    with session.progress(config.name) as progress:
        result = learn_style(exemplars, place, config, progress, session.note, together)
    installed = install_file(Path(result.bundle), "style", replace=True).path if install else None
    facts = plain(result)
    text = "\n".join(f"{key}: {facts[key]}" for key in ("bundle", "preview", "report") if facts.get(key))
    session.result({**facts, "installed": str(installed) if installed else None}, text)
    if result.applies:
        session.note(f"Try it: agile3d apply PHOTO --style {config.name if install else result.bundle}")


def _look_ahead(session: Session, exemplars: Path, config: NewStyleConfig) -> None:
    from agile3d_cli.cli.dry_run import describe_dry_run
    from agile3d_cli.style.dry_run import look_ahead

    found = look_ahead(exemplars, config)
    total = {"seconds_total": round(found.plan.total, 1)}
    document = {"style": config.name, "dry_run": True, **plain(found.check), "plan": {**plain(found.plan), **total}}
    session.result(document, describe_dry_run(found.check, found.plan))
    if config.strict and found.check.warnings:
        session.note("agile3d: --strict refuses these exemplars because of the warnings.")
        raise typer.Exit(RefusedError.exit_code)
