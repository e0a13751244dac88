"""Cameras -> rays -> depths -> weights, as published EG3D networks were trained: what both of their renderers share.

Source: EG3D (Chan et al., CVPR 2022), section 4.1 and supplement; importance sampling of NeRF (Mildenhall et al.,
ECCV 2020), section 5.2, with the smoothing of Mip-NeRF (Barron et al., ICCV 2021), section 3.2. Written from the
papers and checked against recorded tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.models.config import GeneratorConfig

SMALLEST = 1e-5
"""Added to every weight before sampling; bins with less probability than this give their lower edge."""
FLOOR = 0.01
"""Weight that every interval gets, so that none is never looked at."""


@dataclass(frozen=True)
class PublishedView:
    """What an imported generator shows."""

    rendered: Tensor
    """(N, F, R, R): the feature picture, its first three channels RGB in [-1, 1]."""
    depth: Tensor
    """(N, 1, R, R) world units along the ray."""
    image: Tensor | None
    """(N, 3, S, S) about [-1, 1]; None where the generator has no super-resolution."""


def rays(labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """``camera.rays``, rounded as the reference does it: by way of a point in the world, which costs some bits of the
    direction and is seen where density rises steeply."""
    matrix, intrinsic = camera.split_label(labels)
    line = (torch.arange(size, device=labels.device, dtype=labels.dtype) + 0.5) / size
    v, u = (grid.reshape(1, -1) for grid in torch.meshgrid(line, line, indexing="ij"))
    y = (v - intrinsic[:, 1, 2, None]) / intrinsic[:, 1, 1, None]
    x = (u - intrinsic[:, 0, 2, None] - intrinsic[:, 0, 1, None] * y) / intrinsic[:, 0, 0, None]
    one = torch.ones_like(x)
    place = (matrix @ torch.stack([x, y, one, one], 1)).transpose(1, 2)[..., :3]
    origin = matrix[:, None, :3, 3].expand_as(place)
    return origin, F.normalize(place - origin, dim=-1)


def coarse_depths(config: GeneratorConfig, origin: Tensor, draws: Tensor | float) -> Tensor:
    """(N, R, S): strata begin at evenly spaced depths from near to far, so the last one reaches beyond far."""
    count = config.coarse_samples
    start = torch.linspace(config.near, config.far, count, device=origin.device, dtype=origin.dtype)
    return (start + draws * (config.far - config.near) / (count - 1)).expand(*origin.shape[:-1], count)


def march(raw: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and middles of the intervals, each (N, R, S - 1); raw densities are averaged before the softplus."""
    density = F.softplus((raw[..., 1:] + raw[..., :-1]) / 2 - 1)
    left = torch.exp(-density * depths.diff(dim=-1))
    before = torch.cumprod(torch.cat([torch.ones_like(left[..., :1]), left[..., :-1] + 1e-10], -1), -1)
    return (1 - left) * before, (depths[..., 1:] + depths[..., :-1]) / 2


def fine_depths(depths: Tensor, weights: Tensor, count: int, draws: Tensor | None) -> Tensor:
    """Depths (N, R, count), unsorted, where the blurred weights (N, R, S - 1) of the coarse pass are large."""
    flat = weights.flatten(0, 1)[:, None]
    blurred = F.avg_pool1d(F.max_pool1d(flat, 2, stride=1, padding=1), 2, stride=1)[:, 0].reshape(weights.shape)
    # The first and last interval are left out. Bin edges are the intervals' middles from the first on, so the last
    # middle is never reached: a quirk of the published renderer.
    inner = blurred[..., 1:-1] + FLOOR + SMALLEST
    edges = ((depths[..., 1:] + depths[..., :-1]) / 2)[..., : inner.shape[-1] + 1]
    cdf = torch.cumsum(inner / inner.sum(-1, keepdim=True), -1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], -1)
    if draws is None:
        draws = (torch.arange(count, device=depths.device, dtype=depths.dtype) + 0.5) / count
    u = draws.expand(*depths.shape[:-1], count).contiguous()
    upper = torch.searchsorted(cdf, u, right=True)
    lower, upper = (upper - 1).clamp(min=0), upper.clamp(max=cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, lower), cdf.gather(-1, upper)
    width = torch.where(high - low < SMALLEST, torch.ones_like(low), high - low)
    start, end = edges.gather(-1, lower), edges.gather(-1, upper)
    return start + (u - low) / width * (end - start)
