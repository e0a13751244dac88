"""Fewer triangles for nearly the same closed surface. Conventions as in ``surface.py``."""

from __future__ import annotations

import numpy as np

from agile3d_cli.avatar.surface import is_watertight, outer_shell, split_faces
from agile3d_cli.errors import MissingError

EAGERNESS = 4.0
"""How readily triangles are given up, 0 to 10; higher is quicker and rougher."""
APART = 1e-5
"""Distance by which touching sheets are separated, world units (4 micrometres)."""


def simplified(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray] | None:
    """About ``target`` triangles of nearly the same shape, or None if no closed surface comes out.

    Raises:
        MissingError: the optional package is not installed.
    """
    if len(faces) <= target:
        return vertices, faces
    try:
        import fast_simplification
    except ImportError as error:
        raise MissingError(
            "Fewer triangles need the package fast-simplification: pip install 'agile3d[mesh]'."
        ) from error
    points, triangles = fast_simplification.simplify(
        vertices, faces.astype(np.int32), target_count=target, agg=EAGERNESS
    )
    less = outer_shell(*pulled_apart(points.astype(np.float64), triangles.astype(np.int64)))
    return less if is_watertight(*less) else None


def pulled_apart(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Separates solids that touch along an edge: each gets an edge of its own, bent a hair (``APART``) into itself.

    Collapsing the edges around a narrow tunnel or ridge leaves such touching solids, with four triangles at one edge.
    """
    faces = _without_folds(faces)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    edge = np.minimum(start, end) * len(vertices) + np.maximum(start, end)
    _, number, uses = np.unique(edge, return_inverse=True, return_counts=True)
    # A half-edge is known by the corner that it starts from.
    shared = np.flatnonzero(uses[number] > 2)
    shared = shared[np.argsort(number[shared], kind="stable")]
    groups = np.split(shared, np.flatnonzero(np.diff(number[shared])) + 1) if len(shared) else []
    pairs = [pair for group in groups for pair in _around_solids(vertices, faces, group)]
    if not pairs:
        return vertices, faces
    one, other = np.array(pairs).T
    middle = (vertices[start[one]] + vertices[end[one]]) / 2
    inwards = (vertices[faces[one // 3]].mean(1) + vertices[faces[other // 3]].mean(1)) / 2 - middle
    inwards /= np.maximum(np.linalg.norm(inwards, axis=1, keepdims=True), 1e-12)
    new = np.full(faces.size, -1)
    new[one] = new[other] = len(vertices) + np.arange(len(pairs))
    return np.concatenate([vertices, middle + APART * inwards]), split_faces(faces, new.reshape(-1, 3))


def _without_folds(faces: np.ndarray) -> np.ndarray:
    """Drops triangles that lie back to back, which hold nothing between them; of three one is left."""
    _, group = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    turn = np.where(np.argmin(faces, axis=1) == (np.argmax(faces, axis=1) + 1) % 3, 1, -1)
    surplus = np.bincount(group, turn)[group]
    kept = np.flatnonzero(surplus * turn > 0)
    kept = kept[np.argsort(group[kept], kind="stable")]
    first = np.searchsorted(group[kept], group[kept])
    return faces[np.sort(kept[np.arange(len(kept)) - first < np.abs(surplus[kept])])]


def _around_solids(vertices: np.ndarray, faces: np.ndarray, half_edges: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of the half-edges along one edge, such that each pair bounds one solid wedge."""
    face, corner = half_edges // 3, half_edges % 3
    start, end = faces[face, corner], faces[face, (corner + 1) % 3]
    low, high = vertices[min(start[0], end[0])], vertices[max(start[0], end[0])]
    along = (high - low) / max(float(np.linalg.norm(high - low)), 1e-12)
    across = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    opposite = vertices[faces[face, (corner + 2) % 3]] - low
    angle = np.arctan2(opposite @ np.cross(along, across), opposite @ across)
    # Counter-clockwise about the edge, a solid begins at a triangle that runs down and ends at one that runs up.
    # Twice around, like brackets on a circle, since it is not known where a solid begins.
    order = np.argsort(angle, kind="stable").tolist()
    rising = start < end
    pairs: list[tuple[int, int]] = []
    open_ones: list[int] = []
    closed: set[int] = set()
    for place in order + order:
        if place in closed:
            continue
        if not rising[place]:
            if place not in open_ones:
                open_ones.append(place)
        elif open_ones:
            begin = open_ones.pop()
            closed |= {begin, place}
            pairs.append((int(half_edges[begin]), int(half_edges[place])))
    return pairs
