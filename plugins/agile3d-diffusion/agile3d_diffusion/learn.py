"""Exemplars and realistic faces -> LoRA of the tiny base: the style's stage of learning.

Source: Ruiz et al., DreamBooth: Fine tuning text-to-image diffusion models for subject-driven generation, 2023. Their
prior preservation keeps the variety of people by training on the model's own pictures as well. Here those are collages
of realistic faces (``collage.py``) in the style's colours, since this base knows no words that could tell the two kinds
apart. They also show heads that are turned, while exemplars mostly look straight ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_diffusion import adapter
from agile3d_diffusion.tiny import LEARNT, TinyBase, noise_levels
from agile3d_diffusion.train_base import denoising_loss

TURN, GROW, SHIFT = 0.06, 0.05, 0.03
"""Jitter of the exemplars: at most so many radians, this share of the size, and this share of the width."""
ENOUGH = 8
"""From so many exemplars on, every ``ENOUGH``-th is held out to say when to stop."""
CHECK = 50
"""Steps between two looks at the exemplars that are held out."""
PATIENCE = 4
"""Looks without an improvement after which the learning stops."""
NOISIER = 0.5
"""Exponent of the noise levels' places, below 1: proportions and features are decided where there is much noise."""
DRAWS = 8
"""Noise levels at which each held-out exemplar is looked at."""


def jittered(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures (B, 3, S, S), each mirrored or not and slightly turned, grown and moved; the upright head stays one."""
    count = len(pictures)
    mirrored = (torch.rand(count, generator=rng) < 0.5).float() * -2 + 1
    angle, grow, u, v = (2 * torch.rand(4, count, generator=rng) - 1) * torch.tensor([[TURN], [GROW], [SHIFT], [SHIFT]])
    cos, sin = angle.cos() * (1 + grow), angle.sin() * (1 + grow)
    places = torch.stack([cos * mirrored, -sin, 2 * u, sin * mirrored, cos, 2 * v], -1).reshape(count, 2, 3)
    grid = F.affine_grid(places, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def learn(
    base: TinyBase,
    exemplars: Tensor,
    prior: Tensor,
    *,
    steps: int,
    batch: int,
    rate: float,
    prior_weight: float,
    seed: int,
    told: Callable[[float], None],
) -> int:
    """Trains the LoRA that ``base`` carries; how many steps it took.

    Args:
        base: prepared by ``adapter.attach``; ends with the best weights seen.
        exemplars: (E, 3, S, S) in [-1, 1], at the base's size.
        prior: (P, 3, S, S) collages of realistic faces.
        steps: at most so many.
        batch: exemplars a step; a quarter as many collages come along.
        rate: of Adam; falls to a tenth.
        prior_weight: of the collages' loss.
        seed: all chance comes from it.
        told: called with the share of the work that is done.
    """
    rng, levels = torch.Generator().manual_seed(seed), noise_levels()
    kept = set(range(ENOUGH - 1, len(exemplars), ENOUGH)) if len(exemplars) >= ENOUGH else set()
    shown = exemplars[[number for number in range(len(exemplars)) if number not in kept]]
    judge = exemplars[sorted(kept)]
    learning = [parameter for parameter in base.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=rate, betas=(0.9, 0.99))
    best, best_weights, waited, step = float("inf"), adapter.learnt(base), 0, 0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 20) * (1 - 0.9 * step / steps)
        loss = denoising_loss(base, *_noised(jittered(_some(shown, batch, rng), rng), rng), levels)
        if prior_weight > 0:
            faces = _some(prior, (batch + 3) // 4, rng)
            loss = loss + prior_weight * denoising_loss(base, *_noised(faces, rng), levels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        told(step / steps)
        if len(judge) and (step % CHECK == 0 or step == steps):
            found = _judged(base, judge, levels)
            waited = 0 if found < best else waited + 1
            if found < best:
                best, best_weights = found, adapter.learnt(base)
            if waited >= PATIENCE:
                break
    if len(judge):
        adapter.take(base, best_weights)
    return step


def _some(pictures: Tensor, count: int, rng: torch.Generator) -> Tensor:
    return pictures[torch.randint(len(pictures), (count,), generator=rng)]


def _noised(clean: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures with their noise levels, spread over all that the base knows, and their noise."""
    places = ((torch.arange(len(clean)) + torch.rand(len(clean), generator=rng)) / len(clean)) ** NOISIER
    return clean, (places * LEARNT).long(), torch.randn(clean.shape, generator=rng)


@torch.no_grad()
def _judged(base: TinyBase, pictures: Tensor, levels: Tensor) -> float:
    """The loss on pictures at ``DRAWS`` levels each, always with the same noise."""
    rng = torch.Generator().manual_seed(0)
    losses = [float(denoising_loss(base, *_noised(one.expand(DRAWS, -1, -1, -1), rng), levels)) for one in pictures]
    return sum(losses) / len(losses)


def small(pictures: Sequence[Tensor], size: int) -> Tensor:
    """Pictures (3, S, S) of any sizes as (N, 3, size, size)."""
    return torch.cat([F.interpolate(one[None].float(), size=(size, size), mode="area") for one in pictures])
