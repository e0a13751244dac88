"""Exemplars taken apart: skin without features, and eyes, brows and mouth as cut-outs that can be moved and blended.

In: exemplars laid out. Out: ``Exemplar`` layers. Features are brought to one place and size before they are blended,
so that a blend of several exemplars stays as crisp as each of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from agile3d_linear.layout import Layout
from agile3d_linear.mesh import PARTS
from agile3d_linear.picture import blur, fill, ramp, resize, sample
from agile3d_linear.tone import to_lab, to_rgb

PATCH = 128
"""Side of a cut-out, pixels."""
SPAN = 2.6
"""Half-width of a cut-out in standard deviations of the feature's own extent."""
SKIN_SIZE = 96
"""Side of the skin layer, pixels: it is smooth."""


@dataclass(frozen=True)
class Exemplar:
    """One exemplar's layers."""

    skin_tone: np.ndarray
    """(3,) Lab."""
    skin: np.ndarray
    """(s, s, 3) log of the skin over its tone: the style's shading without features."""
    patches: np.ndarray
    """(5, PATCH, PATCH, 4) cut-outs, colour times cover, and cover."""
    places: np.ndarray
    """(5, 4) centre u, v and extent u, v (standard deviations) in the layout, fractions."""


def skin_tone(face: np.ndarray, layout: Layout, seen: np.ndarray | None = None) -> np.ndarray:
    """(3,) Lab of the cheeks of a laid-out face (T, T, 3): the median, so that shadow, shine and hair do not count."""
    where = layout.cheeks if seen is None else layout.cheeks & seen
    if where.sum() < 16:
        where = layout.cheeks
    return np.median(to_lab(face[where]), 0).astype(np.float32)


def skin_likeness(lab: np.ndarray, tone: np.ndarray, shade: float = 1.0) -> np.ndarray:
    """How well colours (..., 3) Lab fit a skin tone under any usual light: 1 fits, 0 does not.

    ``shade``: how many times deeper than usual shadows may be.
    """
    difference = lab - tone
    # Shadow and shine change lightness most; saturation follows lightness.
    shadow = shade * float(np.clip(0.32 * tone[0], 7, 22))
    darker = np.where(difference[..., 0] < 0, difference[..., 0] / shadow, difference[..., 0] / 30)
    other = np.hypot(difference[..., 1], difference[..., 2]) / 14
    return np.exp(-(darker**2 + other**2)).astype(np.float32)


def take_apart(face: np.ndarray, layout: Layout) -> Exemplar:
    """Layers of one laid-out exemplar (T, T, 3) in [0, 1]."""
    tone = skin_tone(face, layout)
    found = layout.features
    bare = ramp(skin_likeness(to_lab(blur(face, 0.015 / layout.pixel)), tone), 0.15, 0.5) * layout.mask
    bare = bare * ~ndimage.binary_dilation(found.any(0), iterations=2) * (layout.inwards > 0.02)
    skin = fill(face, bare, 0.05 / layout.pixel)
    patches, places = zip(
        *(_cut_out(face, skin, region, layout, name) for region, name in zip(found, PARTS, strict=True)), strict=True
    )
    ratio = np.log((blur(skin, 0.02 / layout.pixel) + 0.02) / (to_rgb(tone) + 0.02))
    return Exemplar(tone, resize(ratio, SKIN_SIZE), np.stack(patches), np.stack(places))


def _cut_out(
    face: np.ndarray, skin: np.ndarray, region: np.ndarray, layout: Layout, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Cut-out and place of the feature in a region: what differs from the skin around it."""
    difference = np.sqrt(((face - skin) ** 2).sum(-1))
    strongest = float(np.percentile(difference[region], 93)) if region.any() else 0.0
    # An eye holds many colours, some of them like skin; brows and mouths hold one.
    eye = name.endswith("eye")
    threshold = 0.13 * float(np.clip(strongest, 0.5, 1)) if eye else float(np.clip(0.45 * strongest, 0.06, 0.4))
    inner = _main_parts((difference > threshold) & region)
    reach = max(1, round((0.15 if eye else 0.02) / layout.pixel))
    # Closing needs room at the border of the picture, which regions never touch.
    inner = ndimage.binary_fill_holes(ndimage.binary_closing(inner, _disc(reach))) & region
    near = ndimage.binary_dilation(inner, iterations=2) & region
    alpha = np.maximum(
        ramp(difference, 0.4 * threshold, 1.1 * threshold) * near, ndimage.binary_erosion(inner, iterations=1)
    )
    if alpha.sum() < 20:
        alpha = region * 0.02
    place = _extent(alpha.astype(np.float32))
    cut = np.concatenate([face * alpha[..., None], alpha[..., None]], -1).astype(np.float32)
    return sample(cut, patch_grid(place)), place


def _disc(radius: int) -> np.ndarray:
    v, u = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.hypot(u, v) <= radius + 0.5


def _main_parts(mask: np.ndarray) -> np.ndarray:
    """The largest connected part, and others nearly as large."""
    parts, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = ndimage.sum(mask, parts, range(1, count + 1))
    return np.isin(parts, 1 + np.flatnonzero(sizes > 0.3 * sizes.max()))


def _extent(alpha: np.ndarray) -> np.ndarray:
    """(4,) centre and standard deviations of a cover, fractions."""
    total = alpha.sum()
    axis = (np.arange(len(alpha)) + 0.5) / len(alpha)
    across, down = alpha.sum(0) / total, alpha.sum(1) / total
    u, v = across @ axis, down @ axis
    return np.array([u, v, np.sqrt(across @ (axis - u) ** 2), np.sqrt(down @ (axis - v) ** 2)], np.float32)


def patch_grid(place: np.ndarray) -> np.ndarray:
    """(PATCH, PATCH, 2) where in the layout the pixels of a cut-out lie, fractions."""
    axis = ((np.arange(PATCH) + 0.5) / PATCH * 2 - 1) * SPAN
    v, u = np.meshgrid(place[1] + axis * place[3], place[0] + axis * place[2], indexing="ij")
    return np.stack([u, v], -1)


def put_back(patch: np.ndarray, place: np.ndarray, size: int) -> tuple[slice, slice, np.ndarray]:
    """A cut-out at its place in a layout picture: rows, columns and what to lay there (h, w, C)."""
    low = np.clip(np.floor((place[:2] - SPAN * place[2:]) * size), 0, size - 1).astype(int)
    high = np.clip(np.ceil((place[:2] + SPAN * place[2:]) * size), low + 1, size).astype(int)
    u = ((np.arange(low[0], high[0]) + 0.5) / size - place[0]) / (SPAN * place[2]) / 2 + 0.5
    v = ((np.arange(low[1], high[1]) + 0.5) / size - place[1]) / (SPAN * place[3]) / 2 + 0.5
    grid = np.stack(np.meshgrid(u, v, indexing="xy"), -1)
    inside = ((grid > 0) & (grid < 1)).all(-1, keepdims=True)
    return slice(low[1], high[1]), slice(low[0], high[0]), sample(patch, grid, "bilinear") * inside
