"""Subject + photo -> planes to be painted on: last step of the inversion.

In: a subject whose surface is settled and the photo's pixels with their rays. Out: planes that are added only where
colours are read. As nothing moves, every ray is traced once: a pixel is then a fixed weighted sum of colours at fixed
points, and a step of the optimisation asks the decoder for a few thousand points and nothing else.
Source: Roich et al., Pivotal Tuning for Latent-based Editing of Real Images (2021), moved from weights to planes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.photo import Pixels
from agile3d_cli.avatar.render import RAYS, GeneratorHead
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.triplane import plane_features
from agile3d_cli.models.volume import interval_weights

COVERED = 0.3
"""Pixels of which the head covers less are left out, and so are those that are less than that the person."""


@dataclass(frozen=True)
class _Traced:
    """P pixels of the photo on the head's surface."""

    points: Tensor
    """(P, S, 3) canonical places of the samples."""
    shares: Tensor
    """(P, S) of each sample in the pixel, sums to one."""
    colour: Tensor
    """(P, 3) of the photo, in [0, 1]."""
    weight: Tensor
    """(P,)."""


def paint_residual(
    generator: TriplaneGenerator,
    subject: Subject,
    photo: Pixels,
    config: InvertConfig,
    rng: torch.Generator,
    progress: Callable[[float], None],
) -> Tensor:
    """Planes (1, 3, C, S, S) whose sum with the subject's makes it look like the photo."""
    traced = _trace(generator, subject, photo)
    paint = torch.zeros_like(subject.planes, requires_grad=True)
    if not len(traced.weight):
        # The photo's mask and the head do not meet: nothing to paint from.
        return paint.detach()
    optimizer = torch.optim.Adam([paint], lr=config.paint_rate, betas=(0.9, 0.98))
    for step in range(config.paint_steps):
        optimizer.param_groups[0]["lr"] = config.paint_rate * (1 - 0.9 * step / config.paint_steps)
        picked = torch.randint(len(traced.weight), (config.paint_rays,), generator=rng).to(paint.device)
        seen = _colours(generator, subject.planes + paint, traced.points[picked], traced.shares[picked])
        weight = traced.weight[picked]
        loss = (weight * (seen - traced.colour[picked]).abs().mean(1)).sum() / weight.sum().clamp(min=1)
        loss = loss + config.smooth * sum(paint.diff(dim=d).square().mean() for d in (-1, -2))
        loss = loss + config.small * paint.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / config.paint_steps)
    return paint.detach()


@torch.no_grad()
def _trace(generator: TriplaneGenerator, subject: Subject, photo: Pixels) -> _Traced:
    head = GeneratorHead(generator, subject)
    person = (photo.alpha * photo.weight > COVERED).nonzero()[:, 0]
    rows = []
    for block in person.split(RAYS):
        origin, direction = photo.origin[block], photo.direction[block]
        seen, depths = head.trace(origin, direction)
        world = origin[seen, None] + direction[seen, None] * depths[..., None]
        density, _ = head.field(world.reshape(-1, 3))
        weights = interval_weights(density.reshape(depths.shape), depths)
        shares = torch.zeros_like(depths)
        shares[:, :-1] += weights / 2
        shares[:, 1:] += weights / 2
        alpha = weights.sum(1)
        kept = alpha > COVERED
        points = generator.to_canonical(subject, world.reshape(1, -1, 3)).reshape(*depths.shape, 3)
        picked = block[seen[kept]]
        share = shares[kept] / alpha[kept, None]
        weight = photo.weight[picked] * photo.alpha[picked] * alpha[kept]
        rows.append((points[kept], share, photo.colour[picked], weight))
    return _Traced(*(torch.cat(column) for column in zip(*rows, strict=True)))


def _colours(generator: TriplaneGenerator, planes: Tensor, points: Tensor, shares: Tensor) -> Tensor:
    """Colours (P, 3) in [0, 1] of pixels given by canonical points (P, S, 3) and shares (P, S)."""
    place = generator.deformation.focus.forward(points.reshape(1, -1, 3))
    features = plane_features(planes, place, generator.config.plane_axes)
    colour = generator.decoder(features)[1][0, :, :3].reshape(*points.shape[:2], 3)
    return (shares[..., None] * colour).sum(1)
