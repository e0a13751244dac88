"""The face mesh as a drawing surface: its triangles, its named parts, and how a picture is laid on it.

Convention: points are (P, 2) or (P, 3) with x right and y down; a third number is depth, smaller is nearer. Parts are
named as seen in the picture, so "left" is the picture's left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.spatial import Delaunay
from skimage.measure import points_in_poly

from agile3d_cli.face.outlines import LEFT_EYE, MOUTH
from agile3d_cli.face.template import face_template

OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Outline of the face mesh, clockwise from the top of the forehead."""
LEFT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
CHEEKS = (50, 205, 101, 36, 118, 117, 280, 425, 330, 266, 347, 346)
FOREHEAD = (151, 9, 108, 337, 69, 299)
RING = 1.22
"""The ring of extra points around the outline lies at this multiple of the outline's distance from the centre."""
POINTS = 468
"""Landmarks of the mesh; the extra ring comes after them."""


@cache
def mirrored(part: tuple[int, ...]) -> tuple[int, ...]:
    """The same part on the other side of the face."""
    return tuple(int(index) for index in face_template().mirror[list(part)])


PARTS = {
    "left_eye": LEFT_EYE,
    "right_eye": mirrored(LEFT_EYE),
    "left_brow": LEFT_BROW,
    "right_brow": mirrored(LEFT_BROW),
    "mouth": MOUTH,
}
"""The features in the order in which arrays hold them, and the mesh points around each."""


@cache
def triangles() -> np.ndarray:
    """(T, 3) indices into the mesh with its ring, all turning the same way when seen from the front."""
    flat = with_ring(face_template().points * [1, -1, -1])[:, :2]
    # Points between the lips would make slivers that an open mouth tears into teeth.
    used = np.flatnonzero(~_inside_lips(flat))
    found = used[Delaunay(flat[used]).simplices]
    found = found[np.abs(_area(flat[found])) > 1e-7]
    turned = _area(flat[found]) < 0
    found[turned] = found[turned][:, ::-1]
    return found[np.lexsort(found.T[::-1])]


def _inside_lips(flat: np.ndarray) -> np.ndarray:
    """(P,) bool: strictly within the outer edge of the lips."""
    lips = flat[list(MOUTH)]
    inside = points_in_poly(flat, lips)
    inside[list(MOUTH)] = False
    return np.asarray(inside)


def with_ring(points: np.ndarray) -> np.ndarray:
    """Landmarks (468, D) with the ring around the outline: (468 + 36, D)."""
    outline = points[list(OVAL)]
    middle = outline.mean(0)
    ring = middle + (outline - middle) * RING
    if points.shape[1] == 3:
        # The head curves away behind the outline.
        ring[:, 2] = outline[:, 2] + 0.5 * (RING - 1) * np.linalg.norm(outline[:, :2] - middle[:2], axis=1)
    return np.concatenate([points, ring])


def _area(corners: np.ndarray) -> np.ndarray:
    """Twice the signed area of triangles (T, 3, 2)."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


@dataclass(frozen=True)
class Cover:
    """Which triangle lies over each pixel, and where in it the pixel is."""

    corners: np.ndarray
    """(K, 3) mesh points of the triangle over each covered pixel."""
    shares: np.ndarray
    """(K, 3) weights of those points, they sum to 1."""
    pixels: np.ndarray
    """(K,) covered pixels, row-major."""
    size: int

    @property
    def mask(self) -> np.ndarray:
        """(size, size) bool: where the mesh lies."""
        mask = np.zeros(self.size**2, bool)
        mask[self.pixels] = True
        return mask.reshape(self.size, self.size)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Values (504, C) at the mesh points, linearly over the pixels: (size, size, C), zero outside."""
        result = np.zeros((self.size**2, values.shape[1]), np.float32)
        result[self.pixels] = np.einsum("pk,pkc->pc", self.shares, values[self.corners].astype(np.float32))
        return result.reshape(self.size, self.size, -1)


def cover(points: np.ndarray, size: int) -> Cover:
    """Lays the mesh over a picture. Triangles seen from behind are left out; of two over a pixel the nearer wins.

    Args:
        points: (504, 3) in fractions of the picture, see ``with_ring``.
        size: side of the picture, pixels.
    """
    faces = triangles()
    flat = points[:, :2] * size - 0.5
    area = _area(flat[faces])
    order = np.argsort(-points[faces][:, :, 2].mean(1), kind="stable")
    order = order[area[order] > 1e-6]
    faces, corners, area = faces[order], flat[faces[order]], area[order]
    low = np.clip(np.ceil(corners.min(1)), 0, size).astype(int)
    high = np.clip(np.floor(corners.max(1)) + 1, 0, size).astype(int)
    extent = np.maximum(high - low, 0)
    count = extent[:, 0] * extent[:, 1]
    which = np.repeat(np.arange(len(faces)), count)
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    width = extent[which, 0]
    x, y = low[which, 0] + place % width, low[which, 1] + place // width
    (ax, ay), (bx, by), (cx, cy) = (corners[which, k].T for k in range(3))
    share_b = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area[which]
    share_c = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area[which]
    shares = np.stack([1 - share_b - share_c, share_b, share_c], -1)
    inside = (shares >= -1e-9).all(1)
    which, shares, pixel = which[inside], shares[inside], (y * size + x)[inside]
    # Triangles are listed from far to near: the last entry of a pixel is the nearest.
    last = np.full(size**2, -1)
    np.maximum.at(last, pixel, np.arange(len(pixel)))
    chosen = last[last >= 0]
    return Cover(faces[which[chosen]], shares[chosen].astype(np.float32), np.flatnonzero(last >= 0), size)
