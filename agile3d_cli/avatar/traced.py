"""Subject + rays -> pixels as fixed sums: what painting needs once the surface is settled.

While no surface moves, a pixel is a weighted sum of the colours at a few fixed points. They are found once; every step
of an optimisation then asks the decoder for these points and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agile3d_cli.avatar.render import RAYS, GeneratorHead
from agile3d_cli.models.details import detailed_features
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.texels import Texels, gathered, texels_of
from agile3d_cli.models.volume import interval_weights, matter_share, sample_shares

SAMPLES = 6
"""Points kept of a ray, those with the largest shares."""
WHOLE = 0.9
"""Coverage from which on a pixel shows the head alone; below it a picture's pixel has the background's colour too."""


@dataclass(frozen=True)
class Traced:
    """P pixels on a head."""

    points: Tensor
    """(P, SAMPLES, 3) canonical places."""
    shares: Tensor
    """(P, SAMPLES), sums to one where the head was met, zero elsewhere."""
    alpha: Tensor
    """(P,) how much of the pixel the head covers."""
    tone: Tensor | None
    """(P, SAMPLES, 3) what the subject's palette gives there (``Decoder.tone``), or None without a palette."""
    texels: Texels | None = None
    """What the points read of the planes, where that is kept: see ``held``."""

    def __getitem__(self, index: Tensor) -> Traced:
        tone = None if self.tone is None else self.tone[index]
        return Traced(self.points[index], self.shares[index], self.alpha[index], tone)


def held(generator: TriplaneGenerator, traced: Traced) -> Traced:
    """The same pixels, for asking again and again: on a CPU what their points read of the planes is kept."""
    if traced.points.device.type != "cpu":
        return traced
    size = generator.config.plane_size
    place = generator.deformation.focus.forward(traced.points.reshape(-1, 3))
    return replace(traced, texels=texels_of(place, (size, size), generator.config.plane_axes))


@torch.no_grad()
def trace(generator: TriplaneGenerator, subject: Subject, origin: Tensor, direction: Tensor) -> Traced:
    """Traces rays (P, 3) against the head of one subject."""
    head = GeneratorHead(generator, subject)
    count = len(origin)
    points, shares = origin.new_zeros(count, SAMPLES, 3), origin.new_zeros(count, SAMPLES)
    alpha = origin.new_zeros(count)
    for block in torch.arange(count, device=origin.device).split(RAYS):
        covered = alpha[block]
        for seen, depths in head.looks(origin[block], direction[block], covered):
            if not len(seen):
                continue
            world = origin[block][seen, None] + direction[block][seen, None] * depths[..., None]
            density = head.density(world.reshape(-1, 3)).reshape(depths.shape)
            weights = interval_weights(density, depths)
            share = matter_share(density, sample_shares(weights))
            best, which = share.topk(SAMPLES, dim=1)
            chosen = world.gather(1, which[..., None].expand(-1, -1, 3))
            picked = block[seen]
            points[picked] = generator.to_canonical(subject, chosen.reshape(1, -1, 3)).reshape(chosen.shape)
            shares[picked] = best / best.sum(1, keepdim=True).clamp(min=1e-6)
            covered[seen] = weights.sum(1)
        alpha[block] = covered
    traced = Traced(points, shares, alpha, None)
    if subject.palette is None:
        return traced
    tone = generator.decoder.tone(_raw(generator, subject.planes, traced), subject.palette)
    return replace(traced, tone=tone.reshape(points.shape))


@dataclass(frozen=True)
class Appearance:
    """What planes show at P traced pixels."""

    density: Tensor
    """(P, SAMPLES) at the places."""
    colour: Tensor
    """(P, 3) in [0, 1]."""
    parts: Tensor
    """(P, parts) how much of each part."""


def appearance(generator: TriplaneGenerator, planes: Tensor, palette: Tensor | None, traced: Traced) -> Appearance:
    """What planes (1, 3, C, S, S) and a palette (1, parts, 3) of their own show at the pixels."""
    raw = _raw(generator, planes, traced)
    tone = None if palette is None else generator.decoder.tone(raw, palette)
    density = generator.decoder.density(raw[..., 0]).reshape(traced.shares.shape)
    return Appearance(density, _mixed(generator.decoder.colour(raw, tone), traced), _parts(generator, raw, traced))


def colours(generator: TriplaneGenerator, planes: Tensor, traced: Traced, palette: Tensor | None = None) -> Tensor:
    """Colours (P, 3) in [0, 1] of the pixels where planes (1, 3, C, S, S) are painted over the traced subject.

    Colours are as if all were in front. With a ``palette`` (1, parts, 3) the planes also say what is which part;
    without one that is as it was traced.
    """
    raw = _raw(generator, planes, traced)
    if palette is not None:
        return _mixed(generator.decoder.colour(raw, generator.decoder.tone(raw, palette)), traced)
    tone = None if traced.tone is None else traced.tone.reshape(1, -1, 3).to(planes)
    return _mixed(generator.decoder.colour(raw, tone), traced)


def part_shares(generator: TriplaneGenerator, planes: Tensor, traced: Traced) -> Tensor:
    """How much of each part the pixels show, (P, parts), by planes (1, 3, C, S, S)."""
    return _parts(generator, _raw(generator, planes, traced), traced)


def _raw(generator: TriplaneGenerator, planes: Tensor, traced: Traced) -> Tensor:
    """The decoder's raw outputs (1, P * SAMPLES, ...) at the places, by the planes and the generator's details."""
    details = generator.backbone.details
    if traced.texels is not None:
        assert details is None, "only styles have details, and only photos keep texels"
        return _decoded(generator, gathered(planes[0], traced.texels)[None])
    place = generator.deformation.focus.forward(traced.points.reshape(1, -1, 3).to(planes))
    return _decoded(generator, detailed_features(planes, details, place, generator.config.plane_axes))


def _decoded(generator: TriplaneGenerator, features: Tensor) -> Tensor:
    raw: Tensor = generator.decoder.raw(features)
    return raw


def _parts(generator: TriplaneGenerator, raw: Tensor, traced: Traced) -> Tensor:
    """``part_shares`` of the decoder's raw outputs."""
    shares = generator.decoder.shares(raw)[0].T
    return (traced.shares[..., None].to(shares) * shares.unflatten(0, traced.shares.shape)).sum(1)


def _mixed(seen: Tensor, traced: Traced) -> Tensor:
    """Pixels (P, 3) of colours (1, P * SAMPLES, F)."""
    colour = seen[0, :, :3].reshape(*traced.points.shape[:2], 3)
    return (traced.shares[..., None].to(seen) * colour).sum(1)
