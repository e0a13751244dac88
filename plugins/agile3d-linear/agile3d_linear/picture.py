"""Small operations on pictures (H, W, C) float32 that several stages need: sampling, blurring, filling, resizing."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage


def sample(picture: np.ndarray, places: np.ndarray, mode: str = "bicubic") -> np.ndarray:
    """The picture (H, W, C) at places (h, w, 2), fractions u right and v down: (h, w, C)."""
    source = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float()
    grid = torch.from_numpy(np.ascontiguousarray(places, np.float32))[None] * 2 - 1
    found = F.grid_sample(source, grid, mode, "border", align_corners=False)[0]
    found = found.clamp(float(source.min()), float(source.max()))
    return found.permute(1, 2, 0).contiguous().numpy()


def resize(picture: np.ndarray, size: int) -> np.ndarray:
    """(H, W, C) to (size, size, C), averaged when it gets smaller."""
    if picture.shape[0] == size and picture.shape[1] == size:
        return picture.astype(np.float32)
    source = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None].float()
    shrinking = size < picture.shape[0]
    small = F.interpolate(source, (size, size), mode="bilinear", antialias=shrinking, align_corners=False)
    return small[0].permute(1, 2, 0).contiguous().numpy()


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur over the first two axes; ``sigma`` in pixels. Wide blurs are computed on a smaller copy."""
    factor = 1
    while sigma / factor > 6 and min(picture.shape[:2]) // (factor * 2) >= 16:
        factor *= 2
    flat = picture[..., None] if picture.ndim == 2 else picture
    axes = (sigma / factor, sigma / factor, 0)
    if factor == 1:
        result = ndimage.gaussian_filter(flat.astype(np.float32), axes, mode="nearest", truncate=3.0)
    else:
        small = resize(flat, flat.shape[0] // factor)
        result = resize(ndimage.gaussian_filter(small, axes, mode="nearest", truncate=3.0), flat.shape[0])
    return result[..., 0] if picture.ndim == 2 else result


def fill(picture: np.ndarray, known: np.ndarray, sigma: float, rounds: int = 4) -> np.ndarray:
    """Continues a picture smoothly into the places where ``known`` (H, W) in [0, 1] is low.

    Each round looks twice as far as the one before and serves the places that no nearer one reached.
    """
    known = known.astype(np.float32)
    result = picture * known[..., None]
    filled = known.copy()
    for step in range(rounds):
        both = blur(np.concatenate([picture * known[..., None], known[..., None]], -1), sigma * 2**step)
        reached = np.clip(both[..., -1] / 0.05, 0, 1) if step < rounds - 1 else np.ones_like(known)
        guess = both[..., :-1] / (both[..., -1:] + 1e-6)
        share = (1 - filled) * reached
        result = result + share[..., None] * guess
        filled = filled + share
    return result


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)
