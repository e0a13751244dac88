"""Template -> points that are known to be inside every head, whoever it is."""

from __future__ import annotations

import numpy as np

from agile3d_cli.heads.raycast import Scene
from agile3d_cli.heads.template import Template

ENCLOSING_RAYS = 40
DEEP = 0.012
"""Least distance from the skin of a point that counts as deep inside, world units."""


def interior_points(template: Template, count: int, seed: int = 0) -> np.ndarray:
    """Points (count, 3) deep inside the mean head, neck and bust: every direction meets skin, none at once.

    They are inside every subject too, since subjects are brought to the mean head before the planes are read.
    """
    rng = np.random.default_rng(seed)
    scene = Scene(template.mean[template.faces])
    directions = rng.normal(size=(ENCLOSING_RAYS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found: list[np.ndarray] = []
    while sum(map(len, found)) < count:
        points = rng.uniform(-0.5, 0.5, (4000, 3))
        reach = np.stack([scene.distances(points, np.broadcast_to(d, points.shape)) for d in directions])
        found.append(points[(reach.max(0) < 1) & (reach.min(0) > DEEP)])
    return np.concatenate(found)[:count]
