"""Where features that a style draws by itself truly lie.

A landmark detector has seen ordinary faces: in an eye twice as high as a real one it puts the lids half way, and a
small mouth it draws out. Where a style has features of its own (``natural.py`` tells), they are cut out of the
exemplars anyway: the landmarks around them are stretched until they reach as far as the cut-outs do.

In: exemplars taken apart, and the layout in which they were. Out: where the landmarks truly lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agile3d_linear.features import Exemplar, patch_grid
from agile3d_linear.layout import Layout, standard
from agile3d_linear.mesh import PARTS
from agile3d_linear.shape import symmetric

STRETCH = (0.5, 3.0)
"""No feature is taken to be smaller or larger than this many times what its landmarks say."""
EYES = 0.5
"""How far eyes are taken to be as large as they are drawn. What is drawn on a swollen part of a head has fewer texels:
with all of it, pupils turn to streaks."""
COVERED = 0.5
"""A cut-out reaches as far as it covers this much."""
REACH = 0.12
"""How far from a feature its surroundings follow (deviation of a Gaussian), eye distances."""
ALONE = 4
"""Between features the nearer one counts more by this power of how much it counts."""
FAINT = 1e-3
"""What counts less than that stays."""


def fitted(parts: Sequence[Exemplar], layout: Layout) -> np.ndarray:
    """(468, 3) how the landmarks of the style's average face move to where its features are drawn.

    Brows stay, which people raise and which hair hides, and so does a feature that most exemplars do not show.

    Args:
        parts: the exemplars taken apart.
        layout: in which they were.

    Returns:
        Standard frame, mirror-symmetric; depth stays.
    """
    points = layout.shape[:, :2]
    moves, shares = [np.zeros_like(points)], [np.full((len(points), 1), FAINT)]
    for index, name in enumerate(PARTS):
        own = points[list(PARTS[name])]
        away = np.linalg.norm(points[:, None] - own, axis=2).min(1, keepdims=True)
        shares.append(np.exp(-((away / REACH) ** 2) / 2))
        moves.append(np.zeros_like(points))
        seen = [_ends(part.patches[index], part.places[index]) for part in parts if _is_drawn(part.patches[index])]
        if name.endswith("brow") or 2 * len(seen) <= len(parts):
            continue
        (left, low), (right, high) = np.median(seen, 0)
        stretch = np.clip([right - left, high - low] / np.ptp(own, axis=0), *STRETCH)
        if name.endswith("eye"):
            stretch = 1 + EYES * (stretch - 1)
        before, after = (own.max(0) + own.min(0)) / 2, np.array([left + right, low + high]) / 2
        moves[-1] = shares[-1] * ((stretch - 1) * (points - before) + after - before)
    # A landmark of one feature follows that feature alone.
    whose = np.stack(shares) ** ALONE
    moved = (whose / whose.sum(0) * moves).sum(0)
    return symmetric(np.pad(moved, ((0, 0), (0, 1))))


def _is_drawn(patch: np.ndarray) -> bool:
    return bool((patch[..., 3] > COVERED).any())


def _ends(patch: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(2, 2) lowest and highest x and y that a cut-out covers, standard frame."""
    places = standard(patch_grid(place)[patch[..., 3] > COVERED])
    return np.stack([places.min(0), places.max(0)])
