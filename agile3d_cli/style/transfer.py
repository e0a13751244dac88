"""Pairs + base generator -> stylized generator: guided transfer learning.

In: stylized pictures at known latents and cameras, and the style's displacement. Out: the weight difference of a second
generator that parts and colours are read from. Surfaces come from the base, moved by the displacement, so a style
cannot tear or flatten a head. The colours of the head's parts are solved first, see ``tones.py``; trained are the mean
planes, the backbone's plane outputs, and what of the planes follows the person's tones (accents).
Source: AgileGAN3D (arXiv 2303.14297), guided transfer learning. The paper's losses are not published; here the pairs
guide by colour and by its differences between neighbouring pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.avatar.traced import colours
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import ACCENTS, StyleDifference, stylized, with_accents
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.log import Log, NoLog
from agile3d_cli.style.state import read_state, write_state
from agile3d_cli.style.surfaces import Head, all_heads
from agile3d_cli.style.tones import take_tones
from agile3d_cli.stylizer import Progress

MEAN = "backbone.mean_planes"


@dataclass(frozen=True)
class Transferred:
    """A learnt difference and how the learning went."""

    difference: StyleDifference
    steps: int
    losses: Mapping[str, float]
    """Mean of each term over the last tenth of the steps."""


def transfer(
    pairs: Pairs,
    base: BaseModel,
    displacement: Tensor | None,
    config: TransferConfig,
    state: Path,
    progress: Progress,
    log: Log | None = None,
) -> Transferred:
    """Fine-tunes the base on the pairs; ``state`` is a file from which an interrupted run goes on."""
    log = log or NoLog()
    generator = stylized(base.generator, StyleDifference({}, displacement))
    if config.accents:
        with_accents(generator)
    generator.requires_grad_(False)
    like = next(generator.parameters())
    heads = all_heads(pairs, base.generator, displacement, like, progress)
    toned = take_tones(generator, pairs, heads) if config.tones and generator.config.parts else {}
    trained = _trained(generator)
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    rates = {MEAN: config.rate, ACCENTS: config.accent_rate}
    groups = [
        {"params": [p.requires_grad_(True)], "base": rates.get(name, config.output_rate)} for name, p in trained.items()
    ]
    optimizer = torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.98))
    rng = torch.Generator().manual_seed(config.seed)
    first = read_state(state, trained, optimizer, rng)
    recent: list[dict[str, float]] = []
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * _pace(step, config)
        picked = [int(k) for k in torch.randint(len(pairs), (config.batch,), generator=rng)]
        terms = _terms(generator, pairs, heads, picked, trained, start, config, rng)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        recent.append({name: float(value.detach()) for name, value in terms.items()})
        log.step(step + 1, recent[-1])
        progress("transfer", (step + 1) / config.steps)
        if (step + 1) % config.checkpoint == 0:
            write_state(state, trained, optimizer, rng, step + 1)
    difference = toned | {name: parameter.detach() - start[name] for name, parameter in trained.items()}
    last = recent[-max(1, config.steps // 10) :]
    losses = {name: sum(row[name] for row in last) / len(last) for name in (last[0] if last else {})}
    return Transferred(StyleDifference(difference, displacement), config.steps, losses)


def _pace(step: int, config: TransferConfig) -> float:
    """Factor on the learning rates: it rises over 20 steps, then falls to a twentieth."""
    return min(1.0, (step + 1) / 20) * (1 - 0.95 * step / config.steps)


def _trained(generator: TriplaneGenerator) -> dict[str, torch.nn.Parameter]:
    chosen = {}
    for name, parameter in generator.named_parameters():
        output = ".output." in name and "affine" not in name
        if name in (MEAN, ACCENTS) or (name.startswith("backbone.") and output):
            chosen[name] = parameter
    return chosen


def _terms(
    generator: TriplaneGenerator,
    pairs: Pairs,
    heads: Sequence[Head],
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
