"""The latents that an inversion starts from: one of each hair style, everything else left open."""

from __future__ import annotations

import numpy as np
import torch

from agile3d_cli.heads.parameters import HAIR_STYLES, MIRROR, SWITCHES, Z_DIM, group

LONG = ("bob01", "bob02", "long01", "braid01")


def starting_latents() -> torch.Tensor:
    """Where inversions start, (A, Z_DIM): each hair style parted left and right, long ones also cut short.

    Headwear is left to the encoder: by its outline alone a scarf is taken for hair over a dark collar.
    """
    rows = []
    for number, style in enumerate(HAIR_STYLES):
        for bottom in (-1.2, 0.6) if style in LONG else (0.0,):
            for side in (-1.0, 1.0) if style not in ("buzz", "bald") else (1.0,):
                z = _styled(number, side)
                group(z, "hair")[4] = bottom
                rows.append(z)
    return torch.from_numpy(np.stack(rows)).float()


def _styled(style: int, side: float) -> np.ndarray:
    z = np.zeros(Z_DIM)
    group(z, "hair_style")[:] = -0.8
    group(z, "hair_style")[style] = 2.2
    z[SWITCHES[MIRROR][0]] = side
    return z
