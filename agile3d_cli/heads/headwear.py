"""Knit caps and headscarves: shells pushed out from the skin, and which hair they hide.

Regions are given on the mean head, so they ride with every subject's skin.
"""

from __future__ import annotations

import numpy as np

BRIM, BRIM_SLOPE = 0.235, 0.42
"""Height of a cap's edge over the forehead, and how fast it falls towards the back, world units."""
CAP_OUT, SCARF_OUT = 0.034, 0.03
"""Distance of the shells from the skin."""
EDGE_OUT = 0.009
"""The same at the edge."""
TEMPLES = (0.17, 0.24)
"""Heights between which the head's width is measured that a scarf spans the ears with."""
HIDDEN = 0.02
"""Skin this deep under a scarf's edge is not there, so that ears do not look through it."""
FACE_OVAL = (0.165, 0.245, 0.015)
"""Half-width, half-height and middle height of the opening of a scarf."""


def depth_under(kind: str, mean: np.ndarray) -> np.ndarray:
    """How far each point (V, 3) of the mean head lies inside the covered region, world units; negative outside."""
    x, y, z = mean.T
    if kind == "beanie":
        return y - BRIM + BRIM_SLOPE * np.clip(0.22 - z, 0, 0.45)
    width, height, middle = FACE_OVAL
    oval = np.hypot(x / width, (y - middle) / height) - 1
    behind = np.clip(0.06 - z, 0, None) * 4
    return np.minimum(np.maximum(0.2 * oval, 0.2 * np.minimum(behind, 1) - 0.02), y + 0.40)


def shell(
    kind: str, base: np.ndarray, normals: np.ndarray, mean: np.ndarray, faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) of the shell over a subject's skin, and (V,) its depth under the edge.

    The edge runs where the depth is 0, through the middle of triangles.

    Args:
        kind: "beanie" or "scarf".
        base: (V, 3) the subject's skin.
        normals: (V, 3) its normals.
        mean: (V, 3) the mean head.
        faces: (F, 3) triangles of the skin.
    """
    depth = depth_under(kind, mean)
    out = CAP_OUT if kind == "beanie" else SCARF_OUT
    t = np.clip(depth / 0.05, 0, 1)
    fold = 1 + (0.12 * np.sin(55 * mean[:, 1] + 25 * mean[:, 0]) if kind == "scarf" else 0.0)
    distance = EDGE_OUT + (out - EDGE_OUT) * t * t * (3 - 2 * t) * fold
    vertices = base + distance[:, None] * normals
    if kind == "scarf":
        low, high = TEMPLES
        width = np.abs(base[(mean[:, 1] > low) & (mean[:, 1] < high), 0]).max() + out
        ears = np.exp(-((mean[:, 1] / 0.16) ** 2)) * (np.abs(mean[:, 0]) > 0.1)
        level = np.clip(vertices[:, 0], -width, width)
        vertices[:, 0] += np.clip(2 * ears, 0, 1) * (level - vertices[:, 0])
    return vertices, faces[(depth[faces] > 0).any(1)], depth
