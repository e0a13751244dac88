"""The colours of pictures, and pictures moved to other colours; no pixel changes its place.

Source: Pitie and Kokaram, The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer, 2007.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agile3d_cli.models.contrast import head_region

FLOOR = 1e-3
"""Added to variances: one plain colour has none."""


def colour_map(pictures: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """(3, 4): the first three columns @ a colour of ``pictures`` + the last column is one of ``wanted``.

    Both are pictures (3, S, S) in [-1, 1]; each counts alike, whatever its size.
    """
    mean, spread = _colours(pictures)
    wanted_mean, wanted_spread = _colours(wanted)
    root, back = _power(spread, 0.5), _power(spread, -0.5)
    turn = back @ _power(root @ wanted_spread @ root, 0.5) @ back
    return torch.cat([turn, (wanted_mean - turn @ mean)[:, None]], 1).float()


def recoloured(images: Tensor, mapping: Tensor, share: float = 1.0) -> Tensor:
    """Pictures (N, 3, H, W) with their colours moved ``share`` (0 ... 1) of the way."""
    moved = torch.einsum("dc,nchw->ndhw", mapping[:, :3].to(images), images) + mapping[:, 3, None, None].to(images)
    return images.lerp(moved, share).clamp(-1, 1)


def _colours(pictures: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean (3,) and covariance (3, 3) of the pixels in the head's region: backgrounds and clothes count for nothing."""
    pixels = [picture.detach().cpu().double()[:, head_region(*picture.shape[-2:])[0, 0] > 0] for picture in pictures]
    mean = torch.stack([each.mean(1) for each in pixels]).mean(0)
    square = torch.stack([each @ each.T / each.shape[1] for each in pixels]).mean(0)
    return mean, square - mean[:, None] * mean + FLOOR * torch.eye(3)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """A power of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.matmul(vectors * values.clamp(min=1e-12).pow(exponent), vectors.T)
