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
from agile3d_cli.avatar.traced import WHOLE, Traced, colours, held, trace
from agile3d_cli.models.generator import Subject, TriplaneGenerator

COVERED = 0.3
"""Pixels that are less than that the person are left out."""


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
    kept = (traced.alpha > WHOLE).nonzero()[:, 0]
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
        optimizer.zero_grad()
        loss.backward()
        assert paint.grad is not None
        add_roughness_gradient(paint.grad, paint.detach(), config.smooth, config.small)
        optimizer.step()
        progress((step + 1) / config.paint_steps)
    return paint.detach()


def add_roughness_gradient(gradient: Tensor, paint: Tensor, smooth: float, small: float) -> None:
    """Adds, in place, the gradient of ``roughness`` of planes: written out it is a quarter of the work."""
    for dim in (-1, -2):
        steps = paint.diff(dim=dim).mul_(smooth)
        share, count = 2 / steps.numel(), steps.shape[dim]
        gradient.narrow(dim, 1, count).add_(steps, alpha=share)
        gradient.narrow(dim, 0, count).sub_(steps, alpha=share)
    gradient.add_(paint, alpha=2 * small / paint.numel())


def roughness(paint: Tensor, smooth: float, small: float) -> Tensor:
    """Mean square of the steps between neighbouring texels, in both directions, and of the planes themselves."""
    steps = sum(paint.diff(dim=dim).square().mean() for dim in (-1, -2))
    return smooth * steps + small * paint.square().mean()


def _batches(
    generator: TriplaneGenerator, traced: Traced, config: InvertConfig, rng: torch.Generator
) -> list[tuple[Tensor, Traced]]:
    """All pixels in random batches of about ``paint_rays``, by their numbers, and held: each comes back every few
    steps."""
    order = torch.randperm(len(traced.alpha), generator=rng).to(traced.alpha.device)
    count = max(1, round(len(order) / config.paint_rays))
    return [(picked, held(generator, traced[picked])) for picked in order.chunk(count)]
