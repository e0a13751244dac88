"""Spectacle frames: tubes around the eyes, over the nose and to the ears, made for one subject's face."""

from __future__ import annotations

import numpy as np

RIM = 40
"""Points around one rim."""
SIDES = 6
"""Corners of a tube's cross-section."""
THICKNESS = 0.0045
"""Radius of the tubes, world units."""
AHEAD = 0.026
"""Distance of the rims in front of the eyeballs."""
WRAP = 1.1
"""How strongly rims bend back towards the temples, per world unit."""
CLEAR = 0.007
"""Distance of the temples from the skin."""


def frames(eyes: np.ndarray, skin: np.ndarray, form: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) and triangles (F, 3) of a frame.

    Args:
        eyes: (2, 3) foremost points of the right and left eyeball, x negative and positive.
        skin: (V, 3) the subject's skin.
        form: (3,) width, roundness and height of the lenses in standard deviations.
    """
    width = 0.060 * np.exp(0.09 * form[0])
    height = 0.044 * np.exp(0.12 * form[2])
    power = 2 + 2.5 / (1 + np.exp(1.5 * form[1]))
    middle = eyes.mean(0)
    tubes = []
    for centre in eyes:
        side = np.sign(centre[0])
        angle = np.linspace(0, 2 * np.pi, RIM, endpoint=False)
        x, y = _superellipse(angle, width, height, power)
        centre = np.array([centre[0] + 0.006 * side, centre[1] - 0.008, middle[2] + AHEAD])
        rim = centre + np.stack([side * x, y, -WRAP * np.clip(x, -0.03, None) ** 2], 1)
        tubes.append(_tube(np.concatenate([rim, rim[:1]])))
        inner, outer = rim[RIM // 2 - 2], rim[2]
        nose = np.array([0, inner[1] + 0.008, inner[2] + 0.008])
        tubes.append(_tube(_arc(inner, nose)))
        tubes.append(_tube(_temple(outer, side, skin)))
    starts = np.cumsum([0] + [len(v) for v, _ in tubes])
    vertices = np.concatenate([v for v, _ in tubes])
    return vertices, np.concatenate([f + s for (_, f), s in zip(tubes, starts[:-1], strict=True)])


def _superellipse(angle: np.ndarray, width: float, height: float, power: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(angle), np.sin(angle)
    return width * np.sign(c) * np.abs(c) ** (2 / power), height * np.sign(s) * np.abs(s) ** (2 / power)


def _arc(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    t = np.linspace(0, 1, 6)[:, None]
    lift = np.array([0, 0.006, 0.004]) * np.sin(np.pi * t / 2)
    return start * (1 - t) + end * t + lift


def _temple(start: np.ndarray, side: float, skin: np.ndarray) -> np.ndarray:
    """From the rim backwards, outside of the skin, bending down behind the ear."""
    z = np.linspace(start[2], -0.03, 14)
    y = start[1] + 0.012 * np.linspace(0, 1, 14)
    x = np.full(14, side * start[0])
    for k in range(14):
        near = (np.abs(skin[:, 1] - y[k]) < 0.02) & (np.abs(skin[:, 2] - z[k]) < 0.025) & (side * skin[:, 0] > 0)
        reach = (side * skin[near, 0]).max() + CLEAR if near.any() else 0.0
        x[k] = max(x[k], reach)
    x = np.maximum.accumulate(x)
    return np.concatenate([start[None], np.stack([side * x, y, z], 1)[1:]])


def _tube(path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A tube around a path (M, 3)."""
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-12
    up = np.where(np.abs(along[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    a = np.cross(along, up)
    a /= np.linalg.norm(a, axis=1, keepdims=True) + 1e-12
    b = np.cross(along, a)
    angle = 2 * np.pi * np.arange(SIDES) / SIDES
    ring = np.cos(angle)[None, :, None] * a[:, None] + np.sin(angle)[None, :, None] * b[:, None]
    vertices = (path[:, None] + THICKNESS * ring).reshape(-1, 3)
    step, side = np.meshgrid(np.arange(len(path) - 1), np.arange(SIDES), indexing="ij")
    here, beside = step * SIDES + side, step * SIDES + (side + 1) % SIDES
    faces = np.stack([np.stack([here, beside, here + SIDES], -1), np.stack([beside, beside + SIDES, here + SIDES], -1)])
    return vertices, faces.reshape(-1, 3)
