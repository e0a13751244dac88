"""Pairs + base generator -> stylized generator: guided transfer learning.

In: stylized pictures at known latents and cameras, and the style's displacement. Out: the weight difference of a second
generator that parts and colours are read from. Surfaces come from the base, moved by the displacement, so a style
cannot tear or flatten a head. Trained are the mean planes, the backbone's plane outputs, and the map from a person's
traits to the colours of the head's parts.
Source: AgileGAN3D (arXiv 2303.14297), guided transfer learning. The paper's losses are not published; here the pairs
guide by colour and by its differences between neighbouring pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.traced import Traced, colours, trace
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.styled import StyleDifference, stylized
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.state import read_state, write_state
from agile3d_cli.stylizer import Progress

MEAN, PALETTE = "backbone.mean_planes", "palette."
SHIFT, LEAD = "palette.layer.bias", 5.0
"""What is learnt alone at first, and how much faster then."""


@dataclass(frozen=True)
class Transferred:
    """A learnt difference and how the learning went."""

    difference: StyleDifference
    steps: int
    losses: Mapping[str, float]
    """Mean of each term over the last tenth of the steps."""


def transfer(
    pairs: Pairs, base: BaseModel, displacement: Tensor | None, config: TransferConfig, state: Path, progress: Progress
) -> Transferred:
    """Fine-tunes the base on the pairs; ``state`` is a file from which an interrupted run goes on."""
    generator = stylized(base.generator, StyleDifference({}, displacement)).requires_grad_(False)
    like = next(generator.parameters())
    heads = _all_heads(pairs, base.generator, displacement, like, progress)
    trained = _trained(generator, config)
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    groups = [
        {"params": [p.requires_grad_(True)], "base": _rate(name, config), "leads": name == SHIFT}
        for name, p in trained.items()
    ]
    optimizer = torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.98))
    rng = torch.Generator().manual_seed(config.seed)
    first = read_state(state, trained, optimizer, rng)
    recent: list[dict[str, float]] = []
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * _pace(step, group["leads"], config)
        picked = [int(k) for k in torch.randint(len(pairs), (config.batch,), generator=rng)]
        terms = _terms(generator, pairs, heads, picked, trained, start, config, rng)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        recent.append({name: float(value.detach()) for name, value in terms.items()})
        progress("transfer", (step + 1) / config.steps)
        if (step + 1) % config.checkpoint == 0:
            write_state(state, trained, optimizer, rng, step + 1)
    difference = {name: parameter.detach() - start[name] for name, parameter in trained.items()}
    last = recent[-max(1, config.steps // 10) :]
    losses = {name: sum(row[name] for row in last) / len(last) for name in (last[0] if last else {})}
    return Transferred(StyleDifference(difference, displacement), config.steps, losses)


def _rate(name: str, config: TransferConfig) -> float:
    if name.startswith(PALETTE):
        return config.tone_rate
    return config.rate if name == MEAN else config.output_rate


def _pace(step: int, leads: bool, config: TransferConfig) -> float:
    """Factor on a learning rate: it rises over 20 steps, then falls to a twentieth; see ``TransferConfig.lead``."""
    lead = round(config.lead * config.steps) if config.tone_rate > 0 else 0
    if step < lead:
        return LEAD * min(1.0, (step + 1) / 20) if leads else 0.0
    return min(1.0, (step + 1 - lead) / 20) * (1 - 0.95 * step / config.steps)


def _trained(generator: TriplaneGenerator, config: TransferConfig) -> dict[str, torch.nn.Parameter]:
    chosen = {}
    for name, parameter in generator.named_parameters():
        output = ".output." in name and "affine" not in name
        tones = name.startswith(PALETTE) and config.tone_rate > 0
        if name == MEAN or (name.startswith("backbone.") and output) or tones:
            chosen[name] = parameter
    return chosen


@dataclass(frozen=True)
class _Head:
    """What of a pair's head stays the same in every step; half precision where it is large."""

    traced: Traced
    """Every pixel on the base's surface, moved by the style."""
    ws: Tensor
    """(1, num_ws, w_dim)."""
    features: Sequence[Tensor]
    """``Backbone.features``."""


@torch.no_grad()
def _all_heads(
    pairs: Pairs,
    generator: TriplaneGenerator,
    displacement: Tensor | None,
    like: Tensor,
    progress: Progress,
) -> list[_Head]:
    size, rows = pairs.stylized.shape[-1], []
    for k, (z, label) in enumerate(zip(pairs.z, pairs.labels, strict=True)):
        z, label = z[None].to(like), label[None].to(like)
        weights = generator.deformation.weights(z) if generator.deforms else None
        moved = None if displacement is None else displacement[None].to(like)
        ws = generator.mapping(z, _condition(generator, label))
        features = list(generator.backbone.features(ws))
        subject = Subject(generator.backbone.planes(features, ws), generator.backward(weights, moved))
        origin, direction = camera.rays(label, size, size)
        found = trace(generator, subject, origin[0], direction[0])
        # Which part is where, and its tone, is learnt.
        traced = Traced(found.points.half(), found.shares.half(), found.alpha.half(), None)
        rows.append(_Head(traced, ws, [x.half() for x in features]))
        progress("surfaces", (k + 1) / len(pairs))
    return rows


def _terms(
    generator: TriplaneGenerator,
    pairs: Pairs,
    heads: Sequence[_Head],
    picked: list[int],
    trained: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    config: TransferConfig,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    like = trained[MEAN] if MEAN in trained else next(iter(trained.values()))
    ws = torch.cat([heads[number].ws for number in picked])
    features = zip(*(heads[number].features for number in picked), strict=True)
    planes = generator.backbone.planes([torch.cat(x).to(like) for x in features], ws)
    palettes = generator.colours_of_parts(ws)
    size = pairs.stylized.shape[-1]
    colour, edges = like.new_zeros(()), like.new_zeros(())
    for k, number in enumerate(picked):
        grid = _window(size, config.patch, rng)
        found = heads[number].traced[grid.reshape(-1)]
        patch = (config.patch, config.patch)
        alpha = found.alpha.to(like).reshape(patch)
        palette = None if palettes is None else palettes[k : k + 1]
        seen = colours(generator, planes[k : k + 1], found, palette).reshape(*patch, 3)
        wanted = (pairs.stylized[number].reshape(3, -1)[:, grid].to(like).permute(1, 2, 0) + 1) / 2
        total = alpha.sum().clamp(min=1)
        colour = colour + (alpha * (seen - wanted).abs().mean(-1)).sum() / total
        for d in (0, 1):
            both = torch.minimum(alpha.narrow(d, 1, patch[d] - 1), alpha.narrow(d, 0, patch[d] - 1))
            edges = edges + (both * (seen.diff(dim=d) - wanted.diff(dim=d)).abs().mean(-1)).sum() / total
    change = trained[MEAN] - start[MEAN] if MEAN in trained else like.new_zeros(1, 2, 2)
    slopes = [change.diff(dim=d).square().mean() for d in (-1, -2)]
    return {
        "colour": colour / len(picked),
        "edges": config.edges * edges / len(picked),
        "smooth": config.smooth * torch.stack(slopes).sum(),
        "small": config.small * change.square().mean(),
    }


def _window(size: int, patch: int, rng: torch.Generator) -> Tensor:
    """Flat pixel numbers (patch, patch) of a random square, near the middle more often than not, at stride 1 or 2."""
    stride = 1 + int(torch.randint(2, (), generator=rng))
    stride = max(1, min(stride, size // patch))
    room = max(size - patch * stride, 0)
    corner = ((torch.randn(2, generator=rng) * 0.22 + 0.5).clamp(0, 1) * room).round().long()
    steps = torch.arange(patch) * stride
    rows, columns = (corner[0] + steps).clamp(max=size - 1), (corner[1] + steps).clamp(max=size - 1)
    return rows[:, None] * size + columns[None]


def _condition(generator: TriplaneGenerator, labels: Tensor) -> Tensor | None:
    return labels if generator.config.label_dim else None
