"""head -> mesh: a closed, coloured triangle surface of the head.

In: a head (any density and colour field). Out: ``Mesh`` in world units, for ``export.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.density import DensityGrid, density_grid, surface_level
from agile3d_cli.avatar.head import Head
from agile3d_cli.avatar.paint import detailed, painted
from agile3d_cli.avatar.simplify import simplified
from agile3d_cli.avatar.surface import (
    crossing_surface,
    is_watertight,
    outer_shell,
    smoothed,
    vertex_normals,
)
from agile3d_cli.avatar.texture import FACES, textured


@dataclass(frozen=True)
class Mesh:
    """A coloured surface: y up, the face towards +z."""

    vertices: np.ndarray
    """(V, 3) float32, world units; metres once ``export.py`` has placed it."""
    faces: np.ndarray
    """(F, 3) uint32, counter-clockwise seen from outside."""
    normals: np.ndarray
    """(V, 3) float32, unit length, pointing outwards."""
    colors: np.ndarray
    """(V, 3) float32, sRGB in [0, 1]."""
    watertight: bool
    """Whether every edge borders exactly two faces wound alike: measured, not assumed."""
    level: float
    """Density of the surface, per world unit."""
    evaluated: float
    """Share of the grid nodes at which the head was evaluated, 0 to 1."""
    uv: np.ndarray | None = None
    """(V, 2) float32 in [0, 1], u right and v down in the texture; None without one."""
    texture: np.ndarray | None = None
    """(H, W, 3) uint8 sRGB; None where the vertices carry the colours."""


def extract_mesh(head: Head, config: MeshConfig | None = None, progress: Callable[[float], None] | None = None) -> Mesh:
    """Turns a head into one closed surface without floating pieces or hidden inner walls.

    Args:
        head: gives density and colour.
        config: resolution, level and what is done to the surface.
        progress: called with the share of the grid that is done, 0 to 1.

    Raises:
        Agile3dError: the head is empty at the level.
    """
    config = config or MeshConfig()
    level = surface_level(head) if config.level is None else config.level
    grid = density_grid(head, config.resolution, level, config.dense, progress)
    vertices, faces = _surface(grid, level, config)
    colors = painted(head, vertices, faces)
    uv = texture = None
    if config.texture:
        flat = textured(head, vertices, faces, config.texture)
        normals = vertex_normals(vertices, faces)[flat.source]
        vertices, faces, colors = vertices[flat.source], flat.faces, colors[flat.source]
        uv, texture = flat.uv.astype(np.float32), flat.picture
    else:
        vertices, faces, colors = detailed(head, vertices, faces, colors, config.detail)
        normals = vertex_normals(vertices, faces)
    return Mesh(
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.uint32),
        normals=normals.astype(np.float32),
        colors=colors.astype(np.float32),
        watertight=is_watertight(vertices, faces),
        level=level,
        evaluated=grid.evaluated,
        uv=uv,
        texture=texture,
    )


def _surface(grid: DensityGrid, level: float, config: MeshConfig) -> tuple[np.ndarray, np.ndarray]:
    """The outer shell, smoothed and, where asked, simplified.

    A very rugged surface may not stay closed when it is simplified; then a coarser grid makes it less rugged.
    """
    target = config.faces or (FACES if config.texture else None)
    while True:
        vertices, faces = outer_shell(*crossing_surface(grid, level))
        vertices = smoothed(vertices, faces, config.smoothing, grid.box)
        if target is None:
            return vertices, faces
        less = simplified(vertices, faces, target)
        if less is not None:
            return less
        grid = grid.halved()
