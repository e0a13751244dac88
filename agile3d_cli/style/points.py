"""Five points that the user gives for pictures in which no detector finds the face: the file ``points.json``.

It lies among the exemplars and holds one table, file name -> five places in pixels of the upright picture: left eye,
right eye, nose tip, left and right corner of the mouth, as one sees them in the picture. Pixel centres lie at i + 0.5:

    {"03.png": [[201, 240], [310, 238], [256, 300], [215, 355], [300, 354]]}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agile3d_cli.errors import RefusedError
from agile3d_cli.face.landmarks import Landmarks, make_landmarks

POINTS = "points.json"
NAMES = ("left eye", "right eye", "nose tip", "left corner of the mouth", "right corner of the mouth")
MAX_BYTES = 4 << 20
"""Larger files are no lists of points."""
GIVEN = 1.0
"""Certainty of a face that the user points at."""


def read_points(folder: Path) -> dict[str, np.ndarray]:
    """Points (5, 2) by file name; empty where the folder has no ``points.json``.

    Raises:
        RefusedError: the file is not what it should be; the message names the entry.
    """
    path = folder / POINTS
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_BYTES:
        raise RefusedError(f"{path} has {path.stat().st_size:,} bytes; a list of points may have {MAX_BYTES:,}.")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not JSON ({error}); mend it or take it away.") from error
    if not isinstance(table, dict):
        raise RefusedError(f'{path} is not a table; write {{"file.png": [[x, y], ... five of them]}}.')
    return {name: _five(path, name, value) for name, value in table.items()}


def _five(path: Path, name: str, value: Any) -> np.ndarray:
    pairs = value if isinstance(value, list) else []
    if len(pairs) != len(NAMES) or not all(isinstance(p, list) and len(p) == 2 and all(map(_number, p)) for p in pairs):
        raise RefusedError(f"{path}: {name!r} needs five pairs [x, y] of numbers in pixels: {', '.join(NAMES)}.")
    points = np.array(pairs, dtype=np.float64)
    if points[0, 0] >= points[1, 0] and points[3, 0] >= points[4, 0]:
        raise RefusedError(f"{path}: left and right of {name!r} are exchanged; left is what lies left in the picture.")
    return points


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def face_of(name: str, points: Mapping[str, np.ndarray], size: tuple[int, int], folder: Path) -> Landmarks | None:
    """The face that the user points at in a picture of the given width and height, else None.

    Raises:
        RefusedError: a point lies outside the picture.
    """
    if name not in points:
        return None
    five = points[name]
    for what, (x, y) in zip(NAMES, five, strict=True):
        if not (0 <= x <= size[0] and 0 <= y <= size[1]):
            raise RefusedError(
                f"{folder / POINTS}: the {what} of {name!r} lies at {x:g}, {y:g}, outside the picture of "
                f"{size[0]} x {size[1]} pixels; give places in its own pixels."
            )
    if np.linalg.norm(five[0] - five[1]) < 1 or np.linalg.norm(five[:2].mean(0) - five[3:].mean(0)) < 1:
        raise RefusedError(f"{folder / POINTS}: the points of {name!r} lie on each other; give five places of a face.")
    return make_landmarks(np.column_stack([five, np.zeros(len(five))]), GIVEN)
