"""Colours: pictures to CIELAB and back, and the tones of the sitter carried onto the palette of the style.

Convention: pictures are (H, W, 3) float32 in [0, 1], sRGB; Lab has L in [0, 100].
"""

from __future__ import annotations

import numpy as np
from skimage.color import lab2rgb, rgb2lab

from agile3d_linear.config import LinearConfig


def to_lab(colors: np.ndarray) -> np.ndarray:
    """sRGB (..., 3) to Lab (..., 3)."""
    return rgb2lab(np.asarray(colors, np.float32).reshape(1, -1, 3)).reshape(np.shape(colors)).astype(np.float32)


def to_rgb(lab: np.ndarray) -> np.ndarray:
    """Lab (..., 3) to sRGB (..., 3), clipped to [0, 1]."""
    lab = np.asarray(lab, np.float32)
    lab = np.concatenate([np.clip(lab[..., :1], 0, 100), lab[..., 1:]], -1)
    # Colours outside sRGB are clipped below; the library would warn about them.
    with np.errstate(all="ignore"):
        rgb = _lab_to_rgb(lab.reshape(1, -1, 3)).reshape(lab.shape)
    return np.clip(rgb, 0, 1).astype(np.float32)


def _lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(lab2rgb(lab))


def style_skin(own: np.ndarray, palette: np.ndarray, brightest: float, config: LinearConfig) -> np.ndarray:
    """The skin tone that the style gives to a sitter.

    The lightness stays, within what the style knows; hue and saturation move towards those that the style has at that
    lightness.

    Args:
        own: (3,) the sitter's skin, Lab.
        palette: (E, 3) the exemplars' skin tones, Lab.
        brightest: lightness of bright skin among realistic faces; the style's bright skin stands for it.
        config: ``color`` is how far the tone moves.
    """
    gain = np.clip(np.percentile(palette[:, 0], 75) / max(brightest, 1.0), 1.0, 1.3)
    light = float(np.clip(own[0] * gain, palette[:, 0].min(), palette[:, 0].max()))
    weight = np.exp(-(((palette[:, 0] - light) / 10) ** 2)) + 1e-6
    typical = weight @ palette / weight.sum()
    target = np.array([light, *(0.5 * own[1:] + 0.5 * typical[1:])])
    return own + config.color * (target - own)


def style_hair(own: np.ndarray, config: LinearConfig) -> np.ndarray:
    """Hair, brow and beard colours (..., 3) Lab: purer and with deeper darks, as painted volumes have them."""
    light = own[..., :1]
    # Nearly black photographed hair is mostly haze.
    deeper = light - 6 * np.exp(-(((light - 25) / 18) ** 2)) + 7 * np.exp(-(((light - 65) / 20) ** 2))
    target = np.concatenate([deeper, _purer(own[..., 1:])], -1)
    return own + config.color * (target - own)


def _purer(chroma: np.ndarray) -> np.ndarray:
    """Colour of hair (..., 2) made stronger, the weak more than the strong."""
    strength = np.hypot(chroma[..., :1], chroma[..., 1:])
    return chroma * (1 + 0.35 * np.exp(-((strength / 30) ** 2)))
