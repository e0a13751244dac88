"""Triangle surfaces: extraction from a grid, outer shell, smoothing, splitting, normals, and the test for holes.

Convention: ``vertices`` (V, 3) float64 in world units, ``faces`` (F, 3) int64, counter-clockwise seen from outside.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from skimage import measure

from agile3d_cli.avatar.density import DensityGrid
from agile3d_cli.errors import Agile3dError

KEEP_OFF = 0.01
"""No crossing lies nearer to a grid node than this share of a cell: keeps vertices apart."""
ON_WALL = 1e-4
"""A vertex that is this near to a wall of the box lies in it, world units."""
SHRINK, GROW = 0.5, -0.53
"""Taubin's two steps (Taubin, SIGGRAPH 1995): shrinking, then growing a little more, passes only broad shapes."""


def crossing_surface(grid: DensityGrid, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The surface where the density crosses ``level``, closed by flat caps where it leaves the box.

    The density is interpolated as the opacity 1 - 2^(-density / level), in which the level is 0.5: densities that
    jump from nothing to hundreds between two nodes then leave no steps.

    Raises:
        Agile3dError: the density crosses the level nowhere.
    """
    opacity = np.pad(1.0 - np.exp2(-grid.values / level), 1, constant_values=0.0).astype(np.float32)
    if not ((opacity > 0.5).any() and (grid.values <= level).any()):
        raise Agile3dError(f"The head has no surface at density {level:g}; choose another level.")
    _keep_off_nodes(opacity)
    vertices, faces, _, _ = measure.marching_cubes(opacity, 0.5)
    vertices = (vertices.astype(np.float64) - 1.0) * grid.spacing - grid.box
    # The padding lies outside the box: what crosses into it becomes the flat cap.
    vertices = np.clip(vertices, -grid.box, grid.box)
    faces = faces.astype(np.int64)
    if volume(vertices, faces) < 0:
        faces = faces[:, ::-1]
    return vertices, np.ascontiguousarray(faces)


def _keep_off_nodes(opacity: np.ndarray) -> None:
    """Moves values that equal the level, or nearly, so far that no crossing of an edge falls onto a node."""
    near = np.argwhere(np.abs(opacity - 0.5) < KEEP_OFF)
    value = opacity[tuple(near.T)]
    above = value > 0.5
    steepest = np.zeros_like(value)
    for axis in range(3):
        for side in (-1, 1):
            other = near.copy()
            other[:, axis] += side
            beyond = opacity[tuple(other.T)]
            steepest = np.maximum(steepest, np.where((beyond > 0.5) != above, np.abs(beyond - value), 0.0))
    away = np.maximum(np.abs(value - 0.5), np.maximum(KEEP_OFF * steepest, 1e-6))
    opacity[tuple(near.T)] = 0.5 + np.where(above, away, -away)


def outer_shell(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The connected surface around the largest volume: without floating pieces, and without the walls of cavities."""
    count = len(vertices)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sparse.coo_matrix((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), (count, count))
    pieces, piece = sparse.csgraph.connected_components(graph, directed=False)
    if pieces == 1:
        return vertices, faces
    share = np.bincount(piece[faces[:, 0]], _signed_volumes(vertices, faces), pieces)
    return _used(vertices, faces[piece[faces[:, 0]] == share.argmax()])


def smoothed(vertices: np.ndarray, faces: np.ndarray, rounds: int, box: float) -> np.ndarray:
    """Taubin smoothing: evens out the grid's steps and keeps the volume; flat caps on the box stay flat."""
    if rounds == 0:
        return vertices
    count = len(vertices)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    neighbours = np.asarray(graph.sum(1)).reshape(-1)
    average = sparse.diags(1.0 / np.maximum(neighbours, 1)) @ graph
    free = np.abs(vertices) < box - 1e-9
    moved = vertices.copy()
    for _ in range(rounds):
        for strength in (SHRINK, GROW):
            moved += strength * free * (average @ moved - moved)
    return np.clip(moved, -box, box)


def split_faces(faces: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Faces after vertices were put on their edges, wound as before.

    Args:
        faces: (F, 3).
        new: (F, 3) number of the vertex on the edge from each corner to the next one, -1 for none.
    """
    marked = (new >= 0).sum(1)
    whole = faces[marked == 0]

    one = np.argmax(new >= 0, axis=1)[marked == 1]
    (a, b, c), (m, _, _) = _turned(faces[marked == 1], one), _turned(new[marked == 1], one)
    halves = [np.stack([a, m, c], 1), np.stack([m, b, c], 1)]

    two = (np.argmin(new >= 0, axis=1)[marked == 2] + 1) % 3
    (a, b, c), (m, n, _) = _turned(faces[marked == 2], two), _turned(new[marked == 2], two)
    thirds = [np.stack([m, b, n], 1), np.stack([a, m, n], 1), np.stack([a, n, c], 1)]

    a, b, c = faces[marked == 3].T
    m, n, o = new[marked == 3].T
    quarters = [np.stack(corner, 1) for corner in ((a, m, o), (m, b, n), (o, n, c), (m, n, o))]
    return np.concatenate([whole, *halves, *thirds, *quarters])


def on_caps(vertices: np.ndarray, faces: np.ndarray, box: float) -> np.ndarray:
    """Which faces (F,) lie in a wall of the box, that is, close a cut."""
    walls = np.concatenate([vertices >= box - ON_WALL, vertices <= -box + ON_WALL], 1)
    return walls[faces].all(1).any(1)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3) pointing outwards, the faces around a vertex weighted by their area."""
    normals = np.zeros_like(vertices)
    across = _crosses(vertices, faces)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], across[:, axis], len(vertices))
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0])
    return np.where(length > 1e-20, normals / np.maximum(length, 1e-20), up)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Enclosed volume, cubic world units; negative if the faces are wound inwards."""
    return float(_signed_volumes(vertices, faces).sum())


def is_watertight(vertices: np.ndarray, faces: np.ndarray) -> bool:
    """Whether each edge borders exactly two faces that are wound alike, vertices at one place taken as one.

    Positions are compared as float32, the precision of the files.
    """
    if not len(faces):
        return False
    _, place = np.unique(vertices.astype(np.float32), axis=0, return_inverse=True)
    corners = place.reshape(-1)[faces]
    start, end = corners.reshape(-1), np.roll(corners, -1, axis=1).reshape(-1)
    count = len(vertices)
    there, back = np.sort(start * count + end), np.sort(end * count + start)
    return bool((start != end).all() and (np.diff(there) > 0).all() and np.array_equal(there, back))


def _crosses(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return np.cross(b - a, c - a)


def _signed_volumes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", vertices[faces[:, 0]], _crosses(vertices, faces)) / 6


def _used(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops vertices of no face and numbers the rest anew."""
    kept = np.zeros(len(vertices), bool)
    kept[faces] = True
    return vertices[kept], (np.cumsum(kept) - 1)[faces]


def _turned(rows: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Columns of ``rows`` (F, 3), each row cyclically turned so that it starts at column ``first`` (F,)."""
    return np.take_along_axis(rows, (first[:, None] + np.arange(3)) % 3, 1).T
