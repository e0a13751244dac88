"""Pictures with cameras in the layout that EG3D's tools read: a folder of PNGs and a ``dataset.json`` beside them.

    {"labels": [["00000/img00000000.png", [25 numbers]], ...]}

The 25 numbers are our labels, see ``camera.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError, UsageError
from agile3d_cli.image import save_png, write_whole

LABELS = "dataset.json"
FOLDER = 1000
"""Pictures a subfolder."""
OURS = f"{'[0-9]' * 5}/img{'[0-9]' * 8}.png"
"""Names that are given here."""


def read_layout(folder: Path) -> list[tuple[Path, Tensor]] | None:
    """Pictures and their labels (25,), in the order of the file; None where the folder has no ``dataset.json``.

    Raises:
        RefusedError: the file is not what it should be, or names a file that is not there or lies elsewhere.
    """
    path = folder / LABELS
    if not path.is_file():
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not JSON ({error}); mend it or take it away.") from error
    rows = table.get("labels") if isinstance(table, dict) else None
    if not isinstance(rows, list) or not rows:
        raise RefusedError(f'{path} has no labels; it should be {{"labels": [["file.png", [25 numbers]], ...]}}.')
    return [_row(folder, path, row) for row in rows]


def _row(folder: Path, path: Path, row: Any) -> tuple[Path, Tensor]:
    if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and _label(row[1])):
        raise RefusedError(f"{path}: the entry {str(row)[:60]} is not [file, [25 numbers]].")
    name = PurePosixPath(row[0])
    picture = folder.joinpath(*name.parts)
    if name.is_absolute() or ".." in name.parts or "\\" in row[0] or not picture.is_file():
        raise RefusedError(f"{path} names {row[0]!r}, which is no file inside {folder}.")
    return picture, torch.tensor(row[1], dtype=torch.float32)


def _label(numbers: Any) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) == 25
        and all(type(value) in (int, float) and math.isfinite(value) for value in numbers)
    )


def check_place(folder: Path) -> None:
    """Whether ``write_layout`` may write there: a new or empty folder, or one that it wrote before.

    Raises:
        UsageError: it holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; give a folder for the dataset.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LABELS).is_file():
        raise UsageError(f"{folder} is not empty and no dataset of this kind; give a new folder.")


def write_layout(folder: Path, rows: Iterable[tuple[Tensor, Tensor]]) -> int:
    """Writes pictures (3, S, S) in [-1, 1] with labels (25,), one at a time; returns their number.

    ``dataset.json`` is empty until all are there. Pictures of an earlier, longer dataset are removed then.
    """
    check_place(folder)
    _write_labels(folder, [])
    labels: list[list[Any]] = []
    for number, (image, label) in enumerate(rows):
        name = f"{number // FOLDER:05d}/img{number:08d}.png"
        save_png(folder / name, image)
        # The shortest decimals that give the same 32 bits back.
        labels.append([name, [float(str(value)) for value in label.float().cpu().numpy()]])
    _write_labels(folder, labels)
    written = {name for name, _ in labels}
    for old in folder.glob(OURS):
        if old.relative_to(folder).as_posix() not in written:
            old.unlink()
    return len(labels)


def _write_labels(folder: Path, labels: list[list[Any]]) -> None:
    data = (json.dumps({"labels": labels}) + "\n").encode()
    write_whole(folder / LABELS, lambda stream: stream.write(data))
