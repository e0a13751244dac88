"""What a latent stands for, as numbers: the colours of a subject's parts and how much there is of each thing.

They are curved functions of several coordinates (hair is lighter on pale skin, grey with age, beards grow on men),
which a network would need very many pictures to learn; from latents alone they cost nothing.
"""

from __future__ import annotations

import numpy as np

from agile3d_cli.heads.appearance import BROWN, brown_share, skin_tone
from agile3d_cli.heads.parameters import EYES, Parameters

LIT = 0.78
"""Light that an unshaded surface gets on average, linear."""


def traits(p: Parameters) -> np.ndarray:
    """Traits (``COUNT``,) of a subject: six colours as pictures show them, eyes, amounts, light and hair's cut."""
    brow = p.hair_colour * (0.9 - 0.55 * p.brow_darkness)
    worn = (p.cloth, p.headwear_colour, p.glasses_colour)
    colours = np.stack([skin_tone(p.tone, p.redness), p.hair_colour, brow, *worn])
    key = np.array([1 + p.warmth, 1, 1 - p.warmth])
    shown = np.clip(p.brightness * LIT * colours * key, 0, 1) ** (1 / 2.2)
    brown = brown_share(p.tone)
    eyes = (1 - brown) * np.eye(len(EYES))[p.eye_colour] + brown * np.eye(len(EYES))[BROWN]
    amounts = [p.tone, p.male, p.age, p.beard, p.stubble, p.lip_colour, p.eye_shadow, p.freckles, p.age * p.male]
    light = [*p.light, p.ambient, p.brightness]
    return np.concatenate([shown.ravel(), eyes, amounts, light, [p.hair_volume, p.hair_bottom, p.fringe]])


COUNT = 41
"""Number of traits."""
