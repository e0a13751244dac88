"""Latent z -> what a subject is: shape, expression, skin, hair, eyes, light.

Every coordinate of z is standard normal and acts through a smooth map, so any z is a valid head and each direction
has a meaning. The generator learns the same coordinates; ``mini``'s z is exactly this layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

from agile3d_cli.heads.template import EXPRESSIONS, FULL_SHAPES

HAIR_STYLES = (
    "short01", "short02", "short03", "short04", "bob01", "bob02",
    "long01", "braid01", "ponytail01", "afro01", "buzz", "bald",
)  # fmt: skip
"""Kit meshes, plus ``buzz`` (painted scalp only) and ``bald``."""
HAIR_BIAS = (0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.2, 0.0, 0.5, -0.2, 0.3, -0.3)
LAYOUT = (
    ("shape", FULL_SHAPES),
    ("expression", len(EXPRESSIONS)),
    ("skin", 6),
    ("face_paint", 3),
    ("brow", 4),
    ("eye", 2),
    ("beard", 2),
    ("hair_style", len(HAIR_STYLES)),
    ("hair", 6),
    ("light", 5),
    ("cloth", 3),
)
"""Names and sizes of the groups of z, in order."""
Z_DIM = sum(size for _, size in LAYOUT)
EXPRESSION_RANGE = ((1.0, -0.6), (0.6, -1.5), (0.25, -1.8), (0.5, -1.5), (0.9, -1.5),
                    (0.9, -1.5), (0.7, -1.2), (0.6, -1.5), (0.5, -2.2), (0.5, -2.0))  # fmt: skip
"""Strength at full and bias of each expression: weight = strength * sigmoid(1.6 g + bias)."""


def group(z: np.ndarray, name: str) -> np.ndarray:
    """The coordinates of one group, z (..., Z_DIM) -> (..., size)."""
    start = 0
    for key, size in LAYOUT:
        if key == name:
            return z[..., start : start + size]
        start += size
    raise KeyError(name)


def expression_weights(g: np.ndarray) -> np.ndarray:
    """Expression strengths from their latent coordinates, (..., E) -> (..., E), each >= 0."""
    strength, bias = np.array(EXPRESSION_RANGE).T
    return strength / (1 + np.exp(-(1.6 * g + bias)))


@dataclass(frozen=True)
class Parameters:
    """One subject. Colours are linear RGB in [0, 1]; shares are in [0, 1]."""

    shape: np.ndarray
    expression: np.ndarray
    tone: float
    """0 palest to 1 darkest skin."""
    redness: float
    age: float
    male: float
    skin_variants: tuple[float, float]
    lip_colour: float
    freckles: float
    eye_shadow: float
    brow_style: int
    brow_darkness: float
    eye_colour: int
    beard: float
    stubble: float
    hair_style: str
    hair_mirrored: bool
    hair_colour: np.ndarray
    hair_volume: float
    hair_bottom: float
    """Hair below this height (world units) is cut off."""
    fringe: float
    """Height of the fringe's lower edge over the face, world units."""
    light: np.ndarray
    """Unit vector towards the key light."""
    ambient: float
    warmth: float
    brightness: float
    cloth: np.ndarray


HAIR_RAMP = np.array(
    [[0.012, 0.010, 0.009], [0.035, 0.020, 0.013], [0.09, 0.048, 0.026],
     [0.22, 0.125, 0.06], [0.45, 0.30, 0.15], [0.68, 0.54, 0.36]]
)  # fmt: skip
"""Black over brown to pale blond, linear RGB."""
HAIR_FOLLOWS_SKIN = 2.2
"""Standard deviations by which hair and eyes are darker on the darkest skin than on the palest."""
RED_HAIR = np.array([0.32, 0.09, 0.025])
GREY_HAIR = np.array([0.48, 0.47, 0.46])


def _share(g: float) -> float:
    """Standard normal -> uniform in [0, 1]."""
    return 0.5 * (1 + erf(g / sqrt(2)))


def _sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def _ramp(stops: np.ndarray, t: float) -> np.ndarray:
    t = float(np.clip(t, 0, 1)) * (len(stops) - 1)
    i = min(int(t), len(stops) - 2)
    return stops[i] * (1 - (t - i)) + stops[i + 1] * (t - i)


def parameters(z: np.ndarray) -> Parameters:
    """Reads one latent (Z_DIM,)."""
    if z.shape != (Z_DIM,):
        raise ValueError(f"z has shape {z.shape}, expected ({Z_DIM},)")
    g = {name: group(z, name).astype(float) for name, _ in LAYOUT}
    skin, hair, light, brow = g["skin"], g["hair"], g["light"], g["brow"]
    style = int(np.argmax(g["hair_style"] + np.array(HAIR_BIAS)))
    age, male = _sigmoid(1.6 * skin[2] - 0.5), _sigmoid(2.5 * skin[3])
    tone = _share(skin[0])
    colour = _ramp(HAIR_RAMP, _share(hair[0] - HAIR_FOLLOWS_SKIN * (tone - 0.35)))
    red = _sigmoid(3 * (hair[1] - 1.3))
    colour = colour * (1 - red) + RED_HAIR * red
    grey = _sigmoid(3 * (hair[2] - 1.2)) * 0.95
    colour = colour * (1 - grey) + GREY_HAIR * grey
    azimuth, height = 0.6 * light[0], 0.55 + 0.3 * light[1]
    return Parameters(
        shape=g["shape"],
        expression=expression_weights(g["expression"]),
        tone=tone,
        redness=float(skin[1]),
        age=age,
        male=male,
        skin_variants=(_share(skin[4]), _share(skin[5])),
        lip_colour=_sigmoid(2 * g["face_paint"][0] - 2) * (1 - male),
        freckles=_sigmoid(2.5 * g["face_paint"][1] - 3),
        eye_shadow=_sigmoid(2 * g["face_paint"][2] - 2) * (1 - male),
        brow_style=int(_share(brow[0]) * 11.999),
        brow_darkness=_share(brow[1]),
        eye_colour=int(_share(g["eye"][0] - HAIR_FOLLOWS_SKIN * (tone - 0.35)) * 8.999),
        beard=_sigmoid(3.5 * (g["beard"][0] - 1.1)) * min(1.0, 2 * male),
        stubble=_sigmoid(2.5 * (g["beard"][1] - 0.6)) * min(1.0, 2 * male),
        hair_style=HAIR_STYLES[style],
        hair_mirrored=bool(brow[2] > 0),
        hair_colour=colour,
        hair_volume=float(np.clip(1 + 0.16 * hair[3], 0.7, 1.5)),
        hair_bottom=-0.62 + 0.6 * _share(hair[4]),
        fringe=0.15 + 0.13 * _share(hair[5]),
        light=np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]),
        ambient=float(np.clip(0.55 + 0.12 * light[2], 0.25, 0.85)),
        warmth=float(0.05 * light[3]),
        brightness=float(np.exp(0.12 * light[4])),
        cloth=np.array([_share(c) for c in g["cloth"]]) ** 2 * 0.7 + 0.02,
    )
