"""What a latent stands for, as numbers: the colours of a subject's parts and how much there is of each thing.

They are curved functions of several coordinates (hair is lighter on pale skin, grey with age, beards grow on men),
which a network would need very many pictures to learn; from latents alone they cost nothing.
"""

from __future__ import annotations

import numpy as np

from agile3d_cli.heads.appearance import BROWN, brown_share, skin_tone
from agile3d_cli.heads.parameters import EYES, Parameters
from agile3d_cli.heads.parts import PARTS

LIT = 0.78
"""Light that an unshaded surface gets on average, linear."""
WHITE, BLACK = np.array([0.6, 0.58, 0.56]), np.full(3, 0.02)
"""Of eyeballs, and of lashes, linear RGB."""
IRISES = np.array(
    [[0.06, 0.03, 0.02], [0.15, 0.09, 0.04], [0.12, 0.15, 0.08],
     [0.16, 0.17, 0.17], [0.11, 0.18, 0.18], [0.08, 0.14, 0.25]]
)  # fmt: skip
"""Middle colours of the kit's irises, in the order of ``EYES``, linear RGB."""


def traits(p: Parameters) -> np.ndarray:
    """Traits (``COUNT``,) of a subject: six colours as pictures show them, eyes, amounts, light and hair's cut."""
    named = ("skin", "hair", "brows", "cloth", "headwear", "glasses")
    shown = part_colours(p)[[PARTS.index(name) for name in named]]
    eyes = _eyes(p)
    amounts = [p.tone, p.male, p.age, p.beard, p.stubble, p.lip_colour, p.eye_shadow, p.freckles, p.age * p.male]
    light = [*p.light, p.ambient, p.brightness]
    return np.concatenate([shown.ravel(), eyes, amounts, light, [p.hair_volume, p.hair_bottom, p.fringe]])


def part_colours(p: Parameters) -> np.ndarray:
    """About the colour (len(PARTS), 3) of each part as pictures show it, sRGB in [0, 1]."""
    colours = {
        "skin": skin_tone(p.tone, p.redness),
        "eyes": WHITE,
        "brows": p.hair_colour * (0.9 - 0.55 * p.brow_darkness),
        "lashes": BLACK,
        "teeth": 0.8 * WHITE,
        "hair": p.hair_colour,
        "glasses": p.glasses_colour,
        "headwear": p.headwear_colour,
        "iris": _eyes(p) @ IRISES,
        "painted_hair": 0.75 * p.hair_colour,
        "cloth": p.cloth,
    }
    key = np.array([1 + p.warmth, 1, 1 - p.warmth])
    linear = np.stack([colours[name] for name in PARTS])
    return np.asarray(np.clip(p.brightness * LIT * linear * key, 0, 1) ** (1 / 2.2))


def _eyes(p: Parameters) -> np.ndarray:
    """Shares (len(EYES),) of the eye colours."""
    brown, one = brown_share(p.tone), np.eye(len(EYES))
    return np.asarray((1 - brown) * one[p.eye_colour] + brown * one[BROWN])


COUNT = 41
"""Number of traits."""
