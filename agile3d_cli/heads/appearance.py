"""Colours of skin, eyes and hair, in linear light."""

from __future__ import annotations

import numpy as np

from agile3d_cli.heads.kit import Kit, sample
from agile3d_cli.heads.parameters import EYES, Parameters

SKIN_RAMP = (
    np.array([[0.95, 0.80, 0.72], [0.90, 0.71, 0.60], [0.78, 0.57, 0.44],
              [0.60, 0.40, 0.29], [0.42, 0.27, 0.19], [0.27, 0.17, 0.125]])
    ** 2.2
)  # fmt: skip
"""Palest to darkest skin, even steps for the eye."""
FACE_UV = (slice(60, 160), slice(150, 362))
"""Rows and columns of the face in the 512 px skin textures, for their mean colour."""
FINE_NOISE = 256
BROWN = EYES.index("brown")
"""The colour that the eyes of dark skin have."""
CLOTH_EDGE = 0.004
"""Width of the step from skin to cloth, world units."""
BAND = 0.028
"""Width of a collar."""
IRIS_CENTRES, IRIS_RADIUS = ((0.704, 0.703), (0.291, 0.291)), 0.114
"""Where the irises of both eyes are in the kit's eye textures."""
BARE, HAIRY, DRESSED = 0, 1, 2
"""What ``SkinPainter.paint`` says of a place: skin, more painted hair than skin, clothes."""


def skin_tone(tone: float, redness: float) -> np.ndarray:
    """Linear RGB of skin: ``tone`` in [0, 1], ``redness`` in standard deviations."""
    t = np.clip(tone, 0, 1) * (len(SKIN_RAMP) - 1)
    i = min(int(t), len(SKIN_RAMP) - 2)
    colour = SKIN_RAMP[i] * (1 - (t - i)) + SKIN_RAMP[i + 1] * (t - i)
    return colour * np.exp(0.07 * redness * np.array([0.35, -0.5, -0.75]))


def eye_texture(kit: Kit, number: int, tone: float) -> np.ndarray:
    """Iris texture (H, W, 3) of one of the eye colours; on dark skin they all turn brown."""
    own, brown = (_iris(kit, n) for n in (number, BROWN))
    dark = brown_share(tone)
    return own * (1 - dark) + brown * dark


def brown_share(tone: float) -> float:
    """How far the eyes of a skin tone in [0, 1] have turned brown, 0 to 1."""
    return float(np.clip((tone - 0.42) / 0.25, 0, 1))


def _iris(kit: Kit, number: int) -> np.ndarray:
    """The kit's brown is red and its light eyes glow; whites stay as they are."""
    texture = kit.texture(f"eyes/{EYES[number]}_eye.png")[..., :3]
    colourful = texture.max(-1, keepdims=True) - texture.min(-1, keepdims=True)
    red = np.clip(texture[..., :1] - texture[..., 1:].mean(-1, keepdims=True), 0, None)
    fixed = texture + red * np.array([-0.45, 0.16, 0.04]) if EYES[number] == "brown" else texture
    return fixed * (1 - np.clip(1.6 * colourful, 0, 0.4)) * 0.9


def hair_colours(texel: np.ndarray, mean: float, colour: np.ndarray) -> np.ndarray:
    """Tints hair texels (N, 3): their brightness relative to the texture's mean, times the hair colour."""
    strand = np.clip(texel.mean(1) / mean, 0.2, 3.0)
    return np.clip(colour * strand[:, None] ** 0.5, 0, 0.95)


class SkinPainter:
    """Mixes the kit's skins for one subject and paints brows' shadow, lips, beard, scalp and clothes on top."""

    def __init__(self, p: Parameters, kit: Kit):
        self._p = p
        self._texture = self._mix(kit)
        rows, columns = FACE_UV
        self._mean = np.median(self._texture[rows, columns].reshape(-1, 3), 0)
        self._noise = np.random.default_rng(7).normal(size=(FINE_NOISE, FINE_NOISE, 1)).astype(np.float32)

    def _mix(self, kit: Kit) -> np.ndarray:
        p = self._p
        ages = {"young": max(0.0, 1 - 2 * p.age), "middleage": 1 - abs(2 * p.age - 1), "old": max(0.0, 2 * p.age - 1)}
        shade = "dark" if p.tone > 0.72 else "light"
        total: np.ndarray = np.zeros((), np.float32)
        weight = 0.0
        for sex, share in (("male", p.male), ("female", 1 - p.male)):
            for age, amount in ages.items():
                names = [n for n in kit.skins if n.startswith(f"{age}_{shade}skinned_{sex}_")]
                pick = names[min(int(p.skin_variant * len(names)), len(names) - 1)]
                total = total + share * amount * kit.skins[pick]
                weight += share * amount
        return np.asarray(total / weight, np.float32)

    def paint(self, uv: np.ndarray, mask: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Albedo (N, 3), gloss (N,) and what is shown (N,) at texture coordinates (N, 2) with the weights of masks."""
        p = self._p
        target = skin_tone(p.tone, p.redness)
        ratio = np.clip(sample(self._texture, uv) / self._mean, 0.02, 2.2)
        colour = target * ratio ** (0.9 if p.tone < 0.7 else 1.0)
        noise = sample(self._noise, uv * 9)[:, 0]
        colour = colour * np.exp(0.10 * mask["cheeks"][:, None] * np.array([0.2, -0.6, -0.6]))
        spots = p.freckles * mask["cheeks"] * np.clip(noise - 0.8, 0, 1)
        colour = colour * np.exp(-spots[:, None] * np.array([0.5, 0.9, 1.1]))
        colour = _blend(colour, target * np.array([0.75, 0.30, 0.33]), p.lip_colour * 0.8 * mask["lips"])
        colour = _blend(colour, np.array([0.06, 0.03, 0.035]), p.eye_shadow * 0.5 * mask["lids"])
        hair = p.hair_colour
        form = mask[p.beard_form]
        rough = np.clip(form + 0.35 * noise * 4 * form * (1 - form), 0, 1)
        stubble = 0.3 * p.stubble * mask["full"] * (1 + 0.25 * noise) + p.beard * rough
        grown = np.clip(stubble, 0, 0.93)
        colour = _blend(colour, hair * (0.75 + 0.12 * noise[:, None]), grown)
        cover = {"bald": 0.0, "buzz": 0.85}.get(p.hair_style, 0.8) * (p.headwear == "none" or 0.8)
        scalp = np.clip(1.5 * mask["scalp"] - 0.5, 0, 1)
        recede = mask["hairline"] * np.clip(2.2 * p.age * p.male - 0.6, 0, 1) if p.hair_style == "buzz" else 0.0
        shade = 0.75 if p.hair_style == "buzz" else 0.6
        covered = np.clip(cover * scalp * (1 - recede), 0, 1)
        colour = _blend(colour, hair * (shade + 0.15 * noise[:, None]), covered)
        gloss = 0.035 * (1 - np.clip(stubble + scalp * cover, 0, 1)) + 0.03 * mask["lips"]
        worn, colour = self._dress(colour, mask)
        shown = np.where(np.maximum(grown, covered) > 0.5, HAIRY, BARE)
        return colour, gloss * (1 - worn), np.where(worn > 0.5, DRESSED, shown)

    def _dress(self, colour: np.ndarray, mask: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Share (N,) of clothes with one of three necklines, and colours with them."""
        p = self._p
        under = mask["cloth"]
        if p.cloth_form == "v_neck":
            under = under - 0.9 * np.clip(0.1 - mask["breast"], 0, None)
        elif p.cloth_form == "collar":
            under = under + BAND
        share = np.clip(under / CLOTH_EDGE + 0.5, 0, 1)
        band = (under < BAND) & (p.cloth_form == "collar")
        return share, _blend(colour, p.cloth * np.where(band, 0.6, 1.0)[:, None], share)


def iris(uv: np.ndarray) -> np.ndarray:
    """Which texture coordinates (N, 2) of the eyes lie on an iris, (N,)."""
    away = np.linalg.norm(uv[:, None] - np.array(IRIS_CENTRES), axis=2)
    return away.min(1) < IRIS_RADIUS


def _blend(base: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    return base * (1 - share[:, None]) + over * share[:, None]
