"""Cut-outs of one feature brought onto each other, so that their blend is as crisp as each of them.

In: the same feature of all exemplars, roughly in place. Out: the same, each moved by the affine map that takes it
closest to their average. Source: Lucas and Kanade's registration (1981), Gauss-Newton on affine maps.
"""

from __future__ import annotations

import numpy as np

from agile3d_linear.picture import blur, ramp, resize, sample

SIDE = 64
"""Registration happens at this size, pixels."""
ROUNDS = 2
"""Times the average is formed anew."""
STEPS = 8
"""Gauss-Newton steps per round and cut-out."""
STIFF = np.array([0.03, 0.03, 1e-4, 0.03, 0.03, 1e-4])
"""Resistance against stretch and shear, and against shift (third and sixth), share of the usual certainty."""
CORNERS = np.array([[1, 1], [1, -1], [1, 1]])
"""Two neighbouring corners of a cut-out as columns; the others are their opposites but for the shift."""
LIMIT = 0.35
"""A map that moves a corner by more than this share of the cut-out is a failure and is not applied."""


def register(patches: np.ndarray, trust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut-outs (E, P, P, 4), colour times cover and cover, with their trust (E,).

    Returns:
        The moved cut-outs, and their trust lowered where a form has little in common with the average form.
    """
    small = np.stack([_view(patch) for patch in patches])
    maps = np.tile(np.eye(2, 3), (len(patches), 1, 1))
    weight = trust / max(float(trust.sum()), 1e-6)
    for _ in range(ROUNDS):
        moved = np.stack([_apply(view, one) for view, one in zip(small, maps, strict=True)])
        average = np.einsum("e,ehwc->hwc", weight, moved)
        maps = np.stack([_align(view, average, one) for view, one in zip(small, maps, strict=True)])
    # On average nothing moves: the place that was measured stays true.
    drift = np.einsum("e,eij->ij", weight, maps) - np.eye(2, 3)
    moved = np.stack([_apply(patch, one - drift, "bicubic") for patch, one in zip(patches, maps, strict=True)])
    return moved, trust * ramp(_agreement(moved[..., 3], trust), 0.45, 0.75)


def _agreement(covers: np.ndarray, trust: np.ndarray) -> np.ndarray:
    """(E,) share of cover (E, P, P) that each has in common with the trusted average: intersection over union."""
    average = np.einsum("e,ehw->hw", trust / max(float(trust.sum()), 1e-6), covers)
    common = np.minimum(covers, average).sum((1, 2))
    return common / np.maximum(np.maximum(covers, average).sum((1, 2)), 1e-6)


def _view(patch: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 2) cover and lightness, slightly blurred so that the slope is smooth."""
    small = resize(patch, SIDE)
    return blur(np.stack([small[..., 3], small[..., :3].mean(-1)], -1), 1.5)


def _grid(side: int) -> np.ndarray:
    axis = (np.arange(side) + 0.5) / side * 2 - 1
    v, u = np.meshgrid(axis, axis, indexing="ij")
    return np.stack([u, v, np.ones_like(u)], -1)


def _apply(patch: np.ndarray, affine: np.ndarray, mode: str = "bilinear") -> np.ndarray:
    return sample(patch, (_grid(len(patch)) @ affine.T + 1) / 2, mode)


def _align(view: np.ndarray, average: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) under which ``view`` comes closest to ``average``."""
    grid = _grid(SIDE)
    affine = start.copy()
    for _ in range(STEPS):
        moved = _apply(view, affine)
        slope_v, slope_u = np.gradient(moved, 2 / SIDE, axis=(0, 1))
        rows = np.concatenate([slope_u[..., None] * grid[:, :, None], slope_v[..., None] * grid[:, :, None]], -1)
        rows, miss = rows.reshape(-1, 6), (average - moved).reshape(-1)
        matrix = rows.T @ rows
        # What the cut-outs leave open, such as the turn of a round thing, stays as it is.
        stiff = 1e-6 + np.trace(matrix) / 6 * STIFF
        matrix += np.diag(stiff)
        so_far = (affine - np.eye(2, 3)).reshape(6)
        change = np.linalg.solve(matrix, rows.T @ miss - stiff * so_far).reshape(2, 3)
        # The slope is that of the moved picture, so the change comes before the map.
        affine = affine @ np.vstack([np.eye(2, 3) + change, [0, 0, 1]])
        if np.abs((affine - np.eye(2, 3)) @ CORNERS).max() > LIMIT:
            return np.eye(2, 3)
    return affine
