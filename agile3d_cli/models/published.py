"""Imported EG3D generator + subject + cameras -> its picture, exactly as its weights were trained to make it.

In: planes, styles, labels. Out: the small rendered picture, its depth, and the full picture. The flows of this project
render with ``volume.py``; the published renderer differs from it in where samples lie and in what is averaged, which
matters only where equal output is wanted.
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
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.triplane import plane_features

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


def render_published(
    generator: TriplaneGenerator,
    ws: Tensor,
    labels: Tensor,
    coarse: Tensor | float = 0.5,
    fine: Tensor | None = None,
    planes: Tensor | None = None,
) -> PublishedView:
    """Renders labels (N, 25) of styles (N, num_ws, w_dim).

    Args:
        generator: an imported one, without deformation.
        ws: styles.
        labels: cameras.
        coarse: (N or 1, R * R, coarse_samples) draws in [0, 1), where in its stratum a sample lies; the reference
            draws them anew for each picture, 0.5 puts them in the middle.
        fine: (N or 1, R * R, fine_samples) draws in [0, 1); evenly spread without it.
        planes: of ``ws``, where they are known already.
    """
    planes = generator.backbone(ws) if planes is None else planes
    rendered, depth = render_features(generator, planes, labels, coarse, fine)
    image = generator.superresolution(rendered, ws) if generator.config.superresolution.sizes else None
    return PublishedView(rendered, depth, image)


def render_features(
    generator: TriplaneGenerator,
    planes: Tensor,
    labels: Tensor,
    coarse: Tensor | float = 0.5,
    fine: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``rendered`` and ``depth`` of ``render_published``, without the super-resolution."""
    config = generator.config
    size = config.superresolution.rendered
    origin, direction = _rays(labels, size)
    first = _coarse_depths(config, origin, coarse)
    raw, colour = _ask(generator, planes, origin, direction, first)
    weights, _ = _march(raw, first)
    second = _fine_depths(first, weights, config.fine_samples, fine)
    raw_second, colour_second = _ask(generator, planes, origin, direction, second)
    depths, order = torch.sort(torch.cat([first, second], -1), -1)
    raw = torch.cat([raw, raw_second], -1).gather(-1, order)
    colour = torch.cat([colour, colour_second], -2)
    colour = colour.gather(-2, order[..., None].expand_as(colour))
    weights, middle = _march(raw, depths)
    shade = (colour[..., 1:, :] + colour[..., :-1, :]) / 2
    features = (weights[..., None] * shade).sum(-2)
    if config.published.white_back:
        features = features + 1 - weights.sum(-1, keepdim=True)
    features = 2 * features - 1
    rendered = features.transpose(1, 2).unflatten(2, (size, size))
    # Where a ray met nothing the quotient has no value; it becomes the farthest depth of the whole batch.
    depth = ((weights * middle).sum(-1) / weights.sum(-1)).nan_to_num(float("inf"))
    return rendered, depth.clamp(depths.min(), depths.max()).unflatten(1, (size, size))[:, None]


def _rays(labels: Tensor, size: int) -> tuple[Tensor, Tensor]:
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


def _coarse_depths(config: GeneratorConfig, origin: Tensor, draws: Tensor | float) -> Tensor:
    """(N, R, S): strata begin at evenly spaced depths from near to far, so the last one reaches beyond far."""
    count = config.coarse_samples
    start = torch.linspace(config.near, config.far, count, device=origin.device, dtype=origin.dtype)
    return (start + draws * (config.far - config.near) / (count - 1)).expand(*origin.shape[:-1], count)


def _ask(
    generator: TriplaneGenerator, planes: Tensor, origin: Tensor, direction: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    """Raw density (N, R, S) and colour features (N, R, S, F); outside the box the planes are zero, space is not."""
    points = (origin[..., None, :] + direction[..., None, :] * depths[..., None]).flatten(1, 2)
    normalised = points * (2 / generator.config.box)
    raw = generator.decoder.raw(plane_features(planes, normalised, generator.config.plane_axes))
    raw = raw.unflatten(1, tuple(depths.shape[1:]))
    return raw[..., 0], torch.sigmoid(raw[..., 1:]) * 1.002 - 0.001


def _march(raw: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and middles of the intervals, each (N, R, S - 1); raw densities are averaged before the softplus."""
    density = F.softplus((raw[..., 1:] + raw[..., :-1]) / 2 - 1)
    left = torch.exp(-density * depths.diff(dim=-1))
    before = torch.cumprod(torch.cat([torch.ones_like(left[..., :1]), left[..., :-1] + 1e-10], -1), -1)
    return (1 - left) * before, (depths[..., 1:] + depths[..., :-1]) / 2


def _fine_depths(depths: Tensor, weights: Tensor, count: int, draws: Tensor | None) -> Tensor:
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
