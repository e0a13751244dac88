"""Codes of the exemplars -> a sampler of codes that no exemplar had.

In: extrinsic codes. Out: a ``StyleSampler`` whose draws lie among them: each code pulls the draw that is nearest to it,
and no draw is pulled to all of them, so none is left out.
Source: Yang et al. (CVPR 2022), section 3.2; the pulling after Li and Malik, "Implicit Maximum Likelihood Estimation"
(2018), as in Hoshen et al. (CVPR 2019). Written from the papers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli.stylizer import Progress
from agile3d_dualstylegan.dial import STRUCTURE
from agile3d_dualstylegan.sampler import RowSampler, StyleSampler

STEPS = 150
RATE = 6e-3
WIDTH = 32
"""Numbers of noise; twenty codes have no more to tell."""
DRAWS = 48
"""Codes that are drawn at each step."""


def learn_sampler(codes: Tensor, seed: int, progress: Progress) -> StyleSampler:
    """A frozen sampler of codes (E, num_ws, w_dim)."""
    rng = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sampler = StyleSampler(codes.shape[1], codes.shape[2], WIDTH)
    halves = (sampler.structure, codes[:, :STRUCTURE]), (sampler.color, codes[:, STRUCTURE:])
    for number, (part, wanted) in enumerate(halves):
        progress("learning to draw styles", number / 2)
        _learn(part, wanted.flatten(1), rng)
    return sampler.eval().requires_grad_(False)


def _learn(part: RowSampler, wanted: Tensor, rng: torch.Generator) -> None:
    """Teaches one half; its batch norms are given their statistics at the end."""
    adam = torch.optim.Adam(part.parameters(), RATE)
    for _ in range(STEPS):
        drawn = part(torch.randn(DRAWS, part.width, generator=rng), of_batch=True).flatten(1)
        nearest = torch.cdist(wanted, drawn.detach()).argmin(1)
        loss = (drawn[nearest] - wanted).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    settle(part, torch.randn(16 * DRAWS, part.width, generator=rng))


@torch.no_grad()
def settle(part: RowSampler, noise: Tensor) -> None:
    """Gives the batch norms the statistics of noise (N, width), layer by layer, so that a code can stand alone."""
    x = noise
    for linear, norm in ((part.lin1, part.bn1), (part.lin2, part.bn2)):
        x = linear(x)
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(x.mean(0))
        norm.running_var.copy_(x.var(0))
        x = torch.relu((x - x.mean(0)) / (x.var(0) + norm.eps).sqrt() * norm.weight + norm.bias)
