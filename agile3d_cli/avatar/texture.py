"""surface -> texture: flattens a surface and asks the head for the colour of each texel.

In: a head and its surface. Out: the surface cut open along seams, with texture places and a picture. Convention: u to
the right and v down, (0, 0) in the picture's upper left corner, as in glTF.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from agile3d_cli.avatar.head import Head
from agile3d_cli.avatar.paint import painted, surface_colors
from agile3d_cli.avatar.surface import on_caps, vertex_normals
from agile3d_cli.errors import MissingError

FACES = 24_000
"""Triangles of a textured mesh unless asked otherwise: the detail is in the picture, and flattening takes its time."""
BLOCK = 1 << 21
"""Texels looked at together."""


@dataclass(frozen=True)
class Textured:
    """A surface with its picture. Vertices on seams occur several times at one place."""

    source: np.ndarray
    """(W,) which vertex of the closed surface each one is."""
    faces: np.ndarray
    """(F, 3) into the W vertices."""
    uv: np.ndarray
    """(W, 2) in [0, 1]."""
    picture: np.ndarray
    """(size, size, 3) uint8 sRGB."""


def textured(head: Head, vertices: np.ndarray, faces: np.ndarray, size: int) -> Textured:
    """Flattens the surface and paints a square picture of ``size`` pixels.

    Raises:
        MissingError: the optional package is not installed.
    """
    source, corners, uv = _flattened(vertices, faces, size)
    colors = np.zeros((size * size, 3), np.float32)
    filled = np.zeros(size * size, bool)
    caps = on_caps(vertices, faces, head.box)
    normals = vertex_normals(vertices, faces[~caps])[source]
    plain = painted(head, vertices, faces)[source]
    # Flattening may reorder the triangles, so caps are looked up again.
    caps = on_caps(vertices[source], corners, head.box)
    for face, texel, weight in _texels(uv[corners] * size, size):
        inner = ~caps[face]
        colors[texel] = _mixed(plain, corners[face], weight)
        places = _mixed(vertices[source], corners[face[inner]], weight[inner])
        across = _mixed(normals, corners[face[inner]], weight[inner])
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
        colors[texel[inner]] = surface_colors(head, places, across)
        filled[texel] = True
    # Between the pieces the nearest colour goes on, so that filtering and smaller versions show no seams.
    nearest = ndimage.distance_transform_edt(~filled.reshape(size, size), return_distances=False, return_indices=True)
    picture = colors.reshape(size, size, 3)[tuple(nearest)]
    return Textured(source, corners, uv, np.rint(picture * 255).astype(np.uint8))


def _flattened(vertices: np.ndarray, faces: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source vertex (W,), faces (F, 3) and texture places (W, 2) of the surface cut into flat pieces."""
    try:
        import xatlas
    except ImportError as error:
        raise MissingError("A texture needs the package xatlas: pip install 'agile3d[mesh]'.") from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding, packing.bilinear = size, 2, True
    atlas.generate(xatlas.ChartOptions(), packing)
    source, corners, uv = atlas[0]
    return source.astype(np.int64), corners.astype(np.int64), uv.astype(np.float64)


def _texels(triangles: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Texels whose centres lie in flat triangles (F, 3, 2), in pixels.

    Yields:
        Face (P,), flat texel number (P,) and barycentric weights (P, 3), in bounded blocks.
    """
    low = np.floor(triangles.min(1) - 0.5).astype(np.int64).clip(0, size - 1)
    span = np.ceil(triangles.max(1) - 0.5).astype(np.int64).clip(0, size - 1) - low + 1
    count = span.prod(1)
    ends = np.cumsum(count)
    start = 0
    while start < len(triangles):
        done = ends[start] - count[start]
        stop = max(start + 1, int(np.searchsorted(ends, done + BLOCK, "right")))
        face = np.repeat(np.arange(start, stop), count[start:stop])
        number = np.arange(len(face)) + done - np.repeat(ends[start:stop] - count[start:stop], count[start:stop])
        x = low[face, 0] + number % span[face, 0]
        y = low[face, 1] + number // span[face, 0]
        weight = _barycentric(triangles[face], np.stack([x + 0.5, y + 0.5], 1))
        inside = (weight >= -1e-9).all(1)
        yield face[inside], (y * size + x)[inside], weight[inside]
        start = stop


def _barycentric(triangles: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Weights (P, 3) of the corners of (P, 3, 2) at ``points`` (P, 2); negative outside, and for a flat triangle."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    area = _area(b - a, c - a)
    whole = np.abs(area) > 1e-12
    safe = np.where(whole, area, 1.0)
    second, third = _area(points - a, c - a) / safe, _area(b - a, points - a) / safe
    weights = np.stack([1 - second - third, second, third], 1)
    return np.where(whole[:, None], weights, -1.0)


def _area(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]


def _mixed(values: np.ndarray, corners: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Values (P, 3) at points given by the corners (P, 3) of their triangles and the weights (P, 3)."""
    return (values[corners] * weight[..., None]).sum(1)
