"""Landmarks of faces and what a style does to them: the mean exemplar's proportions against realistic faces'.

In: pictures. Out: where the landmarks of a face lie when it takes on the style's proportions, in its own pose. Both
sides are measured by the same detector, whose habits then cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from torch import Tensor

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.template import face_template
from agile3d_cli.image import to_array
from agile3d_diffusion.detail import resized

SEEN = 256
"""Least width in which faces are looked for, pixels."""
LOOKS = (128, 192, 256, 384)
"""Widths to which drawings are brought before faces are looked for: the detector sees one in this and one in that."""
DRAWN = FaceConfig(threads=1, matte=False, detection_threshold=0.2, presence_threshold=0.5)
"""For exemplars, which are known to show a face."""
REAL = FaceConfig(threads=1, matte=False)
TO_WORLD = np.array([1.0, -1.0, -1.0])
"""Picture axes (y down, z away) to world axes (y up, z towards the viewer)."""


def landmarks_of(picture: Tensor) -> np.ndarray | None:
    """(468, 3) landmarks of the largest face in a picture (3, S, S), fractions of it; None without one."""
    found = _found(picture, max(SEEN, picture.shape[-1]), REAL)
    return found[1] if found else None


def drawn_landmarks(exemplars: Sequence[Tensor]) -> np.ndarray | None:
    """(E, 468, 3) landmarks of aligned exemplars; who is not found gets the usual ones. None if nobody is found."""
    looked = [[face for size in LOOKS if (face := _found(one, size, DRAWN))] for one in exemplars]
    best = [max(faces, key=_certainty, default=None) for faces in looked]
    found = [one[1] for one in best if one]
    if not found:
        return None
    usual = np.median(found, 0)
    return np.stack([one[1] if one else usual for one in best])


def _found(picture: Tensor, size: int, config: FaceConfig) -> tuple[float, np.ndarray] | None:
    """Certainty and landmarks of the largest face at a size."""
    seen = resized(resized(picture[None].float().cpu(), size), max(size, SEEN)).clamp(-1, 1)[0]
    faces = find_faces(to_array(seen), config)
    return (faces[0].presence, faces[0].points.astype(float) / seen.shape[-1]) if faces else None


def _certainty(found: tuple[float, np.ndarray]) -> float:
    return found[0]


@cache
def standard_face() -> np.ndarray:
    """(468, 3) the average face: origin between the eyes, eye centres 1 apart, world axes."""
    points = face_template().points
    left, right = five_of(points)[:2]
    return np.asarray((points - (left + right) / 2) / np.linalg.norm(right - left))


@dataclass(frozen=True)
class Pose:
    """Similarity from the standard face's frame to a picture."""

    scale: float
    turn: np.ndarray
    """(3, 3)."""
    shift: np.ndarray
    """(3,)."""

    def place(self, points: np.ndarray) -> np.ndarray:
        """Standard frame (P, 3) to the picture."""
        return np.asarray((self.scale * points @ self.turn.T + self.shift) * TO_WORLD)

    def lift(self, landmarks: np.ndarray) -> np.ndarray:
        """The inverse of ``place``."""
        return np.asarray((landmarks * TO_WORLD - self.shift) @ self.turn / self.scale)


def pose_of(landmarks: np.ndarray) -> Pose:
    """The pose of a face (468, 3): weighted least squares to the standard face (Kabsch, 1976)."""
    weights = face_template().weights / face_template().weights.sum()
    source, target = standard_face(), landmarks * TO_WORLD
    middle, centre = weights @ source, weights @ target
    source, target = source - middle, target - centre
    u, spread, vt = np.linalg.svd((source * weights[:, None]).T @ target)
    signs = np.array([1, 1, np.sign(np.linalg.det(u @ vt)) or 1])
    turn = vt.T @ np.diag(signs) @ u.T
    scale = max(float((spread * signs).sum() / (weights @ (source**2).sum(1))), 1e-3)
    return Pose(scale, turn, centre - scale * turn @ middle)


def shift_between(real: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """(468, 3) what the style does to landmarks: from realistic faces (N, 468, 3) to exemplars (E, 468, 3).

    In eye distances, standard frame, the same on both sides of the face; medians, so that a misread face counts little.
    """
    moved = _usual(drawn) - _usual(real)
    return np.asarray((moved + moved[face_template().mirror] * [-1, 1, 1]) / 2)


def _usual(faces: np.ndarray) -> np.ndarray:
    return np.asarray(np.median([pose_of(face).lift(face) for face in faces], 0))


def in_style(landmarks: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Landmarks (468, 3) of a face with the style's proportions, in the same pose."""
    pose = pose_of(landmarks)
    return pose.place(pose.lift(landmarks) + shift)
