"""The photo's face measured: the latent of appearance.

In: a laid-out photo. Out: tones, brows, beard and fringe of the sitter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from agile3d_cli.face.outlines import LEFT_EYE, MOUTH
from agile3d_linear.features import skin_likeness, skin_tone
from agile3d_linear.layout import Layout
from agile3d_linear.mesh import LEFT_BROW, mirrored, with_ring
from agile3d_linear.picture import blur, fill, ramp
from agile3d_linear.shape import freed
from agile3d_linear.smooth import smooth
from agile3d_linear.tone import to_lab

CALM = 0.04
"""Detail smaller than this is not relief, eye distances."""
JAW, WIDTH = (172, 397), (234, 454)
"""Mesh points whose distances tell a narrow chin from a broad one."""
BEARD_ZONES = ((175, 199), (164,))
"""Mesh points in the middle of chin and upper lip."""


@dataclass(frozen=True)
class Sitter:
    """What is measured on one face. Pictures are layout pictures at the size at which they were measured."""

    skin: np.ndarray
    """(3,) Lab."""
    brow: np.ndarray
    """(3,) Lab."""
    brow_strength: float
    """How thick and dark the brows are: mean difference from the skin over their region, Lab units."""
    iris: np.ndarray
    """(3,) Lab."""
    beard: np.ndarray
    """(T, T) in [0, 1]: where a beard covers the skin."""
    beard_tone: np.ndarray
    """(3,) Lab."""
    fringe: np.ndarray
    """(T, T) in [0, 1]: where hair hangs into the face."""
    light: np.ndarray
    """(T, T, 1) log of the soft light and shade on the face."""
    relief: np.ndarray
    """(T, T, 1) log of what lies on the skin beyond that light: nose, folds, sockets, without small detail."""
    seen: np.ndarray
    """(T, T) bool: the side of the face that the photo shows."""


def shape_traits(points: np.ndarray) -> np.ndarray:
    """(2,) of a face in the standard frame: breadth of the jaw over that of the face, height of the brows."""
    jaw = np.linalg.norm(points[JAW[0]] - points[JAW[1]]) / np.linalg.norm(points[WIDTH[0]] - points[WIDTH[1]])
    brows = points[list(LEFT_BROW + mirrored(LEFT_BROW)), 1].mean()
    eyes = points[list(LEFT_EYE + mirrored(LEFT_EYE)), 1].mean()
    return np.array([jaw, brows - eyes])


def traits_of(sitter: Sitter, landmarks: np.ndarray) -> np.ndarray:
    """(3,) see ``StyleLayers.traits``, not yet in standard deviations; landmarks (468, 3) fractions of the picture."""
    return np.array([*shape_traits(freed(landmarks)), sitter.brow_strength])


def measured(picture: np.ndarray, landmarks: np.ndarray, layout: Layout) -> Sitter:
    """Measures a picture (S, S, 3) in [0, 1] with its landmarks (468, 3), fractions of it."""
    return measure(layout.half.unwrap(picture, landmarks), landmarks, layout.half)


def measure(face: np.ndarray, landmarks: np.ndarray, layout: Layout) -> Sitter:
    """Measures a laid-out photo (T, T, 3) whose landmarks (468, 3) are fractions of the photo."""
    seen = _seen(landmarks, layout)
    lab = to_lab(face)
    soft = blur(lab, 0.012 / layout.pixel)
    skin = skin_tone(face, layout, seen)
    brow, strength = _brows(lab, skin, seen, layout)
    fringe = _fringe(soft, skin, layout)
    light = _light(lab, skin, seen, layout)
    beard, beard_tone = _beard(soft, skin, light, seen, layout)
    relief = _relief(face, light, skin, seen, fringe, layout)
    iris = _iris(lab, seen, layout)
    return Sitter(skin, brow, strength, iris, beard, beard_tone, fringe, light, relief, seen)


def _seen(landmarks: np.ndarray, layout: Layout) -> np.ndarray:
    """(T, T) bool: the side of the face that the photo shows."""
    places = layout.cover.spread(with_ring(np.asarray(landmarks, float))[:, :2])
    du, dv = np.gradient(places, axis=1), np.gradient(places, axis=0)
    area = du[..., 0] * dv[..., 1] - du[..., 1] * dv[..., 0]
    return (area > 0.2 * np.median(area[layout.oval])) & layout.oval


def _brows(lab: np.ndarray, skin: np.ndarray, seen: np.ndarray, layout: Layout) -> tuple[np.ndarray, float]:
    region = (layout.region(LEFT_BROW) | layout.region(mirrored(LEFT_BROW))) & seen
    colors = lab[region]
    if len(colors) < 16:
        return skin * [0.6, 0.6, 0.6], 10.0
    away = np.clip(skin[0] - colors[:, 0], 0, None)
    hair = np.argsort(-away)[: max(8, int(len(away) * 0.4))]
    return colors[hair].mean(0).astype(np.float32), float(away.mean())


def _iris(lab: np.ndarray, seen: np.ndarray, layout: Layout) -> np.ndarray:
    """The middle tones between the lids: neither the pupil and lashes nor the white.

    Both the eye's white and the light tint everything alike, so the white's tint is taken off.
    """
    region = (layout.region(LEFT_EYE) | layout.region(mirrored(LEFT_EYE))) & seen
    colors = lab[region]
    if len(colors) < 30:
        return np.array([25.0, 8.0, 10.0], np.float32)
    light = colors[:, 0]
    low, high, white = np.percentile(light, [15, 55, 80])
    iris = np.median(colors[(light >= low) & (light <= high)], 0)
    tint = np.median(colors[light >= white], 0)
    return np.array([iris[0], iris[1] - 0.8 * tint[1], iris[2] - 0.8 * tint[2]], np.float32)


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


def _beard(
    soft: np.ndarray, skin: np.ndarray, light: np.ndarray, seen: np.ndarray, layout: Layout
) -> tuple[np.ndarray, np.ndarray]:
    """Beard: clearly darker than skin in this light, where beards grow, on both sides of the face.

    Folds and shadows are dark too; a beard is believed as far as chin or upper lip are dark as a whole.
    """
    expected = float(max(skin[0], 20.0)) * np.exp(0.7 * light[..., 0])
    darker = blur(1 - soft[..., 0] / expected, 0.015 / layout.pixel)
    other = darker[:, ::-1]
    both = np.where(seen & seen[:, ::-1], np.minimum(darker, other + 0.1), np.where(seen, darker, other))
    zones = [_around(layout.points[list(zone), :2].mean(0), layout) & (layout.beard > 0.5) for zone in BEARD_ZONES]
    certain = max(float(np.median(both[zone])) if zone.any() else 0.0 for zone in zones)
    broad = ndimage.grey_opening(both, footprint=_disc(0.03 / layout.pixel))
    broad = ndimage.grey_closing(broad, footprint=_disc(0.07 / layout.pixel))
    beard = ramp(blur(broad, 0.04 / layout.pixel), 0.13, 0.42) * layout.beard
    beard = beard * ramp(np.array(certain), 0.17, 0.32)
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


def _light(lab: np.ndarray, skin: np.ndarray, seen: np.ndarray, layout: Layout) -> np.ndarray:
    """Soft light: lightness of what looks like skin, spread over the rest."""
    bare = ramp(skin_likeness(lab, skin), 0.1, 0.4) * ~layout.features.any(0) * seen
    if bare.sum() < 50:
        return np.zeros((*lab.shape[:2], 1), np.float32)
    lightness = fill(lab[..., :1], bare, 0.08 / layout.pixel)
    light = np.log(np.clip(blur(lightness, 0.12 / layout.pixel), 5, None) / max(float(skin[0]), 5.0))
    # Skin is measured on the cheeks, the brightest part; the style's own shading tells the rest from them already.
    light = light - light[layout.oval].mean()
    return np.clip(light, -0.5, 0.3).astype(np.float32)


def _relief(
    face: np.ndarray, light: np.ndarray, skin: np.ndarray, seen: np.ndarray, fringe: np.ndarray, layout: Layout
) -> np.ndarray:
    """Forms of the face as the light draws them; the places of eyes, brows and mouth are filled from around."""
    calm = to_lab(smooth(face, CALM / layout.pixel / layout.size * 75))[..., :1]
    bare = seen * ~layout.features.any(0) * (1 - fringe)
    lightness = np.clip(fill(calm, bare.astype(np.float32), 0.02 / layout.pixel), 5, None)
    relief = np.log(lightness / max(float(skin[0]), 5.0)) - light
    relief = relief - np.median(relief[bare > 0.5]) if (bare > 0.5).any() else relief
    shown = blur((seen * (1 - fringe)).astype(np.float32), 0.06 / layout.pixel)[..., None]
    return (np.clip(relief, -0.45, 0.2) * ramp(shown, 0.5, 1.0)).astype(np.float32)
