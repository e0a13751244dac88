"""Colours of a surface: what a ray that meets the surface head-on sees, and finer triangles where colours change."""

from __future__ import annotations

import numpy as np
import torch

from agile3d_cli.avatar.density import CHUNK, WALL
from agile3d_cli.avatar.head import Head
from agile3d_cli.avatar.surface import on_caps, split_faces, vertex_normals

DEPTHS = np.linspace(-0.004, 0.028, 9)
"""Where colours are taken along the inward normal, world units: from just outside the surface to well inside."""
VISIBLE_STEP = 0.06
"""Colour difference (any channel, 0 to 1) along an edge that is worth another vertex."""
MOST_NEW = 60_000
"""Vertices added in one round at most, the strongest colour differences first."""


def surface_colors(head: Head, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """sRGB colours (P, 3) in [0, 1] at surface points (P, 3), seen along the normal.

    Each colour is composited from a few depths with the weights of volume rendering, so it is what a camera in front
    of that place would show. Points outside the box are moved to its wall.
    """
    step = float(DEPTHS[1] - DEPTHS[0])
    colors = np.empty((len(points), 3), np.float32)
    count = CHUNK // len(DEPTHS)
    wall = head.box * WALL
    for start in range(0, len(points), count):
        part = slice(start, start + count)
        along = points[part, None] - DEPTHS[:, None] * normals[part, None]
        inside = torch.from_numpy(along.reshape(-1, 3).astype(np.float32)).clamp(-wall, wall)
        with torch.inference_mode():
            density, color = head.field(inside)
        passed = (density.float() * step).reshape(-1, len(DEPTHS))
        before = passed.cumsum(1) - passed
        weight = torch.exp(-before) * -torch.expm1(-passed) + 1e-8
        mixed = (weight[..., None] * color.float().reshape(*weight.shape, 3)).sum(1) / weight.sum(1, keepdim=True)
        colors[part] = mixed.clamp(0, 1).cpu().numpy()
    return colors


def painted(head: Head, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Colours (V, 3) of all vertices; a cap where the neck is cut takes the mean colour of its rim."""
    caps = on_caps(vertices, faces, head.box)
    normals = vertex_normals(vertices, faces[~caps])
    colors = surface_colors(head, vertices, normals)
    cap, side = np.zeros(len(vertices), bool), np.zeros(len(vertices), bool)
    cap[faces[caps]], side[faces[~caps]] = True, True
    if (cap & ~side).any() and (cap & side).any():
        colors[cap & ~side] = colors[cap & side].mean(0)
    return colors


def detailed(
    head: Head, vertices: np.ndarray, faces: np.ndarray, colors: np.ndarray, rounds: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits triangles where their corners differ visibly in colour, so that vertex colours can show eyes and lips.

    The shape stays as it is and the surface closed: neighbours of a split edge are split along.

    Returns:
        Vertices, faces and colours.
    """
    for _ in range(rounds):
        # On a closed surface each edge is met once in each direction.
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        edges = edges[edges[:, 0] < edges[:, 1]]
        caps = np.zeros(len(vertices), bool)
        caps[faces[on_caps(vertices, faces, head.box)]] = True
        change = np.abs(colors[edges[:, 0]] - colors[edges[:, 1]]).max(1)
        change[caps[edges].any(1)] = 0
        chosen = np.flatnonzero(change > VISIBLE_STEP)
        if not len(chosen):
            break
        chosen = np.sort(chosen[np.argsort(-change[chosen], kind="stable")[:MOST_NEW]])
        normals = vertex_normals(vertices, faces)
        ends = edges[chosen]
        middle = vertices[ends].mean(1)
        faces = _split(faces, ends, len(vertices))
        tilt = normals[ends].sum(1)
        tilt /= np.maximum(np.linalg.norm(tilt, axis=1, keepdims=True), 1e-12)
        vertices = np.concatenate([vertices, middle])
        colors = np.concatenate([colors, surface_colors(head, middle, tilt)])
    return vertices, faces, colors


def _split(faces: np.ndarray, ends: np.ndarray, count: int) -> np.ndarray:
    """Faces after the edges ``ends`` (E, 2), lower vertex first, got a vertex each, numbered from ``count``."""
    key = ends[:, 0] * count + ends[:, 1]
    order = np.argsort(key)
    after = np.roll(faces, -1, axis=1)
    wanted = np.minimum(faces, after) * count + np.maximum(faces, after)
    place = np.searchsorted(key[order], wanted).clip(max=len(key) - 1)
    new = np.where(key[order][place] == wanted, count + order[place], -1)
    return split_faces(faces, new)
