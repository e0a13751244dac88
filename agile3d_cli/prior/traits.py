"""Latents alone -> the small network that knows what they stand for; minutes, and no picture is needed."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch

from agile3d_cli.heads.parameters import Z_DIM, parameters
from agile3d_cli.heads.traits import traits
from agile3d_cli.models.backbone import Mapping

log = logging.getLogger("agile3d.prior")
DRAWS, STEPS, BATCH, RATE = 200_000, 6000, 1024, 3e-2


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
