"""Landmarks to camera: the standard portrait camera and the place of its picture in the photo, solved together.

In: landmarks in photo pixels. Out: yaw, pitch and the similarity from crop to photo.
A general camera with known focal length has six numbers: three of rotation, three of place. EG3D's labels fix three of
them by the crop (no roll, pivot in the picture's centre, distance ``RADIUS``), which turns them into the crop's turn,
place and scale. So the six unknowns here are yaw, pitch and the four of a similarity, and the label is
``portrait_label(yaw, pitch)`` exactly, with no residual scale or shift left over. Where the real photo was taken from
nearer or further than ``RADIUS``, its perspective differs from the crop camera's; that difference stays in ``error``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agile3d_cli.camera import look_at, make_label, portrait_label, project
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.template import face_template
from agile3d_cli.face.warp import fit_similarity, scale, to_photo

ROUNDS = 30
"""Most Gauss-Newton steps."""
SOFT = 0.01
"""Misses above this count less than their square, crop fractions."""
ANGLE_PRIOR = 0.003
"""Pull of the angles towards the front, crop fractions per radian: decides only when five noisy points cannot."""
STEP = 1e-3
"""Step of the numeric derivative, radians."""


@dataclass(frozen=True)
class Pose:
    """Where the standard camera stands and which square of the photo is its picture."""

    yaw: float
    """Azimuth of the camera's position, radians; the argument of ``portrait_label``."""
    pitch: float
    """Elevation of the camera's position, radians."""
    crop: np.ndarray
    """(2, 3) similarity from crop fractions to photo pixels."""
    error: float
    """Weighted root mean square distance between landmarks and projected template, crop fractions."""

    @property
    def label(self) -> torch.Tensor:
        """(25,) camera label of the crop."""
        return portrait_label(self.yaw, self.pitch)


def solve_pose(points: np.ndarray, name: str = "standard") -> Pose:
    """Pose of a face from its landmarks, by robust Gauss-Newton on their distances to the projected template.

    Args:
        points: (468, 2 or 3) or (5, 2 or 3) in photo pixels.
        name: which template; see ``FaceConfig.template``.
    """
    template, weights = _template(len(points), name)
    angles = _first_guess(points, template)
    size = scale(_crop(angles, points, template, weights))
    robust = weights
    for _ in range(ROUNDS):
        # The similarity is linear given the angles, so it is solved exactly inside each step (variable projection).
        miss = _miss(angles, points, template, robust) / size
        slope = np.stack(
            [
                (_miss(angles + step, points, template, robust) - _miss(angles - step, points, template, robust))
                / (2 * STEP * size)
                for step in STEP * np.eye(2)
            ],
            -1,
        )
        rows = np.sqrt(robust)[:, None, None] * slope
        matrix = np.einsum("pki,pkj->ij", rows, rows) + ANGLE_PRIOR**2 * np.eye(2)
        gradient = np.einsum("pki,pk->i", rows, np.sqrt(robust)[:, None] * miss) + ANGLE_PRIOR**2 * angles
        change = -np.linalg.solve(matrix, gradient)
        angles = np.clip(angles + np.clip(change, -0.3, 0.3), -1.4, 1.4)
        robust = weights / np.sqrt(1 + (np.linalg.norm(miss, axis=1) / SOFT) ** 2)
        if np.abs(change).max() < 1e-6:
            break
    crop = _crop(angles, points, template, robust)
    miss = _miss(angles, points, template, robust) / scale(crop)
    error = float(np.sqrt((weights @ (miss**2).sum(1)) / weights.sum()))
    return Pose(float(angles[0]), float(angles[1]), crop, error)


def _template(count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    template = face_template(name)
    if count == 5:
        return five_of(template.points), np.ones(5)
    return template.points, template.weights


def _first_guess(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Yaw and pitch of the rotation that takes the template closest to the landmarks with their z."""
    if points.shape[1] < 3 or len(points) == 5:
        return np.zeros(2)
    flip = np.diag([1.0, -1.0, -1.0])
    source = (template - template.mean(0)) @ flip
    target = points - points.mean(0)
    u, _, vt = np.linalg.svd(source.T @ target)
    rotation = vt.T @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ u.T
    back = -(rotation @ flip)[2]
    return np.clip([np.arctan2(back[0], back[2]), np.arcsin(np.clip(back[1], -1, 1))], -1.2, 1.2)


def _project(angles: np.ndarray, template: np.ndarray) -> np.ndarray:
    label = make_label(look_at(float(angles[0]), float(angles[1]))).double()
    return project(label[None], torch.from_numpy(template)[None])[0, :, :2].numpy()


def _crop(angles: np.ndarray, points: np.ndarray, template: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return fit_similarity(_project(angles, template), points[:, :2].astype(float), weights)


def _miss(angles: np.ndarray, points: np.ndarray, template: np.ndarray, weights: np.ndarray) -> np.ndarray:
    seen = _project(angles, template)
    return to_photo(fit_similarity(seen, points[:, :2].astype(float), weights), seen) - points[:, :2]
