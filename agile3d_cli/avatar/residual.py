"""Subject + photo -> planes to be painted on: last step of the inversion.

In: a subject whose surface is settled and the photo's pixels with their rays. Out: planes that are added only where
colours are read, so that painting moves nothing.
Source: Roich et al., Pivotal Tuning for Latent-based Editing of Real Images (2021), moved from weights to planes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.photo import Pixels
from agile3d_cli.avatar.traced import Traced, colours, held, trace
from agile3d_cli.models.generator import Subject, TriplaneGenerator

COVERED = 0.3
"""Pixels of which the head covers less are left out, and so are those that are less than that the person."""


def paint_residual(
    generator: TriplaneGenerator,
    subject: Subject,
    photo: Pixels,
    config: InvertConfig,
    rng: torch.Generator,
    progress: Callable[[float], None],
) -> Tensor:
    """Planes (1, 3, C, S, S) whose sum with the subject's makes it look like the photo."""
    paint = torch.zeros_like(subject.planes, requires_grad=True)
    person = (photo.alpha * photo.weight > COVERED).nonzero()[:, 0]
    traced = trace(generator, subject, photo.origin[person], photo.direction[person])
    kept = (traced.alpha > COVERED).nonzero()[:, 0]
    if not len(kept):
        return paint.detach()
    person, traced = person[kept], traced[kept]
    wanted, weight = photo.colour[person], photo.weight[person] * photo.alpha[person] * traced.alpha
    batches = _batches(generator, traced, config, rng)
    optimizer = torch.optim.Adam([paint], lr=config.paint_rate, betas=(0.9, 0.98))
    for step in range(config.paint_steps):
        optimizer.param_groups[0]["lr"] = config.paint_rate * (1 - 0.9 * step / config.paint_steps)
        picked, pixels = batches[step % len(batches)]
        miss = (colours(generator, subject.planes + paint, pixels) - wanted[picked]).abs().mean(1)
        loss = (weight[picked] * miss).sum() / weight[picked].sum().clamp(min=1)
        loss = loss + config.smooth * sum(paint.diff(dim=d).square().mean() for d in (-1, -2))
        loss = loss + config.small * paint.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / config.paint_steps)
    return paint.detach()


def _batches(
    generator: TriplaneGenerator, traced: Traced, config: InvertConfig, rng: torch.Generator
) -> list[tuple[Tensor, Traced]]:
    """All pixels in random batches of about ``paint_rays``, by their numbers, and held: each comes back every few
    steps."""
    order = torch.randperm(len(traced.alpha), generator=rng).to(traced.alpha.device)
    count = max(1, round(len(order) / config.paint_rays))
    return [(picked, held(generator, traced[picked])) for picked in order.chunk(count)]
