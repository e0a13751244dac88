"""The heads of the pairs, traced once: what of them stays the same while a style is learnt.

Tracing takes a minute and more, so what it finds is kept on disk in shards, and an interrupted run finds it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.traced import Traced, trace
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import Subject
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.shards import Made, ShardSet
from agile3d_cli.stylizer import Progress

SHARD = 10
"""Heads that are stored together."""
NAMES = ("points", "shares", "alpha")
"""What is stored of ``Traced``."""


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
    pairs: Pairs, base: BaseModel, displacement: Tensor | None, folder: Path, progress: Progress
) -> list[Head]:
    """The heads of all pairs, on the generator's device.

    Args:
        pairs: theirs.
        base: the generator.
        displacement: of the style, see ``StyleDifference``.
        folder: of the shards; holds nothing else.
        progress: told how far the work is.
    """
    generator, size = base.generator, pairs.stylized.shape[-1]
    like = next(generator.parameters())
    moved = None if displacement is None else displacement[None].to(like)
    numbers = [pairs.z, pairs.labels, *([] if displacement is None else [displacement])]
    digest = hashlib.sha256(b"".join(value.cpu().numpy().tobytes() for value in numbers)).hexdigest()
    stored = ShardSet(folder, {"base": base.reference.sha256, "size": size, "heads": digest})

    def code(k: int) -> Tensor:
        label = pairs.labels[k, None].to(like) if generator.config.label_dim else None
        ws: Tensor = generator.mapping(pairs.z[k, None].to(like), label)
        return ws

    def traced(some: Sequence[int]) -> Made:
        rows = []
        for k in some:
            weights = generator.deformation.weights(pairs.z[k, None].to(like)) if generator.deforms else None
            subject = Subject(generator.backbone(code(k)), generator.backward(weights, moved))
            origin, direction = camera.rays(pairs.labels[k, None].to(like), size, size)
            rows.append(trace(generator, subject, origin[0], direction[0]))
            progress("surfaces", (k + 1) / len(pairs))
        return Made({name: torch.stack([getattr(row, name) for row in rows]).half() for name in NAMES})

    heads = []
    for number, some in enumerate(torch.arange(len(pairs)).split(SHARD)):
        shard = stored.shard(number, lambda some=some: traced(some.tolist()))  # type: ignore[misc]
        found = (shard.tensor(name).to(like.device) for name in NAMES)
        for k, points, shares, alpha in zip(some.tolist(), *found, strict=True):
            features = [x.half() for x in generator.backbone.features(code(k))]
            # Which part is where, and its tone, is learnt.
            heads.append(Head(Traced(points, shares, alpha, None), code(k), features))
    return heads
