"""Style -> people in it, the same people for every style: what previews show and scores are measured on."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from agile3d_cli.avatar.published_head import PublishedHead, sampled_styles
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.styled import StyleDifference, in_style, stylized
from agile3d_cli.style.faces import TRUNCATION

SEED = 2303
Shown = GeneratorHead | PublishedHead
"""Both render alike."""


@torch.no_grad()
def people_in(base: BaseModel, difference: StyleDifference, count: int) -> Iterator[tuple[Shown, Shown]]:
    """``count`` random people, each without the style and in it."""
    generator, painter = base.generator, stylized(base.generator, difference)
    rng = torch.Generator().manual_seed(SEED)
    for _ in range(count):
        z = TRUNCATION * torch.randn(1, generator.config.z_dim, generator=rng).to(next(generator.parameters()))
        if base.imported:
            ws = sampled_styles(generator, z, TRUNCATION)
            yield PublishedHead(generator, ws), PublishedHead(painter, ws)
            continue
        weights = generator.deformation.weights(z) if generator.deforms else None
        moved = None if difference.displacement is None else difference.displacement[None].to(z)
        ws = generator.mapping(z)
        styled = in_style(generator.subject(ws, weights, moved), generator, painter, ws)
        plain = GeneratorHead(generator, generator.subject(ws, weights))
        yield plain, GeneratorHead(generator, styled, difference.contour, difference.light)
