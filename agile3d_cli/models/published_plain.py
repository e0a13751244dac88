"""Imported EG3D generator + subject + cameras -> its picture, step by step as its weights were trained to make it.

The plain twin of ``published.py``: all samples of all rays at once, each plane asked by itself, colours sorted along
their rays. Slow, large and easy to read; gradients flow through it.
Source: EG3D (Chan et al., CVPR 2022), section 4.1 and supplement. Written from the paper and checked against recorded
tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.published_rays import PublishedView, coarse_depths, fine_depths, march, rays
from agile3d_cli.models.triplane import plane_features_plain


def render_published_plain(
    generator: TriplaneGenerator,
    ws: Tensor,
    labels: Tensor,
    coarse: Tensor | float = 0.5,
    fine: Tensor | None = None,
    planes: Tensor | None = None,
) -> PublishedView:
    """``published.render_published``; see there."""
    planes = generator.backbone(ws) if planes is None else planes
    rendered, depth = render_features_plain(generator, planes, labels, coarse, fine)
    image = generator.superresolution(rendered, ws) if generator.config.superresolution.sizes else None
    return PublishedView(rendered, depth, image)


def render_features_plain(
    generator: TriplaneGenerator,
    planes: Tensor,
    labels: Tensor,
    coarse: Tensor | float = 0.5,
    fine: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``rendered`` and ``depth`` of ``render_published_plain``, without the super-resolution."""
    size = generator.config.superresolution.rendered
    features, weights, middle, depths = march_rays_plain(generator, planes, *rays(labels, size), coarse, fine)
    # Where a ray met nothing the quotient has no value; it becomes the farthest depth of the whole batch.
    depth = ((weights * middle).sum(-1) / weights.sum(-1)).nan_to_num(float("inf")).clamp(depths.min(), depths.max())
    return features.transpose(1, 2).unflatten(2, (size, size)), depth.unflatten(1, (size, size))[:, None]


def march_rays_plain(
    generator: TriplaneGenerator,
    planes: Tensor,
    origin: Tensor,
    direction: Tensor,
    coarse: Tensor | float = 0.5,
    fine: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (N, R, F) in [-1, 1] of rays (N, R, 3), their intervals' weights and middles (N, R, S - 1), and the
    samples' depths (N, R, S); draws are (N or 1, R, samples)."""
    config = generator.config
    first = coarse_depths(config, origin, coarse)
    raw, colour = _ask(generator, planes, origin, direction, first)
    weights, _ = march(raw, first)
    second = fine_depths(first, weights, config.fine_samples, fine)
    raw_second, colour_second = _ask(generator, planes, origin, direction, second)
    depths, order = torch.sort(torch.cat([first, second], -1), -1)
    raw = torch.cat([raw, raw_second], -1).gather(-1, order)
    colour = torch.cat([colour, colour_second], -2)
    colour = colour.gather(-2, order[..., None].expand_as(colour))
    weights, middle = march(raw, depths)
    shade = (colour[..., 1:, :] + colour[..., :-1, :]) / 2
    features = (weights[..., None] * shade).sum(-2)
    if config.published.white_back:
        features = features + 1 - weights.sum(-1, keepdim=True)
    return 2 * features - 1, weights, middle, depths


def _ask(
    generator: TriplaneGenerator, planes: Tensor, origin: Tensor, direction: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    """Raw density (N, R, S) and colour features (N, R, S, F); outside the box the planes are zero, space is not."""
    points = (origin[..., None, :] + direction[..., None, :] * depths[..., None]).flatten(1, 2)
    normalised = points * (2 / generator.config.box)
    raw = generator.decoder.raw(plane_features_plain(planes, normalised, generator.config.plane_axes))
    raw = raw.unflatten(1, tuple(depths.shape[1:]))
    return raw[..., 0], torch.sigmoid(raw[..., 1:]) * 1.002 - 0.001
