"""`agile3d apply`: photos to portraits."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agile3d_cli.avatar.config import POSES, ApplyConfig
from agile3d_cli.cli.choices import OUTPUT_FOLDER, complete_styles
from agile3d_cli.cli.session import Session, plain
from agile3d_cli.errors import PartialBatchError, PhotoError

if TYPE_CHECKING:
    from agile3d_cli.avatar.pipeline import AvatarResult

Work = Callable[[Path, Path, ApplyConfig, Callable[[str, float], None]], "AvatarResult"]


def apply(
    session: Session,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos with a face.")],
    style: Annotated[
        str, typer.Option(help="Name or file of a style; none leaves it away.", autocompletion=complete_styles)
    ] = ApplyConfig.style,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the portrait; of several photos, the folder of their folders.",
            show_default=str(OUTPUT_FOLDER),
        ),
    ] = None,
    refine: Annotated[
        int, typer.Option(help="Steps towards the photo; more is nearer and slower.")
    ] = ApplyConfig.refine,
    identity: Annotated[float, typer.Option(help="How much of the person is kept, 0 to 1.")] = ApplyConfig.identity,
    structure: Annotated[float, typer.Option(help="Strength of the style's shapes, 0 to 1.")] = ApplyConfig.structure,
    color: Annotated[float, typer.Option(help="Strength of the style's colours, 0 to 1.")] = ApplyConfig.color,
    size: Annotated[int, typer.Option(help="Width and height of the pictures, pixels.")] = ApplyConfig.size,
    face: Annotated[int, typer.Option(help="Which face, counted from 0, the largest.")] = ApplyConfig.face,
    pose: Annotated[str, typer.Option(help=f"Who estimates the head pose: {', '.join(POSES)}.")] = ApplyConfig.pose,
) -> None:
    """Turns photos into stylized 3D portraits."""
    config = ApplyConfig(
        style=style,
        refine=refine,
        identity=identity,
        structure=structure,
        color=color,
        size=size,
        face=face,
        pose=pose,
        seed=session.seed,
        device=session.device,
    )
    folders = plan_folders(photos, style, output)
    # Wrong settings and a missing style are reported before torch is imported.
    if style != "none":
        from agile3d_cli.registry import find_file

        find_file(style, "style")

    from agile3d_cli.avatar.pipeline import make_avatar

    portraits: list[dict[str, Any]] = []
    failures: list[PhotoError] = []
    for photo, folder in zip(photos, folders, strict=True):
        try:
            portraits.append(_one(session, photo, folder, config, make_avatar))
        except PhotoError as error:
            failures.append(error)
            portraits.append(failed(photo, error))
            session.note(f"agile3d: {photo}: {error}")
    if failures and len(photos) == 1 and not session.as_json:
        raise failures[0]
    session.result({"style": style, "portraits": portraits}, describe(portraits))
    if failures:
        raise typer.Exit(failures[0].exit_code if len(photos) == 1 else PartialBatchError.exit_code)


def plan_folders(photos: list[Path], style: str, output: Path | None) -> list[Path]:
    """The folder of each photo's portrait; photos of one name get numbered ones, so none overwrites another."""
    if output is not None and len(photos) == 1:
        return [output]
    label = Path(style).stem if style.endswith(".safetensors") else style
    parent = output if output is not None else OUTPUT_FOLDER
    folders: list[Path] = []
    for photo in photos:
        name = re.sub(r"[^\w.-]+", "_", f"{photo.stem}-{label}") or "portrait"
        folder, number = parent / name, 2
        while folder in folders:
            folder, number = parent / f"{name}-{number}", number + 1
        folders.append(folder)
    return folders


def _one(session: Session, photo: Path, folder: Path, config: ApplyConfig, work: Work) -> dict[str, Any]:
    with session.progress(photo.name) as progress:
        result = work(photo, folder, config, progress)
    for sentence in result.notes:
        session.note(f"{photo.name}: {sentence}")
    return {
        "photo": str(photo),
        "status": "ok",
        "error": None,
        **{key: value for key, value in plain(result).items() if key != "photo"},
    }


def failed(photo: Path, error: PhotoError) -> dict[str, Any]:
    """The entry of a photo that could not be used, with the same keys as one that could."""
    empty: dict[str, Any] = {"portrait": None, "front": None, "views": [], "turntable": None, "report": None}
    facts = {"error": str(error), "kind": type(error).__name__, "exit_code": error.exit_code}
    return {"photo": str(photo), "status": "failed", **facts, **empty, "camera": None, "scores": {}, "seconds": {}}


def describe(portraits: list[dict[str, Any]]) -> str:
    """For people: one line a file."""
    lines = [
        f"{key}: {', '.join(value) if isinstance(value, list) else value}"
        for entry in portraits
        if entry["status"] == "ok"
        for key, value in entry.items()
        if key in ("portrait", "front", "views", "turntable", "report") and value
    ]
    return "\n".join(lines)
