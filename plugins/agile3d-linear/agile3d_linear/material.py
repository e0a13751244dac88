"""Styles of one material, such as clay or ink: what is drawn has the material's colour at its lightness.

Most styles paint skin, hair and clothes in colours of their own, and a sitter's tones say whose they are. Where the
exemplars' colours follow from their lightness alone, the material is the style: hair and skin take its colours, and
lightness the range that it has; skins of people lie as far apart as the exemplars' do. Hair stands out from the skin as
much as the exemplars' does, and eyes, brows and mouth are darker or lighter than the skin around them by what the
exemplars' are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agile3d_linear.picture import ramp, resize, sample
from agile3d_linear.tone import to_lab, to_rgb

KNOTS = 17
"""Of the curves, evenly over lightness."""
WIDTH = 5.0
"""Lightness over which colours are averaged."""
ONE, MANY = 0.42, 0.65
"""Deviation of chroma at one lightness, over that of realistic faces: below the first a style is of one material, above
the second it is not. Measured: line drawings 0.04, inked heads 0.27, clay 0.39, flat avatars 0.83, cartoons 1.6."""
SEEN = 64
"""Edge of the pictures that are looked at, pixels."""
MIDDLE, RADII = (0.5, 0.47), (0.24, 0.3)
"""Of the ellipse in them that shows face and hair alone, u and v."""
LEVELS = np.linspace(2, 98, 25)
"""Percentiles of lightness that are brought to each other."""
LIGHTNESS = np.linspace(0, 100, KNOTS)
FOREHEAD_EDGE, TOP, CHIN = (10, 109, 338, 67, 297), 10, 152
"""Mesh points."""
ABOVE = (0.06, 0.1, 0.14)
"""Where hair is looked at: so far above the forehead's edge, faces' heights."""


@dataclass(frozen=True)
class Material:
    """What becomes of a colour."""

    share: float
    """How far colours go to the material's, 0 to 1."""
    curve: np.ndarray
    """(KNOTS, 3) Lab that each of ``LIGHTNESS`` becomes."""
    hair: float = 1.0
    """Difference in lightness between hair and skin, over that of realistic faces, at most 1."""
    skins: tuple[float, float] = (0.0, 1.0)
    """Mean and deviation of realistic skins' lightness."""

    def skin(self, own: np.ndarray, tone: np.ndarray, palette: np.ndarray, color: float) -> np.ndarray:
        """The tone (3,) Lab of a skin ``own`` (3,) that were ``tone`` (3,) in a style of many materials.

        Its lightness lies in the exemplars' skins, ``palette`` (E, 3), where the own lies in realistic ones, counted in
        deviations.
        """
        usual, deviation = self.skins
        theirs = palette[:, 0]
        light = theirs.mean() + (own[0] - usual) * theirs.std() / max(deviation, 1.0)
        light = np.clip(light, theirs.min(), theirs.max())
        return np.array([tone[0] + self.share * color * (light - tone[0]), *tone[1:]])

    def hair_kept(self, color: float) -> float:
        """Share of a sitter's own difference between hair and skin that is kept at a setting ``color``, 0 to 1."""
        return 1 - self.share * color * (1 - self.hair)

    def __call__(self, picture: np.ndarray, person: np.ndarray, color: float = 1.0) -> np.ndarray:
        """The picture (S, S, 3) in [0, 1] with the person, (S, S, 1) in [0, 1], made of the material."""
        if not self.share * color:
            return picture
        lab = to_lab(picture)
        made = np.stack([np.interp(lab[..., 0], LIGHTNESS, self.curve[:, k]) for k in range(3)], -1)
        return to_rgb(lab + self.share * color * person * (made - lab))


NO_MATERIAL = Material(0.0, np.column_stack([LIGHTNESS, 0 * LIGHTNESS, 0 * LIGHTNESS]))
"""Leaves colours as they are."""


def share_of_one(exemplars: Sequence[np.ndarray], faces: Sequence[np.ndarray]) -> float:
    """How much a style is of one material, 0 to 1, from pictures (S, S, 3) in [0, 1] of it and of realistic faces."""
    apart = [_apart(_pixels(pictures)) for pictures in (exemplars, faces)]
    return float(1 - ramp(np.asarray(apart[0] / max(apart[1], 1e-3)), ONE, MANY))


def hair_over_skin(picture: np.ndarray, landmarks: np.ndarray, skin: np.ndarray) -> float:
    """How much darker (below 0) or lighter what grows above the forehead is than the skin (3,) Lab, L of Lab.

    Args:
        picture: (S, S, 3) in [0, 1].
        landmarks: (468, 3) fractions of the picture.
        skin: its tone.
    """
    top, up = landmarks[list(FOREHEAD_EDGE), :2], landmarks[TOP, :2] - landmarks[CHIN, :2]
    places = (top + np.reshape(ABOVE, (-1, 1, 1)) * up).reshape(-1, 2)
    # A crown may be cut off; the picture's edge stands for what is beyond it.
    colours = sample(picture, np.clip(places, 0.01, 0.99)[None])
    return float(np.median(to_lab(colours)[..., 0]) - skin[0])


def material_of(exemplars: Sequence[np.ndarray], drawn: Sequence[np.ndarray], known: Material) -> Material:
    """The material of exemplars, for faces that were drawn in their style but for its colours; pictures as above.
    ``known`` is what is known of it without them: all but the curve."""
    pixels, own = _pixels(exemplars), _pixels(drawn)
    before, after = np.percentile(own[:, 0], LEVELS), np.percentile(pixels[:, 0], LEVELS)
    # Beyond what was seen, lightness goes on in parallel.
    inside = np.clip(LIGHTNESS, before[0], before[-1])
    light = np.clip(np.interp(inside, np.maximum.accumulate(before), after) + 0.3 * (LIGHTNESS - inside), 0, 100)
    light = _no_steeper(light, float(np.median(own[:, 0])))
    return replace(known, curve=np.column_stack([light, _colours_at(light, pixels)]))


def _no_steeper(light: np.ndarray, middle: float) -> np.ndarray:
    """The curve (KNOTS,) of lightness, the same at ``middle`` and nowhere steeper than 1.

    Pictures of a style are further apart in lightness than faces drawn flat, by light and shade; pulled apart as far,
    the drawn ones' people would be.
    """
    steps = np.concatenate([[0], np.cumsum(np.minimum(np.diff(light), np.diff(LIGHTNESS)))])
    kept = np.interp(middle, LIGHTNESS, light) - np.interp(middle, LIGHTNESS, steps)
    return np.clip(kept + steps, 0, 100)


def _colours_at(light: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Mean chroma (K, 2) of pixels (P, 3) Lab around lightnesses (K,)."""
    near = np.exp(-(((light[:, None] - pixels[None, :, 0]) / WIDTH) ** 2) / 2) + 1e-9
    return near @ pixels[:, 1:] / near.sum(1, keepdims=True)


def _apart(pixels: np.ndarray) -> float:
    """Deviation of chroma from what the lightness tells."""
    usual = _colours_at(LIGHTNESS, pixels)
    told = np.stack([np.interp(pixels[:, 0], LIGHTNESS, usual[:, k]) for k in range(2)], -1)
    return float(np.sqrt(np.square(pixels[:, 1:] - told).sum(1).mean()))


def _pixels(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Lab (P, 3) of face and hair."""
    axis = (np.arange(SEEN) + 0.5) / SEEN
    v, u = np.meshgrid(axis, axis, indexing="ij")
    inside = ((u - MIDDLE[0]) / RADII[0]) ** 2 + ((v - MIDDLE[1]) / RADII[1]) ** 2 < 1
    return np.concatenate([to_lab(resize(picture, SEEN))[inside] for picture in pictures])
