"""Smoothing that keeps edges: takes small detail out of a picture and leaves its large forms firm."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from agile3d_linear.picture import blur

FLAT = 0.004
"""Variance below which the guided filter smooths, for colours in [0, 1]."""


def smooth(photo: np.ndarray, strength: float) -> np.ndarray:
    """Takes the small detail out of a picture (S, S, 3) and leaves the large forms with firm edges.

    Source: rolling guidance (Zhang et al., 2014): first everything small is blurred away, then the edges of what is
    left are found again in the photo. Last, Kuwahara's filter with soft weights (Papari et al., 2007) makes them firm.
    """
    if strength <= 0:
        return photo
    size = photo.shape[0]
    guide = blur(photo, strength * size / 75)
    for _ in range(3):
        guide = _guided(photo, guide, max(1, round(strength * size / 40)))
    # The edges found again may overshoot and glow.
    near = (2 * max(1, round(size / 128)) + 1,) * 2 + (1,)
    guide = np.clip(guide, ndimage.minimum_filter(photo, near), ndimage.maximum_filter(photo, near))
    for _ in range(2):
        guide = _kuwahara(guide, max(1, round(strength * size / 110)))
    return guide


def _box(values: np.ndarray, radius: int) -> np.ndarray:
    """Mean over a square window, pictures (S, S, C)."""
    side = 2 * radius + 1
    return ndimage.uniform_filter(values, (side, side, 0), mode="nearest")


def _guided(picture: np.ndarray, guide: np.ndarray, radius: int) -> np.ndarray:
    """Guided filter (He et al., 2010), each colour guided by its own."""
    mean_guide, mean_picture = _box(guide, radius), _box(picture, radius)
    spread = _box(guide * guide, radius) - mean_guide**2
    together = _box(guide * picture, radius) - mean_guide * mean_picture
    slope = together / (spread + FLAT)
    return _box(slope, radius) * guide + _box(mean_picture - slope * mean_guide, radius)


def _kuwahara(picture: np.ndarray, radius: int) -> np.ndarray:
    """Each pixel becomes the mean of those of the windows around it that vary least."""
    means = _box(_box(picture, radius), max(1, radius // 2))
    squares = _box(_box(picture**2, radius), max(1, radius // 2))
    spread = np.clip((squares - means**2).sum(-1, keepdims=True), 0, None)
    weight = (spread + 5e-4) ** -3
    both = np.pad(np.concatenate([weight * means, weight], -1), ((radius,) * 2, (radius,) * 2, (0, 0)), mode="edge")
    height, width = picture.shape[:2]
    total = np.zeros((height, width, 4), np.float32)
    for turn in range(8):
        dx = radius + round(radius * math.cos(turn * math.pi / 4))
        dy = radius + round(radius * math.sin(turn * math.pi / 4))
        total += both[dy : dy + height, dx : dx + width]
    return total[..., :3] / total[..., 3:]
