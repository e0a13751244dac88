"""Photo to face boxes: BlazeFace (back camera model), looked through at several scales until something is found.

In: a photo. Out: boxes with six key points. Source: Bazarevsky et al., BlazeFace, 2019 (anchors, blended suppression).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.networks import run_network
from agile3d_cli.face.warp import scale, similarity, to_photo, warp

INPUT = 256
"""Side of the detector's input, pixels."""
CELLS = ((16, 2), (8, 6))
"""Cells per side and anchors per cell of the detector's two output grids."""


@dataclass(frozen=True)
class Detection:
    """One face that the detector found."""

    score: float
    """0 to 1."""
    centre: np.ndarray
    """(2,) photo pixels."""
    side: float
    """Side of the square box, photo pixels."""
    keypoints: np.ndarray
    """(6, 2) photo pixels: eye in the left half of an upright picture, other eye, nose, mouth, ear, ear."""

    @property
    def roll(self) -> float:
        """Angle of the line through the eyes, radians, clockwise."""
        along = self.keypoints[1] - self.keypoints[0]
        return math.atan2(along[1], along[0])


def detect_faces(photo: np.ndarray, config: FaceConfig) -> Iterator[list[Detection]]:
    """Attempts to find faces in a photo (H, W, 3) uint8: lists of candidates, surest way first.

    The whole photo is looked at first; it is enough for almost every photo. Then from further away (a face that fills
    the picture), in overlapping tiles (small faces), and turned on its sides (a photo that lost its orientation). The
    caller takes the first list in which the landmark model agrees.
    """
    for group in _windows(*photo.shape[:2]):
        found = [detection for matrix in group for detection in _look(photo, matrix, config)]
        if found:
            yield _merge(found, config.overlap)


def _windows(height: int, width: int) -> Iterator[list[np.ndarray]]:
    centre, side = np.array([width / 2, height / 2]), float(max(height, width))
    yield [similarity(centre, side)]
    yield [similarity(centre, side * 2)]
    yield _tiles(height, width, 0.6 * side)
    if side > 4 * INPUT:
        yield _tiles(height, width, 0.25 * side)
    yield [similarity(centre, side, angle) for angle in (math.pi / 2, -math.pi / 2, math.pi)]


def _tiles(height: int, width: int, side: float) -> list[np.ndarray]:
    """Squares of the given side that cover the photo and overlap by at least a third."""
    places = []
    for extent in (width, height):
        count = max(1, math.ceil((extent - side) / (side * 2 / 3)) + 1)
        low = min(side / 2, extent / 2)
        places.append(np.linspace(low, extent - low, count))
    return [similarity(np.array([x, y]), side) for y in places[1] for x in places[0]]


def _look(photo: np.ndarray, matrix: np.ndarray, config: FaceConfig) -> list[Detection]:
    picture = warp(photo, matrix, INPUT, outside="zeros").numpy()[None] / 127.5 - 1
    raw, logits = run_network("face_detection_back", picture.astype(np.float32), config.threads)
    scores = 1 / (1 + np.exp(-np.clip(logits[0, :, 0], -80, 80)))
    keep = scores > config.detection_threshold
    # Each row: box centre, box size, six key points; as pixels relative to the anchor.
    boxes = raw[0, keep].reshape(-1, 8, 2).astype(np.float64) / INPUT
    boxes[:, [0, 2, 3, 4, 5, 6, 7]] += _anchors()[keep, None]  # all but the size
    window = scale(matrix)
    return [
        Detection(
            float(score),
            to_photo(matrix, box[:1])[0],
            float(box[1].max()) * window,
            to_photo(matrix, box[2:]),
        )
        for score, box in zip(scores[keep], boxes, strict=True)
    ]


@cache
def _anchors() -> np.ndarray:
    rows = []
    for cells, count in CELLS:
        v, u = np.mgrid[:cells, :cells]
        centres = np.stack([u, v], -1).reshape(-1, 2)
        rows.append(np.repeat((centres + 0.5) / cells, count, axis=0))
    return np.concatenate(rows)


def _merge(found: list[Detection], overlap: float) -> list[Detection]:
    """Averages the boxes of each face, weighted by score."""
    rest = sorted(found, key=lambda detection: -detection.score)
    merged = []
    while rest:
        same = [other for other in rest if _intersection_over_union(rest[0], other) > overlap]
        weights = np.array([other.score for other in same])
        weights /= weights.sum()
        merged.append(
            Detection(
                rest[0].score,
                np.einsum("n,nk->k", weights, np.stack([other.centre for other in same])),
                float(weights @ [other.side for other in same]),
                np.einsum("n,npk->pk", weights, np.stack([other.keypoints for other in same])),
            )
        )
        rest = [other for other in rest[1:] if not any(other is one for one in same)]
    return merged


def _intersection_over_union(a: Detection, b: Detection) -> float:
    low = np.maximum(a.centre - a.side / 2, b.centre - b.side / 2)
    high = np.minimum(a.centre + a.side / 2, b.centre + b.side / 2)
    common = float(np.prod(np.clip(high - low, 0, None)))
    return common / (a.side**2 + b.side**2 - common)
