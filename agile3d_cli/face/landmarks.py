"""Photo to landmarks: the 468-point face mesh of each face, found again from its own first answer.

In: a photo. Out: landmarks in photo pixels. Source: Kartynnik et al., Real-time facial surface geometry from monocular
video on mobile GPUs, 2019. Beyond it: the last pass averages the picture and its mirror image, so that a mirrored
photo has exactly mirrored landmarks up to the crop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.detect import Detection, detect_faces
from agile3d_cli.face.networks import run_network
from agile3d_cli.face.template import face_template
from agile3d_cli.face.warp import similarity, to_photo, warp

INPUT = 192
"""Side of the mesh network's input, pixels."""
MARGIN = 1.5
"""Side of the network's crop over that of the face's box."""
EYES = ((33, 133), (362, 263))
"""Outer and inner corner of the eye on the picture's left, then of the other."""
NOSE = (1, 4)
"""The tip and the point below it."""
MOUTH = (61, 291)
"""Corners of the mouth, the one on the picture's left first."""


@dataclass(frozen=True)
class Landmarks:
    """One face's landmarks in the photo they were found in."""

    points: np.ndarray
    """(468, 3) float32, or (5, 3) from an estimator without a mesh: x right, y down in continuous pixels, z in the same
    unit (smaller is nearer; zero where the estimator has none)."""
    presence: float
    """Certainty that this is a face, 0 to 1."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom of the points, pixels."""

    @property
    def five(self) -> np.ndarray:
        """(5, 3): eye, eye, nose tip, mouth corner, mouth corner; see ``five_of``."""
        return five_of(self.points)


def five_of(points: np.ndarray) -> np.ndarray:
    """The five alignment points (5, D) out of 468 or 5 landmarks: eye centres, nose tip, mouth corners."""
    if len(points) == 5:
        return points
    eyes = [points[list(corners)].mean(0) for corners in EYES]
    return np.stack([*eyes, points[list(NOSE)].mean(0), points[MOUTH[0]], points[MOUTH[1]]])


def make_landmarks(points: np.ndarray, presence: float) -> Landmarks:
    """Landmarks with their box."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    return Landmarks(points.astype(np.float32), presence, box)


def mesh_landmarks(photo: np.ndarray, config: FaceConfig) -> list[Landmarks]:
    """The 468-point landmarks of every face in a photo (H, W, 3) uint8, largest first."""
    for candidates in detect_faces(photo, config):
        faces = [_refine(photo, candidate, config) for candidate in candidates]
        faces = [face for face in faces if face.presence >= config.presence_threshold]
        if faces:
            return _distinct(sorted(faces, key=lambda face: -_area(face)))
    return []


def _refine(photo: np.ndarray, detection: Detection, config: FaceConfig) -> Landmarks:
    window = similarity(detection.centre, detection.side * MARGIN, detection.roll)
    for _ in range(config.mesh_passes - 1):
        points, _ = _mesh(photo, window, config)
        window = _window(points)
    return make_landmarks(*_mesh(photo, window, config, mirrored=True))


def _mesh(
    photo: np.ndarray, window: np.ndarray, config: FaceConfig, mirrored: bool = False
) -> tuple[np.ndarray, float]:
    """Points (468, 3) in photo pixels and presence, optionally averaged with those of the mirrored crop."""
    picture = (warp(photo, window, INPUT).numpy()[None] / 255).astype(np.float32)
    points, presence = _decode(picture, config)
    if mirrored:
        other, other_presence = _decode(np.ascontiguousarray(picture[..., ::-1]), config)
        other = other[face_template().mirror] * [-1, 1, 1] + [1, 0, 0]
        points, presence = (points + other) / 2, (presence + other_presence) / 2
    return to_photo(window, points), presence


def _decode(picture: np.ndarray, config: FaceConfig) -> tuple[np.ndarray, float]:
    raw, logit = run_network("face_landmark", picture, config.threads)
    return raw.reshape(468, 3).astype(np.float64) / INPUT, 1 / (1 + math.exp(-float(logit.item())))


def _window(points: np.ndarray) -> np.ndarray:
    """The network's crop for known landmarks: level eyes, box of the points in that turned frame."""
    five = five_of(points)
    along = five[1] - five[0]
    angle = math.atan2(along[1], along[0])
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    level = points[:, :2] @ turn
    low, high = level.min(0), level.max(0)
    return similarity(turn @ ((low + high) / 2), float((high - low).max()) * MARGIN, angle)


def _distinct(faces: list[Landmarks]) -> list[Landmarks]:
    """Drops faces whose middle lies in an earlier one: two boxes that led to the same landmarks."""
    kept: list[Landmarks] = []
    for face in faces:
        x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
        if not any(other.box[0] < x < other.box[2] and other.box[1] < y < other.box[3] for other in kept):
            kept.append(face)
    return kept


def _area(face: Landmarks) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)
