"""Density and colour along rays -> pixels.

Source: Max 1995 / NeRF (Mildenhall et al., ECCV 2020) quadrature in the midpoint form EG3D uses: neighbouring samples
are averaged, each interval absorbs with its mean density. Importance sampling after NeRF section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-10
THICKEST = 40.0
"""Optical depth behind which nothing is seen: exp(-40) is 4e-18. Without an end, gradients behind a surface are so
small that a CPU handles each of them (denormal numbers) many times slower than a zero, through the whole network."""


@dataclass(frozen=True)
class Pixels:
    """What R rays of N heads saw."""

    colour: Tensor
    """(N, R, F), not composited: multiplied by alpha."""
    alpha: Tensor
    """(N, R) in [0, 1]."""
    depth: Tensor
    """(N, R) mean distance along the ray, world units; the far end where alpha is 0."""
    weights: Tensor
    """(N, R, S - 1) of the intervals."""


def composite(density: Tensor, colour: Tensor, depths: Tensor) -> Pixels:
    """Integrates sorted samples.

    Args:
        density: (N, R, S) per world unit, >= 0.
        colour: (N, R, S, F).
        depths: (N, R, S) increasing along S.
    """
    weights = interval_weights(density, depths)
    middle = (depths[..., 1:] + depths[..., :-1]) / 2
    shade = (colour[..., 1:, :] + colour[..., :-1, :]) / 2
    alpha = weights.sum(-1)
    depth = (weights * middle).sum(-1) + (1 - alpha) * depths[..., -1]
    return Pixels((weights[..., None] * shade).sum(-2), alpha, depth, weights)


def interval_weights(density: Tensor, depths: Tensor) -> Tensor:
    """Share of each interval in the pixel, (N, R, S - 1): absorption times what is left in front of it."""
    absorbed = (density[..., 1:] + density[..., :-1]) / 2 * (depths[..., 1:] - depths[..., :-1])
    left = torch.exp(-torch.cumsum(absorbed, -1).clamp(max=THICKEST))
    before = torch.cat([torch.ones_like(left[..., :1]), left[..., :-1]], -1)
    return before - left


def sample_shares(weights: Tensor) -> Tensor:
    """Shares (N, R, S) of the samples in a pixel from those of the intervals (N, R, S - 1), whose colour is the mean of
    their ends'."""
    half = weights / 2
    return F.pad(half, (0, 1)) + F.pad(half, (1, 0))


def matter_colour(density: Tensor, colour: Tensor) -> Tensor:
    """Colours (N, R, S, F) as means over neighbouring depths, weighted by density (N, R, S), so that matter counts.

    A generator's colours of empty space mean nothing, yet half of the first interval on a surface takes its colour
    there. Where surfaces are steep and rays graze them, that shows as lines.
    """
    mixed = _with_neighbours(density[..., None] * colour, -2)
    return mixed / (_with_neighbours(density)[..., None] + TINY)


def matter_share(density: Tensor, share: Tensor) -> Tensor:
    """The transpose of ``matter_colour``: shares (N, R, S) in its result to shares of the colours it was given."""
    return density * _with_neighbours(share / (_with_neighbours(density) + TINY))


def _with_neighbours(x: Tensor, axis: int = -1) -> Tensor:
    """x[i - 1] + 2 x[i] + x[i + 1] along an axis."""
    total, count = 2 * x, x.shape[axis] - 1
    total.narrow(axis, 1, count).add_(x.narrow(axis, 0, count))
    total.narrow(axis, 0, count).add_(x.narrow(axis, 1, count))
    return total


def spread_depths(
    near: float | Tensor, far: float | Tensor, samples: int, like: Tensor, jitter: Tensor | None = None
) -> Tensor:
    """Depths (N, R, S) in equal cells from near to far, each a number or (N, R, 1), for rays ``like`` (N, R, 3).

    ``jitter`` (N, R, S) in [0, 1) is the place in the cell.
    """
    cells = torch.arange(samples, device=like.device, dtype=like.dtype).expand(*like.shape[:-1], samples)
    place = cells + (0.5 if jitter is None else jitter)
    return near + (far - near) * place / samples


def importance_depths(depths: Tensor, weights: Tensor, samples: int, jitter: Tensor | None = None) -> Tensor:
    """New depths where the coarse pass found weight.

    Args:
        depths: (N, R, S) increasing.
        weights: (N, R, S - 1) of the intervals, >= 0; all zero gives equal spacing.
        samples: how many.
        jitter: (N, R, samples) in [0, 1) within each stratum; 0.5 without it.

    Returns:
        (N, R, samples) increasing.
    """
    padded = weights + 1e-5
    cdf = torch.cumsum(padded, -1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf / cdf[..., -1:]], -1)
    strata = torch.arange(samples, device=depths.device, dtype=depths.dtype).expand(*depths.shape[:-1], samples)
    u = (strata + (0.5 if jitter is None else jitter)) / samples
    upper = torch.searchsorted(cdf, u.contiguous(), right=True).clamp(1, cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, upper - 1), cdf.gather(-1, upper)
    start, end = depths.gather(-1, upper - 1), depths.gather(-1, upper)
    return start + (end - start) * (u - low) / (high - low + TINY)
