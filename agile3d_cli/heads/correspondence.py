"""Template -> the deformation's grids: the smooth fields that carry the mean head to each shape component.

Each component's displacement is known at skin, eye and hair vertices; a grid over the focused cube is solved that
meets them and is smooth elsewhere (sparse least squares, one factorisation for all components).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.template import Template
from agile3d_cli.models.config import FocusConfig
from agile3d_cli.models.deformation import Focus

HAIR_PARTS = ("hair/short02", "hair/bob01", "hair/afro01")
HAIR_WEIGHT, EYE_WEIGHT = 0.1, 0.7
LEAST_VOLUME = 0.2
"""What a full expression may shrink a cell of the grid to, against 1: less, and with other components it folds."""
SMOOTH, DECAY = 3e-2, 1e-6
"""Weights of the grid's second differences and of its size, against one vertex."""


@dataclass(frozen=True)
class Anchors:
    """Points of the mean head with their displacement under each component."""

    positions: np.ndarray
    """(P, 3)."""
    displacements: np.ndarray
    """(K, P, 3), shapes then expressions."""
    weights: np.ndarray
    """(P,)."""


def anchors(template: Template, kit: Kit) -> Anchors:
    """Skin inside the box, eyes, and some hair, which has no correspondence of its own and follows the skull."""
    modes = np.concatenate([template.shapes, template.expressions])
    skin = np.unique(template.faces)
    skin = skin[template.mean[skin, 1] > -0.55]
    positions, moved, weights = [template.mean[skin]], [modes[:, skin]], [np.ones(len(skin))]
    for key, weight in [("eyes/low-poly", EYE_WEIGHT)] + [(name, HAIR_WEIGHT) for name in HAIR_PARTS]:
        part = kit.parts[key]
        positions.append(part.vertices(template.mean))
        moved.append((modes[:, part.references] * part.weights[..., None]).sum(2))
        weights.append(np.full(len(part.references), weight))
    return Anchors(np.concatenate(positions), np.concatenate(moved, 1), np.concatenate(weights))


def trilinear(normalised: np.ndarray, grid: int) -> sparse.csr_matrix:
    """Interpolation matrix (P, grid^3) of points in [-1, 1]^3 on nodes indexed [z, y, x]."""
    place = np.clip((normalised + 1) / 2 * (grid - 1), 0, grid - 1 - 1e-6)
    low = place.astype(int)
    part = place - low
    rows, columns, values = [], [], []
    for corner in range(8):
        bits = np.array([corner & 1, corner >> 1 & 1, corner >> 2 & 1])
        node = low + bits
        rows.append(np.arange(len(place)))
        columns.append((node[:, 2] * grid + node[:, 1]) * grid + node[:, 0])
        values.append(np.where(bits, part, 1 - part).prod(1))
    shape = (len(place), grid**3)
    return sparse.csr_matrix((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape)


def second_differences(grid: int) -> sparse.csr_matrix:
    """Stacked second differences of a (grid, grid, grid) field along its three axes."""
    line = sparse.diags([1.0, -2.0, 1.0], [0, 1, 2], shape=(grid - 2, grid))
    one = sparse.identity(grid)
    return sparse.vstack(
        [
            sparse.kron(sparse.kron(line, one), one),
            sparse.kron(sparse.kron(one, line), one),
            sparse.kron(sparse.kron(one, one), line),
        ]
    ).tocsr()


def solve_grids(points: Anchors, focus: FocusConfig, half_width: float, grid: int) -> tuple[Tensor, np.ndarray]:
    """Grids (K, 3, grid, grid, grid) and the root mean square left over per component, world units."""
    normalised = Focus(focus, half_width).forward(torch.from_numpy(points.positions).double()).numpy()
    matrix = trilinear(normalised, grid)
    weight = sparse.diags(points.weights)
    smooth = second_differences(grid)
    normal = matrix.T @ weight @ matrix + SMOOTH * (smooth.T @ smooth) + DECAY * sparse.identity(grid**3)
    components = len(points.displacements)
    values = points.displacements.transpose(1, 0, 2).reshape(len(points.positions), -1)
    solved = splu(normal.tocsc()).solve(matrix.T @ (weight @ values))
    left = (matrix @ solved - values).reshape(-1, components, 3)
    error = np.sqrt((points.weights[:, None] * (left**2).sum(2)).sum(0) / points.weights.sum())
    grids = solved.reshape(grid, grid, grid, components, 3).transpose(3, 4, 0, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(grids)).float(), error


def lowest_determinant(grid: Tensor, focus: Focus) -> float:
    """Least volume that the forward field (3, G, G, G) leaves of a cell, against 1; negative where space folds."""
    nodes = focus.nodes(grid.shape[-1]).permute(3, 0, 1, 2)
    edges: tuple[list[Tensor], list[Tensor]] = ([], [])
    for points, found in zip((nodes + grid.float(), nodes), edges, strict=True):
        corner = points[:, :-1, :-1, :-1]
        for moved in (points[:, :-1, :-1, 1:], points[:, :-1, 1:, :-1], points[:, 1:, :-1, :-1]):
            found.append(moved - corner)
    after, before = ((a * torch.linalg.cross(b, c, dim=0)).sum(0) for a, b, c in edges)
    return float((after / before).min())


def without_folds(grids: Tensor, strengths: Sequence[float], focus: Focus) -> Tensor:
    """Weakens grids (K, 3, G, G, G) that would fold space at full strength: lids cannot glide over an eye in it."""
    kept = []
    for grid, strength in zip(grids, strengths, strict=True):
        share = 1.0
        while lowest_determinant(share * strength * grid, focus) < LEAST_VOLUME:
            share *= 0.9
        kept.append(share * grid)
    return torch.stack(kept)
