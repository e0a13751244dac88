"""The heads of the pairs, traced once: what of them stays the same while a style is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.traced import Traced, trace
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.style.augment import Pairs
from agile3d_cli.stylizer import Progress


@dataclass(frozen=True)
class Head:
    """One pair's head; half precision where it is large."""

    traced: Traced
    """Every pixel on the base's surface, moved by the style."""
    ws: Tensor
    """(1, num_ws, w_dim)."""
    features: Sequence[Tensor]
    """``Backbone.features``."""


@torch.no_grad()
def all_heads(
    pairs: Pairs,
    generator: TriplaneGenerator,
    displacement: Tensor | None,
    progress: Progress,
) -> list[Head]:
    """The heads of all pairs, on the generator's device, with the style's ``displacement``."""
    size, rows, like = pairs.stylized.shape[-1], [], next(generator.parameters())
    for k, (z, label) in enumerate(zip(pairs.z, pairs.labels, strict=True)):
        z, label = z[None].to(like), label[None].to(like)
        weights = generator.deformation.weights(z) if generator.deforms else None
        moved = None if displacement is None else displacement[None].to(like)
        ws = generator.mapping(z, label if generator.config.label_dim else None)
        features = list(generator.backbone.features(ws))
        subject = Subject(generator.backbone.planes(features, ws), generator.backward(weights, moved))
        origin, direction = camera.rays(label, size, size)
        found = trace(generator, subject, origin[0], direction[0])
        # Which part is where, and its tone, is learnt.
        traced = Traced(found.points.half(), found.shares.half(), found.alpha.half(), None)
        rows.append(Head(traced, ws, [x.half() for x in features]))
        progress("surfaces", (k + 1) / len(pairs))
    return rows
