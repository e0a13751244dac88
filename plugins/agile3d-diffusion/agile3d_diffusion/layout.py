"""Pictures bent so that landmarks go where they are wanted, and the common layout in which every face lies alike.

Source: Bookstein, Principal warps: thin-plate splines and the decomposition of deformations, 1989.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import distance_transform_edt
from skimage.measure import points_in_poly
from skimage.morphology import convex_hull_image
from torch import Tensor

from agile3d_cli.face.template import face_template
from agile3d_diffusion.proportions import standard_face

LEFT_EYE = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_BROW = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
MOUTH = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
NOSE = (1, 2, 4, 98, 327)
CHEEKS = (50, 205, 101, 36, 118, 117, 280, 425, 330, 266, 347, 346)
CHIN = (175, 199, 200)
LIP = (164,)
"""Between nose and mouth, where moustaches grow."""
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
"""Outline of the face mesh."""
SIDE = 160
"""Width of the layout, pixels."""
MARGIN = 0.45
"""Around the features in the layout, eye distances."""
REACH, SOFT = 0.16, 0.2
"""How far around the hull of the features their surroundings belong to them, and how softly that ends."""
NODES = 64
"""A bend is worked out at so many places a side."""
STIFF = 1e-4
"""Smoothing of the splines: landmarks need not be met to the last hair."""
BORDER = 8
"""Places on each edge of a picture that stay."""


def mirrored(part: tuple[int, ...]) -> tuple[int, ...]:
    """The same part on the other side of the face."""
    return tuple(int(index) for index in face_template().mirror[list(part)])


RIGHT_EYE, RIGHT_BROW = mirrored(LEFT_EYE), mirrored(LEFT_BROW)
FEATURES = LEFT_EYE + RIGHT_EYE + LEFT_BROW + RIGHT_BROW + NOSE + MOUTH
BETWEEN_LIPS = {
    int(point)
    for point in np.flatnonzero(points_in_poly(standard_face()[:, :2], standard_face()[list(MOUTH), :2]))
    if point not in MOUTH
}
"""Where they lie says how open a mouth is: they would tear a closed one that is laid over it."""
BENT = sorted({*OVAL, *FEATURES, *range(0, 468, 6)} - BETWEEN_LIPS)
"""Landmarks that bend pictures: outline, features, and some between."""


def bend(wanted: np.ndarray, known: np.ndarray, size: int, held: bool) -> Tensor:
    """(1, size, size, 2) where each pixel of the bent picture comes from, for ``grid_sample``.

    Args:
        wanted: (468, 2 or more) where the landmarks shall lie, fractions of the bent picture.
        known: where they lie, fractions of the picture.
        size: width of the bent picture, pixels.
        held: whether the picture's edge stays where it is.
    """
    to, back = wanted[BENT, :2], known[BENT, :2]
    if held:
        steps = np.linspace(0, 1, BORDER + 1)
        edge = np.array([(u, v) for u in steps for v in steps if u in (0, 1) or v in (0, 1)])
        to, back = np.concatenate([to, edge]), np.concatenate([back, edge])
    nodes = torch.from_numpy(_places(NODES))
    moved = RBFInterpolator(to, back - to, smoothing=STIFF)(nodes.flatten(0, 1).numpy())
    field = torch.from_numpy(moved).reshape(1, NODES, NODES, 2).permute(0, 3, 1, 2)
    field = F.interpolate(field, (size, size), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
    return (2 * (field + torch.from_numpy(_places(size))) - 1).float()


def seen_through(grid: Tensor, pictures: Tensor, outside: str = "border") -> Tensor:
    """Pictures (N, C, S, S) bent alike."""
    grid = grid.to(pictures).expand(len(pictures), -1, -1, -1)
    return F.grid_sample(pictures, grid, mode="bicubic", padding_mode=outside, align_corners=False).clamp(-1, 1)


def _places(size: int) -> np.ndarray:
    axis = (np.arange(size) + 0.5) / size
    return np.stack(np.meshgrid(axis, axis), -1)


@cache
def layout() -> tuple[np.ndarray, float]:
    """(468, 2) landmarks of the layout as fractions of it, and an eye distance in that unit."""
    flat = standard_face()[:, :2] * [1, -1]
    shown = flat[[*FEATURES, *CHIN]]
    low, high = shown.min(0) - MARGIN, shown.max(0) + MARGIN
    width = float((high - low).max())
    return (flat - (low + high) / 2) / width + 0.5, 1 / width


@cache
def around(part: tuple[int, ...], reach: float, soft: float) -> Tensor:
    """(SIDE, SIDE) in [0, 1]: a part's convex hull in the layout and ``reach`` eye distances around it."""
    points, eyes = layout()
    within = np.zeros((SIDE, SIDE), bool)
    columns, rows = (points[list(part)] * SIDE).astype(int).clip(0, SIDE - 1).T
    within[rows, columns] = True
    away = distance_transform_edt(~convex_hull_image(within)) / (SIDE * eyes)
    return torch.from_numpy(((reach + soft / 2 - away) / soft).clip(0, 1)).float()
