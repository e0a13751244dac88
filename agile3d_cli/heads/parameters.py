"""Latent z -> what a subject is: shape, expression, skin, hair, eyes, light.

Every coordinate of z is standard normal and acts through a smooth map, so any z is a valid head and each direction
has a meaning. The generator learns the same coordinates; ``mini``'s z is exactly this layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, sqrt

import numpy as np

from agile3d_cli.heads.template import EXPRESSIONS, FULL_SHAPES, NAMED_SHAPES

HAIR_STYLES = (
    "short01", "short02", "short03", "short04", "bob01", "bob02",
    "long01", "braid01", "ponytail01", "afro01", "buzz", "bald",
)  # fmt: skip
"""Kit meshes, plus ``buzz`` (painted scalp only) and ``bald``."""
BROWS = (1, 2, 4, 6, 8, 11)
"""Numbers of the kit's eyebrows, one a brow style."""
EYES = ("brown", "brownlight", "green", "grey", "bluegreen", "blue")
BEARDS = ("full", "moustache", "goatee")
HEADWEAR = ("none", "beanie", "scarf")
COLLARS = ("round", "v_neck", "collar")
CHOICES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("hair_style", (0.5, 0.5, 0.0, 0.5, 0.0, 0.0, 0.2, 0.0, 0.5, -0.2, 0.3, -0.3)),
    ("brow_style", (0.0,) * len(BROWS)),
    ("eye_colour", (1.2, 0.7, -0.2, -0.2, -0.2, 0.3)),
    ("beard_form", (0.4, -0.4, 0.0)),
    ("headwear", (2.3, 0.0, 0.0)),
    ("cloth_form", (0.3, 0.0, 0.0)),
)
"""Groups of z whose largest coordinate + bias names the option."""
LAYOUT = (
    ("shape", FULL_SHAPES),
    ("expression", len(EXPRESSIONS)),
    ("skin", 5),
    ("face_paint", 3),
    ("brow", 1),
    ("brow_style", len(BROWS)),
    ("eye_colour", len(EYES)),
    ("gaze", 2),
    ("beard", 2),
    ("beard_form", len(BEARDS)),
    ("hair_style", len(HAIR_STYLES)),
    ("hair", 7),
    ("glasses", 5),
    ("headwear", len(HEADWEAR)),
    ("headwear_colour", 3),
    ("light", 5),
    ("cloth", 3),
    ("cloth_form", len(COLLARS)),
)
"""Names and sizes of the groups of z, in order."""
Z_DIM = sum(size for _, size in LAYOUT)
EXPRESSION_RANGE = ((0.9, -0.8), (0.5, -2.0), (0.25, -2.0), (0.5, -1.7), (0.8, -1.5),
                    (0.7, -2.2), (0.5, -2.0), (0.5, -1.6), (0.4, -2.5), (0.4, -2.3), (1.0, -3.6))  # fmt: skip
"""Strength at full and bias of each expression: weight = strength * sigmoid(1.6 g + bias)."""
GAZE_SPREAD = np.deg2rad(4.5)


def index(name: str, number: int = 0) -> int:
    """Position in z of one coordinate of a group."""
    start = 0
    for key, size in LAYOUT:
        if key == name:
            return start + number
        start += size
    raise KeyError(name)


GLASSES, MIRROR = 0, 1
"""Rows of ``SWITCHES``."""
SWITCHES: tuple[tuple[int, float], ...] = ((index("glasses", 0), 0.84), (index("hair", 6), 0.0))
"""Coordinates of z that act by being above a threshold: glasses worn, hair mirrored."""


def group(z: np.ndarray, name: str) -> np.ndarray:
    """The coordinates of one group, z (..., Z_DIM) -> (..., size)."""
    start = index(name)
    return z[..., start : start + dict(LAYOUT)[name]]


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
    skin_variant: float
    lip_colour: float
    freckles: float
    eye_shadow: float
    brow_style: int
    """Index into ``BROWS``."""
    brow_darkness: float
    eye_colour: int
    """Index into ``EYES``."""
    gaze: np.ndarray
    """Turn of the eyes to the right of the picture and up, radians."""
    beard: float
    beard_form: str
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
    cloth_form: str
    glasses: bool
    glasses_form: np.ndarray
    """(3,) width, roundness and height of the lenses, standard deviations."""
    glasses_colour: np.ndarray
    headwear: str
    headwear_colour: np.ndarray


HAIR_RAMP = np.array(
    [[0.012, 0.010, 0.009], [0.035, 0.020, 0.013], [0.09, 0.048, 0.026],
     [0.22, 0.125, 0.06], [0.45, 0.30, 0.15], [0.68, 0.54, 0.36]]
)  # fmt: skip
"""Black over brown to pale blond, linear RGB."""
HAIR_FOLLOWS_SKIN = 4.0
"""Standard deviations by which hair is darker on the darkest skin than on the palest."""
FRAME_RAMP = np.array([[0.01, 0.01, 0.012], [0.05, 0.025, 0.012], [0.16, 0.08, 0.03], [0.35, 0.34, 0.33]])
"""Black over brown to silver spectacle frames, linear RGB."""
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
    chosen = {name: int(np.argmax(g[name] + np.array(bias))) for name, bias in CHOICES}
    switched = [bool(z[place] > threshold) for place, threshold in SWITCHES]
    shape, skin, hair, light = g["shape"], g["skin"], g["hair"], g["light"]
    looks = dict(zip(NAMED_SHAPES, shape[: len(NAMED_SHAPES)], strict=True))
    age = _sigmoid(1.8 * (0.8 * looks["old"] + 0.6 * skin[2]) - 0.7)
    male = _sigmoid(4 * (0.95 * looks["male"] + 0.3 * skin[3]))
    tone = _share(0.75 * skin[0] + 0.66 * (looks["african"] - 0.35 * looks["asian"]) / 1.06)
    darker = HAIR_FOLLOWS_SKIN * (tone - 0.35) + 0.5 * looks["asian"]
    colour = _ramp(HAIR_RAMP, _share(hair[0] - darker))
    red = _sigmoid(3 * (hair[1] - 1.5)) * (1 - tone) ** 2
    colour = colour * (1 - red) + RED_HAIR * red
    grey = _sigmoid(6 * (age - 0.72) + 0.9 * hair[2]) * _sigmoid(14 * (age - 0.5)) * 0.95
    colour = colour * (1 - grey) + GREY_HAIR * grey
    azimuth, height = 0.6 * light[0], 0.55 + 0.3 * light[1]
    return Parameters(
        shape=shape,
        expression=expression_weights(g["expression"]),
        tone=tone,
        redness=float(skin[1]),
        age=age,
        male=male,
        skin_variant=_share(skin[4]),
        lip_colour=_sigmoid(2 * g["face_paint"][0] - 2) * (1 - male),
        freckles=_sigmoid(2.5 * g["face_paint"][1] - 3),
        eye_shadow=_sigmoid(2 * g["face_paint"][2] - 2) * (1 - male),
        brow_style=chosen["brow_style"],
        brow_darkness=_share(g["brow"][0]),
        eye_colour=chosen["eye_colour"],
        gaze=GAZE_SPREAD * g["gaze"],
        beard=_sigmoid(3.5 * (g["beard"][0] - 1.1)) * _sigmoid(12 * (male - 0.5)),
        beard_form=BEARDS[chosen["beard_form"]],
        stubble=_sigmoid(2.5 * (g["beard"][1] - 0.6)) * _sigmoid(12 * (male - 0.5)),
        hair_style=HAIR_STYLES[chosen["hair_style"]],
        hair_mirrored=switched[MIRROR],
        hair_colour=colour,
        hair_volume=float(np.clip(1 + 0.16 * hair[3], 0.7, 1.5)),
        hair_bottom=-0.62 + 0.6 * _share(hair[4]),
        fringe=0.15 + 0.13 * _share(hair[5]),
        light=np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)]),
        ambient=float(np.clip(0.55 + 0.12 * light[2], 0.25, 0.85)),
        warmth=float(0.05 * light[3]),
        brightness=float(np.exp(0.12 * light[4])),
        cloth=np.array([_share(c) for c in g["cloth"]]) ** 2 * 0.5 + 0.02,
        cloth_form=COLLARS[chosen["cloth_form"]],
        glasses=switched[GLASSES],
        glasses_form=g["glasses"][1:4],
        glasses_colour=_ramp(FRAME_RAMP, _share(g["glasses"][4])),
        headwear=HEADWEAR[chosen["headwear"]],
        headwear_colour=np.array([_share(c) for c in g["headwear_colour"]]) ** 2 * 0.45 + 0.02,
    )
