"""The generator of this linear model: latent of shape and appearance to the style's face in the layout.

In: a measured sitter, its traits, the exemplars' layers. Out: the face's colours and cover (T, T, 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agile3d_linear.config import LinearConfig
from agile3d_linear.features import put_back
from agile3d_linear.layout import Layout
from agile3d_linear.material import Material
from agile3d_linear.mesh import PARTS
from agile3d_linear.picture import ramp, resize
from agile3d_linear.sitter import Sitter
from agile3d_linear.tone import style_hair, style_skin, to_lab, to_rgb

NEAR = 0.6
"""Exemplars count by how near their traits are to the sitter's; this far, in standard deviations, they count e^-1/2."""
TONE_NEAR = 12.0
"""The same for skin lightness, Lab units."""
HUE = 0.7
"""How much of the colour of the style's shadows is kept: the surroundings have none of it."""


@dataclass(frozen=True)
class StyleLayers:
    """What all exemplars say together; see ``features.Exemplar`` for the parts."""

    skin_tones: np.ndarray
    """(E, 3) Lab."""
    skins: np.ndarray
    """(E, s, s, 3)."""
    patches: np.ndarray
    """(E, 5, PATCH, PATCH, 4)."""
    places: np.ndarray
    """(E, 5, 4)."""
    shapes: np.ndarray
    """(E, 468, 3) each exemplar's own deviation from the style's average shape, mirror-symmetric."""
    traits: np.ndarray
    """(E, 3) breadth of the jaw, height of the brows, strength of the brows; in the exemplars' own standard
    deviations from their mean."""
    trust: np.ndarray
    """(E, 5) in [0, 1]: whether the feature could be cut out well."""
    brightest: float
    """Lightness of bright skin among realistic faces, L of Lab."""


def nearness(style: StyleLayers, traits: np.ndarray) -> np.ndarray:
    """(E,) weights of the exemplars for a sitter's traits (3,)."""
    distance = (style.traits - np.clip(traits, -1.5, 1.5)) / NEAR
    return np.asarray(np.exp(-0.5 * (distance**2).sum(1)) + 1e-4)


def kindred_shape(style: StyleLayers, traits: np.ndarray) -> np.ndarray:
    """(468, 3) how the exemplars most like the sitter deviate from the style's average shape."""
    weight = nearness(style, traits)
    return np.einsum("e,epk->pk", weight / weight.sum(), style.shapes)


def trust_in(places: np.ndarray) -> np.ndarray:
    """(E, 5) from places (E, 5, 4): features whose place or size is far from the usual were cut out badly."""
    middle = np.median(places, 0)
    scale = np.median(np.abs(places - middle), 0) * 1.5 + 0.12 * middle[:, [2, 3, 2, 3]]
    distance = np.sqrt((((places - middle) / scale) ** 2).mean(2))
    return (1 / (1 + (distance / 2) ** 4)).astype(np.float32)


def draw(
    sitter: Sitter, traits: np.ndarray, style: StyleLayers, layout: Layout, config: LinearConfig, material: Material
) -> tuple[np.ndarray, np.ndarray]:
    """The sitter's face in the style.

    Args:
        sitter: measurements.
        traits: (3,) in standard deviations of realistic faces.
        style: exemplars' layers.
        layout: the frame.
        config: dials.
        material: of which the style may be.

    Returns:
        (T, T, 4) colours and cover, and the skin tone (3,) Lab it was drawn in.
    """
    tone = style_skin(sitter.skin, style.skin_tones, style.brightest, config)
    tone = material.skin(sitter.skin, tone, style.skin_tones, config.color)
    by_tone = np.exp(-0.5 * ((style.skin_tones[:, 0] - tone[0]) / TONE_NEAR) ** 2) + 1e-4
    by_trait = nearness(style, traits)
    shading = np.einsum("e,ehwc->hwc", by_tone / by_tone.sum(), style.skins)
    grey = shading.mean(-1, keepdims=True)
    own = config.light * sitter.light + config.likeness * sitter.relief
    shading = resize(grey + HUE * (shading - grey), layout.size) + resize(own, layout.size)
    face = np.clip((to_rgb(tone) + 0.02) * np.exp(shading) - 0.02, 0, 1)
    face = _lay_beard(face, sitter, tone, shading, config, material.hair_kept(config.color))
    # What is of the skin's material is as light as the skin is.
    relit = ((to_rgb(tone) + 0.02) / (to_rgb(style.skin_tones) + 0.02)) ** (material.share * config.color)
    relight = np.concatenate([relit, np.ones((len(relit), 1))], 1)
    for index, name in enumerate(PARTS):
        weight = by_trait * style.trust[:, index] + 1e-6
        if name == "mouth":
            weight = weight * by_tone
        weight = weight / weight.sum()
        patch = np.einsum("e,ec,ehwc->hwc", weight, relight, style.patches[:, index])
        patch[..., :3] = np.minimum(patch[..., :3], patch[..., 3:])
        place = weight @ style.places[:, index]
        if name.endswith("brow"):
            patch, place = _as_brow(patch, place, sitter, traits, config, material.share)
        if name.endswith("eye"):
            patch = _with_iris(patch, sitter, config)
        rows, columns, layer = put_back(_firm(patch), place, layout.size)
        face[rows, columns] = face[rows, columns] * (1 - layer[..., 3:]) + layer[..., :3]
    cover = ramp(layout.inwards, 0.01, 0.13) * (1 - resize(sitter.fringe[..., None], layout.size)[..., 0])
    return np.concatenate([face, cover[..., None]], -1).astype(np.float32), tone


def _firm(patch: np.ndarray) -> np.ndarray:
    """A blended cut-out with its edge made as steep as one exemplar's."""
    cover = patch[..., 3:]
    firm = ramp(cover, 0.2, 0.8)
    return np.concatenate([patch[..., :3] / np.maximum(cover, 1e-3) * firm, firm], -1)


def _as_brow(
    patch: np.ndarray, place: np.ndarray, sitter: Sitter, traits: np.ndarray, config: LinearConfig, one: float
) -> tuple[np.ndarray, np.ndarray]:
    """A brow in the sitter's colour, as far as the style is not of ``one`` material, and as strong as the sitter's."""
    cover = patch[..., 3:]
    color = to_rgb(style_hair(sitter.brow, config))
    own = patch[..., :3] / np.maximum(cover, 1e-3)
    light = own.mean(-1, keepdims=True)
    middle = (light * cover).sum() / max(float(cover.sum()), 1e-3)
    # The exemplars' brows are rounded: their light and shade stays.
    tinted = np.clip(color + (light - middle) * 0.4, 0, 1)
    tinted = tinted + one * config.color * (own - tinted)
    thickness = float(np.clip(1 + 0.12 * traits[2], 0.75, 1.25))
    return np.concatenate([tinted * cover, cover], -1), place * [1, 1, 1, thickness]


def _with_iris(patch: np.ndarray, sitter: Sitter, config: LinearConfig) -> np.ndarray:
    """An eye with its iris, the coloured middle tones of the cut-out, turned towards the sitter's."""
    cover = patch[..., 3:]
    lab = to_lab(np.clip(patch[..., :3] / np.maximum(cover, 1e-3), 0, 1))
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    iris = ramp(lab[..., 0], 8, 20) * ramp(-lab[..., 0], -75, -55) * ramp(chroma, 2, 6) * (cover[..., 0] > 0.7)
    own = np.array([np.clip(0.5 * (sitter.iris[0] - 30), -4, 12), *np.clip(2.2 * sitter.iris[1:], -30, 30)])
    turned = lab + np.array([own[0], 0, 0])
    turned[..., 1:] = 0.35 * lab[..., 1:] + 0.65 * own[1:]
    share = config.color * iris[..., None]
    return np.concatenate([to_rgb(lab + share * (turned - lab)) * cover, cover], -1)


def _lay_beard(
    face: np.ndarray, sitter: Sitter, tone: np.ndarray, shading: np.ndarray, config: LinearConfig, kept: float
) -> np.ndarray:
    color = to_rgb(tone + kept * (style_hair(sitter.beard_tone, config) - tone))
    beard = np.clip(color * np.exp(0.5 * shading), 0, 1)
    cover = 0.92 * resize(sitter.beard[..., None], len(face))
    return face * (1 - cover) + beard * cover
