"""The drawn face laid over its surroundings, without a seam.

In: the surroundings, the face in the layout, the landmarks where it shall lie. Out: the finished picture.
"""

from __future__ import annotations

import numpy as np

from agile3d_linear.layout import Layout
from agile3d_linear.mesh import cover, with_ring
from agile3d_linear.picture import blur, fill, resize, sample

DRAWN = 512
"""Faces are drawn at least this large and then made smaller, so that edges are smooth."""


def lay_face(base: np.ndarray, bare: np.ndarray, face: np.ndarray, target: np.ndarray, layout: Layout) -> np.ndarray:
    """Lays a face over a picture.

    Args:
        base: (S, S, 3) surroundings in [0, 1].
        bare: (S, S, 1) where they show skin, in [0, 1].
        face: (T, T, 4) colours and cover in the layout.
        target: (468, 3) where its landmarks shall lie, fractions of the picture.
        layout: the frame of ``face``.
    """
    size = len(base)
    drawn = size * max(1, -(-DRAWN // size))
    mesh = cover(with_ring(target), drawn)
    over = sample(face, mesh.spread(layout.points[:, :2]), "bilinear")
    over[..., 3:] *= mesh.mask[..., None]
    over[..., :3] *= over[..., 3:]
    over = resize(over, size)
    color, alpha = over[..., :3], over[..., 3:]
    base = np.clip(base + bare * _carried_on(color - alpha * base, alpha, bare), 0, 1)
    return np.clip(base * (1 - alpha) + color, 0, 1)


def _carried_on(difference: np.ndarray, alpha: np.ndarray, bare: np.ndarray) -> np.ndarray:
    """What the face adds to bare skin at its rim, continued outwards: (S, S, 3), fading with the distance.

    Args:
        difference: (S, S, 3) face minus surroundings, times the face's cover.
        alpha: (S, S, 1) the face's cover.
        bare: (S, S, 1) where the surroundings show skin.
    """
    size = len(alpha)
    small = size // max(1, size // 128)
    rim = 4 * alpha * (1 - alpha) * bare
    both = resize(np.concatenate([difference / np.maximum(alpha, 0.05), rim, alpha], -1), small)
    known = np.clip(both[..., 3], 0, 1)
    carried = fill(both[..., :3], known, 0.02 * small)
    fading = np.clip(blur(both[..., 4], 0.10 * small) * 2.2, 0, 1)[..., None]
    return resize(blur(carried, 0.02 * small) * fading, size)
