"""Landmarks to the latent of shape and back: the sitter's own deviation from the average face, freed of the pose.

In: landmarks as fractions of a picture. Out: where they lie in the style, in the same pose. Follows AgileGAN's scheme
(Song et al., 2021) with a linear model in place of a network: style = average + shift of the style + own deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.outlines import INNER_MOUTH, LEFT_EYE, MOUTH
from agile3d_cli.face.template import face_template
from agile3d_linear.mesh import mirrored

TO_WORLD = np.array([1.0, -1.0, -1.0])
"""Picture axes (y down, z away) to world axes (y up, z towards the viewer)."""
FEATURES: tuple[tuple[tuple[int, ...], float], ...] = (
    (LEFT_EYE, 0.5),
    (mirrored(LEFT_EYE), 0.5),
    (MOUTH + INNER_MOUTH, 0.6),
)
"""Parts that the style draws its own way, and how much of their individual form (beyond place, size and turn) stays."""
SIZES = (-0.16, 0.16)
"""Features grow and shrink with the sitter's at most this much."""
REACH = 0.12
"""How far around a feature its form counts, in eye distances."""


@dataclass(frozen=True)
class Pose:
    """Similarity from the standard face's frame to a picture's landmarks (in world axes)."""

    scale: float
    rotation: np.ndarray
    """(3, 3)."""
    shift: np.ndarray
    """(3,)."""

    def place(self, points: np.ndarray) -> np.ndarray:
        """Standard frame (P, 3) to picture landmarks (P, 3): u right, v down, z."""
        return (self.scale * points @ self.rotation.T + self.shift) * TO_WORLD

    def lift(self, landmarks: np.ndarray) -> np.ndarray:
        """Picture landmarks (P, 3) to the standard frame."""
        return (landmarks * TO_WORLD - self.shift) @ self.rotation / self.scale


@cache
def reference() -> np.ndarray:
    """(468, 3) the standard face: origin between the eyes, eye centres 1 apart, world axes."""
    points = face_template().points
    left, right = five_of(points)[:2]
    return (points - (left + right) / 2) / np.linalg.norm(right - left)


def find_pose(landmarks: np.ndarray) -> Pose:
    """The pose of a face (468, 3): weighted least squares to the standard face."""
    source, target = reference(), landmarks * TO_WORLD
    weight = face_template().weights / face_template().weights.sum()
    mean_source, mean_target = weight @ source, weight @ target
    source, target = source - mean_source, target - mean_target
    u, spread, vt = np.linalg.svd((source * weight[:, None]).T @ target)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt)) or 1])
    rotation = vt.T @ np.diag(sign) @ u.T
    scale = float((spread * sign).sum() / (weight @ (source**2).sum(1)))
    scale = max(scale, 1e-3)
    return Pose(scale, rotation, mean_target - scale * rotation @ mean_source)


def freed(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (468, 3) of a picture in the standard frame, with pose and size taken out."""
    landmarks = np.asarray(landmarks, float)
    return find_pose(landmarks).lift(landmarks)


def symmetric(points: np.ndarray) -> np.ndarray:
    """The mean of points (468, 3) or displacements and their mirror image."""
    return (points + points[face_template().mirror] * [-1, 1, 1]) / 2


def robust_mean(shapes: np.ndarray) -> np.ndarray:
    """(N, 468, 3) to (468, 3): each shape weighs less the further it lies from the median."""
    middle = np.median(shapes, 0)
    distance = np.sqrt(((shapes - middle) ** 2).sum(2).mean(1))
    scale = np.median(distance) + 1e-9
    weight = 1 / (1 + (distance / (2 * scale)) ** 2)
    return np.einsum("n,npk->pk", weight / weight.sum(), shapes)


def calm_features(own: np.ndarray, average: np.ndarray) -> np.ndarray:
    """Takes out of a deviation (468, 3) most of what changes the form of eyes and mouth.

    A narrowed or closed eye would squeeze the style's eye; its place, size and tilt are what tells people apart.
    """
    calm = own.copy()
    for part, keep in FEATURES:
        index = list(part)
        rest = own[index] - _similar(average[index], own[index])
        distance = np.linalg.norm(average[:, None] - average[index][None], axis=2)
        weight = np.exp(-((distance / REACH) ** 2))
        reach = np.exp(-((np.minimum(distance.min(1), 10) / REACH) ** 2))
        local = weight @ rest / (weight.sum(1, keepdims=True) + 1e-9)
        local[index] = rest
        calm -= (1 - keep) * reach[:, None] * local
    return calm


def _similar(points: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The part of a displacement (P, 3) that is a similarity of the picture plane, plus the mean in depth."""
    source = (points - points.mean(0))[:, :2] @ [1, 1j]
    change = moved[:, :2] @ [1, 1j]
    factor = (change @ source.conj()) / ((abs(source) ** 2).sum() + 1e-12)
    factor = complex(np.clip(factor.real, *SIZES), factor.imag)
    plane = factor * source + change.mean()
    return np.stack([plane.real, plane.imag, np.full(len(points), moved[:, 2].mean())], -1)
