"""Subject + rays -> pixels as fixed sums: what painting needs once the surface is settled.

While no surface moves, a pixel is a weighted sum of the colours at a few fixed points. They are found once; every step
of an optimisation then asks the decoder for these points and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.avatar.render import RAYS, GeneratorHead
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.triplane import plane_features
from agile3d_cli.models.volume import interval_weights, matter_share

SAMPLES = 6
"""Points kept of a ray, those with the largest shares."""


@dataclass(frozen=True)
class Traced:
    """P pixels on a head."""

    points: Tensor
    """(P, SAMPLES, 3) canonical places."""
    shares: Tensor
    """(P, SAMPLES), sums to one where the head was met, zero elsewhere."""
    alpha: Tensor
    """(P,) how much of the pixel the head covers."""

    def __getitem__(self, index: Tensor) -> Traced:
        return Traced(self.points[index], self.shares[index], self.alpha[index])


@torch.no_grad()
def trace(generator: TriplaneGenerator, subject: Subject, origin: Tensor, direction: Tensor) -> Traced:
    """Traces rays (P, 3) against the head of one subject."""
    head = GeneratorHead(generator, subject)
    count = len(origin)
    points, shares = origin.new_zeros(count, SAMPLES, 3), origin.new_zeros(count, SAMPLES)
    alpha = origin.new_zeros(count)
    for block in torch.arange(count, device=origin.device).split(RAYS):
        seen, depths = head.trace(origin[block], direction[block])
        if not len(seen):
            continue
        world = origin[block][seen, None] + direction[block][seen, None] * depths[..., None]
        density = head.field(world.reshape(-1, 3))[0].reshape(depths.shape)
        weights = interval_weights(density, depths)
        # A sample's share is the mean of its two intervals', as colours are averaged over each.
        share = torch.zeros_like(depths)
        share[:, :-1] += weights / 2
        share[:, 1:] += weights / 2
        share = matter_share(density, share)
        best, which = share.topk(SAMPLES, dim=1)
        chosen = world.gather(1, which[..., None].expand(-1, -1, 3))
        picked = block[seen]
        points[picked] = generator.to_canonical(subject, chosen.reshape(1, -1, 3)).reshape(chosen.shape)
        shares[picked] = best / best.sum(1, keepdim=True).clamp(min=1e-6)
        alpha[picked] = weights.sum(1)
    return Traced(points, shares, alpha)


def densities_and_colours(generator: TriplaneGenerator, planes: Tensor, traced: Traced) -> tuple[Tensor, Tensor]:
    """Densities (P, SAMPLES) at the places, and colours (P, 3) in [0, 1] that planes (1, 3, C, S, S) give the pixels.

    Colours are as if all were in front.
    """
    place = generator.deformation.focus.forward(traced.points.reshape(1, -1, 3).to(planes))
    density, seen = generator.decoder(plane_features(planes, place, generator.config.plane_axes))
    colour = seen[0, :, :3].reshape(*traced.points.shape[:2], 3)
    return density.reshape(traced.shares.shape), (traced.shares[..., None].to(planes) * colour).sum(1)


def colours(generator: TriplaneGenerator, planes: Tensor, traced: Traced) -> Tensor:
    """The colours of ``densities_and_colours``."""
    return densities_and_colours(generator, planes, traced)[1]
