"""`agile3d pose`: camera, head angles and landmarks of photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agile3d_cli.avatar.config import POSES
from agile3d_cli.cli.session import Session
from agile3d_cli.errors import PartialBatchError, PhotoError
from agile3d_cli.face.config import FaceConfig


def pose(
    session: Session,
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTO...", help="Photos with a face.")],
    face: Annotated[int, typer.Option(min=0, help="Which face, counted from 0, the largest.")] = 0,
    pose: Annotated[str, typer.Option(help=f"Who finds the landmarks: {', '.join(POSES)}.")] = POSES[0],
    output: Annotated[Path | None, typer.Option(help="Folder for the aligned crops, STEM-crop.png.")] = None,
) -> None:
    """Shows from where each photo sees its face."""
    config = FaceConfig(estimator=pose)
    entries: list[dict[str, Any]] = []
    failures: list[PhotoError] = []
    for photo in photos:
        try:
            entries.append(_one(session, photo, face, output, config))
        except PhotoError as error:
            failures.append(error)
            entries.append({"photo": str(photo), "status": "failed", "error": str(error)})
            session.note(f"agile3d: {photo}: {error}")
    if failures and len(photos) == 1 and not session.as_json:
        raise failures[0]
    lines = [
        f"{entry['photo']}: yaw {entry['yaw_deg']:.1f}, pitch {entry['pitch_deg']:.1f}, roll {entry['roll_deg']:.1f}"
        for entry in entries
        if entry["status"] == "ok"
    ]
    session.result({"photos": entries}, "\n".join(lines))
    if failures:
        raise typer.Exit(failures[0].exit_code if len(photos) == 1 else PartialBatchError.exit_code)


def _one(session: Session, photo: Path, face: int, output: Path | None, config: FaceConfig) -> dict[str, Any]:
    from agile3d_cli.face.pipeline import load_face
    from agile3d_cli.image import save_png

    aligned, notes = load_face(photo, config, face)
    for sentence in notes:
        session.note(f"{photo.name}: {sentence}")
    crop = None if output is None else str(save_png(output / f"{photo.stem}-crop.png", aligned.image))
    return {
        "photo": str(photo),
        "status": "ok",
        "error": None,
        "label": [float(value) for value in aligned.label],
        "yaw_deg": aligned.yaw,
        "pitch_deg": aligned.pitch,
        "roll_deg": aligned.roll,
        "landmarks": [[round(float(value), 6) for value in point] for point in aligned.landmarks],
        "crop": crop,
        "notes": notes,
    }
