"""The layout: the style's average face seen from the front, in which all its pictures are compared and blended.

A layout picture is a square (T, T); ``HALF_WIDTH`` eye distances lie on each side of its centre, which lies
``CENTRE_DOWN`` eye distances below the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from skimage.draw import polygon2mask

from agile3d_cli.face.outlines import MOUTH
from agile3d_linear.mesh import CHEEKS, OVAL, PARTS, Cover, cover, with_ring
from agile3d_linear.picture import ramp, sample
from agile3d_linear.shape import TO_WORLD

AROUND, CLOSE = 0.13, 0.06
"""How far from its mesh points a feature may reach, and eyes and mouths whose edges they lie at; eye distances."""
HALF_WIDTH = 1.55
CENTRE_DOWN = 0.42
JAW_SIDE, UNDER_NOSE = 132, 2
"""Mesh points: the outline beside the mouth, and the foot of the nose."""


def fractions(places: np.ndarray) -> np.ndarray:
    """Places (..., 2) of the standard frame in the layout picture, u right and v down."""
    return np.asarray((places * [1, -1] - [0, CENTRE_DOWN]) / (2 * HALF_WIDTH) + 0.5)


def standard(places: np.ndarray) -> np.ndarray:
    """The inverse of ``fractions``."""
    return np.asarray(((places - 0.5) * 2 * HALF_WIDTH + [0, CENTRE_DOWN]) * [1, -1])


@dataclass(frozen=True)
class Layout:
    """The frame in which faces of all poses and proportions lie upon each other."""

    shape: np.ndarray
    """(468, 3) the style's average face in the standard frame."""
    size: int
    """T, pixels."""
    around: float = AROUND
    """How far from their mesh points eyes and mouth are looked for, eye distances."""

    @cached_property
    def half(self) -> Layout:
        """The same frame at half the size: enough for measuring."""
        return Layout(self.shape, max(self.size // 2, 48), self.around)

    @cached_property
    def points(self) -> np.ndarray:
        """(504, 3) the mesh with its ring in the layout picture, fractions."""
        depth = (self.shape * TO_WORLD)[:, 2:] / (2 * HALF_WIDTH)
        return with_ring(np.concatenate([fractions(self.shape[:, :2]), depth], 1))

    @cached_property
    def places(self) -> np.ndarray:
        """(T, T, 2) where pixels lie in the standard frame."""
        axis = (np.arange(self.size) + 0.5) / self.size
        return standard(np.stack(np.meshgrid(axis, axis), -1))

    @cached_property
    def cover(self) -> Cover:
        """The mesh laid over the layout picture."""
        return cover(self.points, self.size)

    @cached_property
    def mask(self) -> np.ndarray:
        """(T, T) bool: where the mesh with its ring lies."""
        return self.cover.mask

    @cached_property
    def oval(self) -> np.ndarray:
        """(T, T) bool: inside the outline of the face mesh."""
        return self.region(OVAL)

    @cached_property
    def inwards(self) -> np.ndarray:
        """(T, T) distance from the outline, eye distances, positive inside the face."""
        inside = ndimage.distance_transform_edt(self.oval)
        outside = ndimage.distance_transform_edt(~self.oval)
        return ((inside - outside) * self.pixel).astype(np.float32)

    @property
    def pixel(self) -> float:
        """Width of a pixel in eye distances."""
        return 2 * HALF_WIDTH / self.size

    @cached_property
    def cheeks(self) -> np.ndarray:
        """(T, T) bool: where skin is measured: discs on the cheeks."""
        centres = self.points[list(CHEEKS), :2] * self.size
        v, u = np.mgrid[: self.size, : self.size] + 0.5
        distance = np.min([np.hypot(u - x, v - y) for x, y in centres], 0)
        return distance < 0.07 / self.pixel

    @cached_property
    def features(self) -> np.ndarray:
        """(5, T, T) bool: where each feature of ``PARTS`` is looked for; every pixel belongs to the nearest one."""
        distance = np.stack([ndimage.distance_transform_edt(~self.region(part)) for part in PARTS.values()])
        nearest = distance.argmin(0)
        reach = np.array([AROUND if name.endswith("brow") else self.around for name in PARTS])[:, None, None]
        return (distance * self.pixel < reach) & (nearest[None] == np.arange(len(PARTS))[:, None, None])

    @cached_property
    def from_mouth(self) -> np.ndarray:
        """(T, T) distance from the lips, eye distances."""
        return np.asarray(ndimage.distance_transform_edt(~self.region(MOUTH)) * self.pixel)

    @cached_property
    def beard(self) -> np.ndarray:
        """(T, T) in [0, 1]: where beards grow: chin, jaw below the corners of the mouth, upper lip."""
        points = self.points
        v, u = (np.mgrid[: self.size, : self.size] + 0.5) / self.size
        corner_u, corner_v = points[MOUTH[0], :2]
        side = np.clip((corner_u - np.minimum(u, 1 - u)) / (corner_u - points[JAW_SIDE, 0]), 0, 1.2)
        jaw = ramp(v - (corner_v - side * (corner_v - points[JAW_SIDE, 1])), -0.01, 0.03)
        nose = points[UNDER_NOSE, 1]
        lip = ramp(v - nose, -0.01, 0.02) * ramp(np.minimum(u, 1 - u) - corner_u, -0.02, 0.01)
        return np.maximum(jaw, lip) * self.oval * ramp(self.from_mouth, 0.015, 0.05)

    def region(self, part: tuple[int, ...]) -> np.ndarray:
        """(T, T) bool: the convex hull of mesh points."""
        from scipy.spatial import ConvexHull

        points = self.points[list(part), :2] * self.size - 0.5
        hull = points[ConvexHull(points).vertices]
        return np.asarray(polygon2mask((self.size, self.size), hull[:, ::-1]))

    def unwrap(self, picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """A face laid out: picture (S, S, 3) and its landmarks (468, 3) to (T, T, 3); outside the mesh the border."""
        places = self.cover.spread(with_ring(np.asarray(landmarks, float))[:, :2])
        return sample(picture, places)
