"""Drawn pictures -> what photos of such heads might look like, many at once, on the device where they lie."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.style.faces import BACKGROUND

ZOOM, SHIFT, TURN = 0.02, 0.02, 0.02
"""Spread of the framing's error: as a share, in half-pictures, radians."""
GAMMA, CAST, LEVEL, NOISE = 0.15, 0.06, 0.03, 0.04
"""Spread of the exponent's logarithm, of colours' gains and of brightness; most noise; colours in [0, 1]."""
COARSEST = 0.45
"""Smallest share of the size through which a picture goes."""
PLAIN_SHARE = 0.3
"""Of pictures whose background stays as it is."""


@torch.no_grad()
def disturbed(images: Tensor, alphas: Tensor, rng: torch.Generator, numbers: np.random.Generator) -> Tensor:
    """Pictures (N, 3, S, S) in [-1, 1] with coverage (N, 1, S, S), disturbed.

    Args:
        images: over the grey of ``BACKGROUND``.
        alphas: where the head is.
        rng: on the pictures' device.
        numbers: chance that all pictures share.
    """
    n, size = len(images), images.shape[-1]

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=rng, device=images.device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=rng, device=images.device)

    behind = torch.where(
        uniform(1, 1, 1) < PLAIN_SHARE, torch.full((), BACKGROUND, device=images.device), 2 * uniform(3, 1, 1) - 1
    )
    shown = images + (1 - alphas) * (behind - BACKGROUND)
    zoom, turn = 1 + ZOOM * normal(), TURN * normal()
    across, along = zoom * turn.cos(), zoom * turn.sin()
    move = torch.stack([across, -along, SHIFT * normal(), along, across, SHIFT * normal()], 1).reshape(n, 2, 3)
    grid = F.affine_grid(move, [n, 3, size, size], align_corners=False)
    shown = F.grid_sample(shown, grid, padding_mode="border", align_corners=False)
    colour = ((shown + 1) / 2).clamp(1e-3, 1) ** torch.exp(GAMMA * normal(1, 1, 1))
    colour = colour * (1 + CAST * normal(3, 1, 1)) + LEVEL * normal(1, 1, 1)
    small = max(int(size * numbers.uniform(COARSEST, 1)), 1)
    colour = F.interpolate(colour, (small, small), mode="area")
    colour = F.interpolate(colour, (size, size), mode="bilinear", align_corners=False)
    colour = colour + NOISE * uniform(1, 1, 1).square() * normal(3, size, size)
    return colour.clamp(0, 1) * 2 - 1
