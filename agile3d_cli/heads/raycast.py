"""Triangles + rays -> first hits, by Embree; alpha-tested surfaces are re-cast behind what is transparent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

LAYERS = 8
"""How many transparent surfaces a ray may cross before it is given up as a miss."""
STEP = 1e-4
"""World units by which a ray is moved on behind a transparent hit."""


@dataclass(frozen=True)
class Hits:
    """First opaque hits of R rays; ``face`` is -1 where a ray met nothing."""

    face: np.ndarray
    """(R,) triangle numbers."""
    barycentric: np.ndarray
    """(R, 3) weights of the triangle's corners."""
    distance: np.ndarray
    """(R,) world units along the ray, 0 for a miss."""


class Scene:
    """A fixed triangle soup (T, 3, 3) in world units."""

    def __init__(self, triangles: np.ndarray):
        self._scene = EmbreeScene()
        self._mesh = TriangleMesh(self._scene, triangles.astype(np.float32))

    def first_hits(
        self,
        origins: np.ndarray,
        directions: np.ndarray,
        opaque: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
    ) -> Hits:
        """Casts rays (R, 3).

        Args:
            origins: world units.
            directions: unit vectors.
            opaque: (face (n,), barycentric (n, 3)) -> (n,) bool; all hits are opaque without it.
        """
        count = len(origins)
        face, distance = np.full(count, -1), np.zeros(count)
        barycentric, travelled = np.zeros((count, 3)), np.zeros(count)
        alive = np.arange(count)
        for _ in range(LAYERS):
            start = origins[alive] + directions[alive] * travelled[alive, None]
            found = self._scene.run(start.astype(np.float32), directions[alive].astype(np.float32), output=True)
            hit = found["primID"] >= 0
            alive, f = alive[hit], found["primID"][hit]
            u, v = found["u"][hit], found["v"][hit]
            weights = np.stack([1 - u - v, u, v], 1)
            reach = travelled[alive] + found["tfar"][hit]
            solid = np.ones(len(f), bool)
            if opaque is not None and len(f):
                solid = opaque(f, weights)
            done = alive[solid]
            face[done], barycentric[done], distance[done] = f[solid], weights[solid], reach[solid]
            alive, reach = alive[~solid], reach[~solid]
            if not len(alive):
                break
            travelled[alive] = reach + STEP
        return Hits(face, barycentric, distance)

    def distances(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Distance to the nearest surface, opaque or not; very large for a miss. (R,)"""
        return self._scene.run(origins.astype(np.float32), directions.astype(np.float32), query="DISTANCE")
