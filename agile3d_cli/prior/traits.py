"""Latents alone -> the small network that knows what they stand for; minutes, and no picture is needed."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.heads.parameters import Z_DIM, parameters
from agile3d_cli.heads.traits import part_colours, traits
from agile3d_cli.models.backbone import Mapping
from agile3d_cli.models.generator import TriplaneGenerator

log = logging.getLogger("agile3d.prior")
DRAWS, STEPS, BATCH, RATE = 200_000, 6000, 1024, 3e-2
PALETTE_DRAWS = 20_000


def learn_traits(mapping: Mapping, seed: int, draws: int = DRAWS, steps: int = STEPS) -> float:
    """Trains ``mapping.traits`` to give every trait, brought to zero mean and unit deviation over random latents.

    Returns:
        Share of the traits' variance that is left on latents it has not seen.
    """
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(draws, Z_DIM))
    wanted = torch.from_numpy(np.stack([traits(parameters(row)) for row in z])).float()
    wanted = (wanted - wanted.mean(0)) / wanted.std(0)
    known = torch.from_numpy(z).float()
    apart = draws // 50
    picks = torch.Generator().manual_seed(seed)
    network = mapping.traits
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        rows = torch.randint(apart, draws, (BATCH,), generator=picks)
        loss = (network(mapping.entry(known[rows])[0]) - wanted[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        left = (network(mapping.entry(known[:apart])[0]) - wanted[:apart]).square().mean(0)
    log.info("traits learnt, variance left %.4f, worst %.4f", float(left.mean()), float(left.max()))
    return float(left.mean())


@torch.no_grad()
def start_palette(generator: TriplaneGenerator, seed: int, draws: int = PALETTE_DRAWS) -> float:
    """Gives ``generator.palette`` the linear map from traits, which must be learnt already, to the parts' colours.

    Returns:
        Root mean square of the colour differences that are left.
    """
    weight, bias, left = _named_palette(generator, seed, draws)
    generator.palette.layer.weight.copy_(weight)
    generator.palette.layer.bias.copy_(bias)
    return left


@torch.no_grad()
def name_hues(generator: TriplaneGenerator, seed: int, draws: int = PALETTE_DRAWS) -> None:
    """Gives plain parts the hues that their latents name, and leaves them the lightness that was learnt.

    Light and shadow of such a part are learnt, but its hue is known; in training it drifts towards grey, as others'
    colours still shine through where parts meet.
    """
    layer, parts = generator.palette.layer, list(generator.config.plain_parts)
    weight, bias, _ = _named_palette(generator, seed, draws)
    for learnt, named in ((layer.weight, weight), (layer.bias, bias)):
        own, known = (values.unflatten(0, (-1, 3))[parts] for values in (learnt, named))
        hued = own.mean(1, keepdim=True) + known - known.mean(1, keepdim=True)
        learnt.unflatten(0, (-1, 3))[parts] = hued


def _named_palette(generator: TriplaneGenerator, seed: int, draws: int) -> tuple[Tensor, Tensor, float]:
    """Weight and bias of the palette's layer that give the colours of ``part_colours``, and what they miss."""
    z = np.random.default_rng([seed, 1]).normal(size=(draws, Z_DIM))
    wanted = torch.from_numpy(np.stack([part_colours(parameters(row)) for row in z])).float().flatten(1)
    ws = generator.mapping(torch.from_numpy(z).float())
    layer, inputs = generator.palette.layer, generator.palette.traits_of(ws)
    known = torch.cat([inputs, torch.ones(draws, 1)], 1)
    solved = torch.linalg.lstsq(known, wanted).solution
    return solved[:-1].T / layer.gain, solved[-1], float((known @ solved - wanted).square().mean().sqrt())
