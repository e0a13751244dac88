"""The photo's face measured: the latent of appearance.

In: a laid-out photo. Out: tones, brows, beard and fringe of the sitter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from agile3d_agilegan.features import PARTS, regions, skin_likeness, skin_tone
from agile3d_agilegan.layout import Layout
from agile3d_agilegan.mesh import LEFT_BROW, LEFT_EYE, MOUTH, mirrored, with_ring
from agile3d_agilegan.picture import blur, fill, ramp
from agile3d_agilegan.tone import to_lab, to_rgb

JAW, WIDTH = (172, 397), (234, 454)
"""Mesh points whose distances tell a narrow chin from a broad one."""
UNDER_NOSE = 2
BEARD_ZONES = ((175, 199), (164, 164), (150, 136), (379, 365))
"""Mesh points in the middle of chin, upper lip and both jaws."""


@dataclass(frozen=True)
class Sitter:
    """What is measured on one face."""

    skin: np.ndarray
    """(3,) Lab."""
    brow: np.ndarray
    """(3,) Lab."""
    brow_strength: float
    """How thick and dark the brows are: mean difference from the skin over their region, Lab units."""
    beard: np.ndarray
    """(T, T) in [0, 1]: where a beard covers the skin."""
    beard_tone: np.ndarray
    """(3,) Lab."""
    fringe: np.ndarray
    """(T, T) in [0, 1]: where hair hangs into the face."""
    light: np.ndarray
    """(T, T, 1) log of the soft light and shade on the face."""


def shape_traits(points: np.ndarray) -> np.ndarray:
    """(2,) of a face in the standard frame: breadth of the jaw over that of the face, height of the brows."""
    jaw = np.linalg.norm(points[JAW[0]] - points[JAW[1]]) / np.linalg.norm(points[WIDTH[0]] - points[WIDTH[1]])
    brows = points[list(LEFT_BROW + mirrored(LEFT_BROW)), 1].mean()
    eyes = points[list(LEFT_EYE + mirrored(LEFT_EYE)), 1].mean()
    return np.array([jaw, brows - eyes])


def measure(face: np.ndarray, landmarks: np.ndarray, layout: Layout) -> Sitter:
    """Measures a laid-out photo (T, T, 3) whose landmarks (468, 3) are fractions of the photo."""
    seen = _seen(landmarks, layout)
    lab = to_lab(face)
    soft = blur(lab, 0.012 / layout.pixel)
    skin = skin_tone(face, layout, seen)
    found = regions(layout)
    names = list(PARTS)
    brows = (found[names.index("left_brow")] | found[names.index("right_brow")]) & seen
    brow, strength = _brows(lab, skin, brows)
    fringe = _fringe(soft, skin, layout)
    light = _light(lab, skin, found, seen, layout)
    beard, beard_tone = _beard(soft, skin, light, layout)
    return Sitter(skin, brow, strength, beard, beard_tone, fringe, light)


def _seen(landmarks: np.ndarray, layout: Layout) -> np.ndarray:
    """(T, T) bool: the side of the face that the photo shows."""
    places = layout.cover.spread(with_ring(np.asarray(landmarks, float))[:, :2])
    du, dv = np.gradient(places, axis=1), np.gradient(places, axis=0)
    area = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
    return (area > 0.2 * np.median(area[layout.oval])) & layout.oval


def _brows(lab: np.ndarray, skin: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, float]:
    colors = lab[region]
    if len(colors) < 16:
        return skin * [0.6, 0.6, 0.6], 10.0
    # The darker half of the region is brow, apart from the eye's shadow at its rim.
    away = np.clip(skin[0] - colors[:, 0], 0, None)
    order = np.argsort(-away)[: max(8, len(away) // 5)]
    return colors[order].mean(0).astype(np.float32), float(away.mean())


def _fringe(soft: np.ndarray, skin: np.ndarray, layout: Layout) -> np.ndarray:
    """Hair in the face: not the colour of skin, above the brows or at the sides, joined to the hair outside."""
    difference = soft - skin
    darker = np.clip(-difference[..., 0] - 6, 0, None) * 0.8
    distance = np.sqrt(darker**2 + difference[..., 1] ** 2 + (0.8 * difference[..., 2]) ** 2)
    hair = ramp(distance, 13, 24)
    points = layout.points
    top = points[list(LEFT_BROW + mirrored(LEFT_BROW)), 1].min()
    mouth = points[list(MOUTH), 1].min()
    v = ((np.arange(layout.size) + 0.5) / layout.size)[:, None]
    above = ramp(-(v - top), 0.0, 0.03)
    side = ramp(-layout.inwards, -0.22, -0.10) * ramp(-(v - mouth), -0.02, 0.04)
    strict = ramp(distance, 22, 34)
    hair = np.maximum(hair * above, strict * side)
    parts, count = ndimage.label(hair > 0.3)
    if count == 0:
        return hair
    rim = (parts > 0) & (layout.inwards < 0.06)
    least = (0.12 / layout.pixel) ** 2
    joined = [part for part in np.unique(parts[rim]) if (parts == part).sum() > least]
    kept = blur(np.isin(parts, joined).astype(np.float32), 0.02 / layout.pixel)
    return np.clip(blur(hair, 0.012 / layout.pixel) * ramp(kept, 0.1, 0.6), 0, 1)


def _beard(soft: np.ndarray, skin: np.ndarray, light: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Beard: clearly darker than skin in this light, in the lower face, the mouth and its shadow left out.

    Folds and shadows are dark too; a beard is believed as far as chin or upper lip are dark as a whole.
    """
    points = layout.points
    v = ((np.arange(layout.size) + 0.5) / layout.size)[:, None]
    low = ramp(v - points[UNDER_NOSE, 1], -0.02, 0.03) * layout.oval
    mouth = ndimage.distance_transform_edt(~layout.region(MOUTH)) * layout.pixel
    low = low * ramp(mouth, 0.015, 0.05)
    expected = float(max(skin[0], 20.0)) * np.exp(0.7 * light[..., 0])
    darker = blur(1 - soft[..., 0] / expected, 0.015 / layout.pixel)
    zones = [_around(points[list(zone), :2].mean(0), layout) & (low > 0.5) for zone in BEARD_ZONES]
    chin, lip, left, right = (float(np.median(darker[zone])) if zone.any() else 0.0 for zone in zones)
    # One dark jaw is a shadow.
    certain = max(chin, lip, min(left, right))
    broad = ndimage.grey_opening(darker, footprint=_disc(0.03 / layout.pixel))
    beard = ramp(blur(broad, 0.02 / layout.pixel), 0.18, 0.40) * low * ramp(np.array(certain), 0.14, 0.30)
    tone = skin * [0.5, 0.5, 0.5]
    dark = beard * ramp(darker, 0.25, 0.5)
    if dark.sum() > 30:
        tone = (soft * dark[..., None]).sum((0, 1)) / dark.sum()
    return beard, tone.astype(np.float32)


def _disc(radius: float) -> np.ndarray:
    v, u = np.mgrid[-int(radius) : int(radius) + 1, -int(radius) : int(radius) + 1]
    return np.hypot(u, v) <= radius


def _around(centre: np.ndarray, layout: Layout, radius: float = 0.13) -> np.ndarray:
    """(T, T) bool: a disc around a place (fractions); the radius in eye distances."""
    v, u = (np.mgrid[: layout.size, : layout.size] + 0.5) / layout.size
    return np.hypot(u - centre[0], v - centre[1]) * layout.size * layout.pixel < radius


def _light(lab: np.ndarray, skin: np.ndarray, found: np.ndarray, seen: np.ndarray, layout: Layout) -> np.ndarray:
    """Soft light: lightness of what looks like skin, spread over the rest."""
    bare = ramp(skin_likeness(lab, skin), 0.1, 0.4) * ~found.any(0) * seen
    if bare.sum() < 50:
        return np.zeros((*lab.shape[:2], 1), np.float32)
    lightness = fill(lab[..., :1], bare, 0.08 / layout.pixel)
    light = np.log(np.clip(blur(lightness, 0.12 / layout.pixel), 5, None) / max(float(skin[0]), 5.0))
    return np.clip(light, -0.5, 0.3).astype(np.float32)


def seen_rgb(lab: np.ndarray) -> np.ndarray:
    """Lab to sRGB, for callers that hold measured tones."""
    return to_rgb(lab)
