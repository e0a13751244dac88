"""subject of an imported generator -> the triangle surface of its head.

In: what ``models/published.py`` makes of styles. Out: vertices and faces in world units. It stands beside the mesh
branch of the avatar flow, for generators on whose heads no landmarks are known: the level and the empty border are
those with which the family's surfaces are published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from skimage import measure

from agile3d_cli.avatar.density import band_values, stride_for
from agile3d_cli.avatar.surface import volume
from agile3d_cli.errors import Agile3dError
from agile3d_cli.models.published import PublishedSubject
from agile3d_cli.models.separable import grid_density

LEVEL = 10.0
"""Raw density at the surface."""
BORDER = 30 / 256
"""Share of the box, from each of its walls, that counts as empty: random matter floats there."""
EMPTY = -1000.0
"""Raw density there."""


@dataclass(frozen=True)
class ImportedSurface:
    """A surface and how it was found."""

    vertices: np.ndarray
    """(V, 3) float64, world units."""
    faces: np.ndarray
    """(F, 3) int64, counter-clockwise seen from outside."""
    evaluated: float
    """Share of the grid's nodes inside the border that were asked for, 0 to 1."""


def imported_surface(
    subject: PublishedSubject, resolution: int = 256, level: float = LEVEL, border: float = BORDER, dense: bool = False
) -> ImportedSurface:
    """Where the raw density crosses ``level``, linearly between the nodes of a grid over the box.

    Args:
        subject: gives the density.
        resolution: cells along each side, a multiple of 8.
        level: raw density, before the softplus.
        border: empty share of the box at each wall.
        dense: ask for every node. Without it nothing is lost but floating pieces smaller than a block of four nodes
            (eight from 384 cells on), see ``density.density_grid``.

    Raises:
        Agile3dError: there is no surface.
    """
    stride = stride_for(resolution)
    half = subject.config.box / 2
    axis = torch.linspace(-half, half, resolution + 1)
    first = math.ceil(border * resolution)
    # Whole blocks, which the border may cut.
    start = first // stride * stride
    nodes = resolution - 2 * start + 1
    density = grid_density(subject.field, axis[start : start + nodes])
    device = density.output.device
    empty = first - start

    def ask(step: int, wanted: np.ndarray, into: np.ndarray) -> None:
        side = (nodes - 1) // step + 1
        where = np.stack(np.unravel_index(wanted, (side, side, side))) * step
        inside = ((where >= empty) & (where < nodes - empty)).all(0)
        into[wanted] = EMPTY
        into[wanted[inside]] = density.raw(torch.from_numpy(where[:, inside]).to(device)).cpu().numpy()

    values, evaluated = band_values(ask, nodes, stride, level, dense)
    corner, cropped = _around(values, level)
    vertices, faces, _, _ = measure.marching_cubes(cropped, level)
    vertices = (vertices.astype(np.float64) + corner + start) * (2 * half / resolution) - half
    faces = faces.astype(np.int64)
    if volume(vertices, faces) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    return ImportedSurface(vertices, faces, evaluated)


def _around(values: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a grid in which it crosses the level, one node more on each side, and its first node (3,)."""
    inside = values > level
    lines = [np.flatnonzero(inside.any(axis=tuple(other for other in range(3) if other != k))) for k in range(3)]
    if not len(lines[0]):
        raise Agile3dError(f"The head has no surface at raw density {level:g}; choose another level.")
    # Beside the grid there is nothing.
    padded = np.pad(values, 1, constant_values=EMPTY)
    low, high = np.array([line[0] for line in lines]), np.array([line[-1] for line in lines])
    parts = tuple(slice(int(a), int(b) + 3) for a, b in zip(low, high, strict=True))
    return low - 1, np.ascontiguousarray(padded[parts])
