"""What the flat prior is taught by: pictures, features, what the teacher knows of a latent, and codes."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.perceptual import unit_features
from agile3d_cli.prior.flat.config import FlatConfig

FACE_RADIUS = 0.3
"""Of the bump of weight in the middle of the picture, at which it has fallen to 0.6; share of the picture."""


def place_weights(alphas: Tensor, config: FlatConfig) -> Tensor:
    """How much each place of pictures with coverage (N, 1, S, S) counts: the face most, the background least.

    The standard cameras look at a point behind the nose, so the face is in the middle of every picture.
    """
    line = (torch.arange(alphas.shape[-1], device=alphas.device) + 0.5) / alphas.shape[-1] - 0.5
    bump = torch.exp(-(line.square()[:, None] + line.square()[None]) / (2 * FACE_RADIUS**2))
    head = alphas * (1 + (config.face_weight - 1) * bump)
    return head + config.background_weight * (1 - alphas)


def picture_terms(
    drawn: Tensor, wanted: Tensor, weight: Tensor, config: FlatConfig, numbers: np.random.Generator
) -> dict[str, Tensor]:
    """Colour and feature terms of pictures (N, 3, S, S) in [-1, 1]."""
    off = drawn - wanted
    return {
        "colour": (weight * off.abs()).mean(),
        "squared": config.squared_weight * (weight * off.square()).mean(),
        "features": config.features_weight * feature_distance(*_looked_at(drawn, wanted, numbers)),
    }


def _looked_at(drawn: Tensor, wanted: Tensor, numbers: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Either whole pictures at half their size, or the same random quarter of all at their full size."""
    if numbers.random() < 0.5:
        return F.avg_pool2d(drawn, 2), F.avg_pool2d(wanted, 2)
    half = drawn.shape[-1] // 2
    top, left = (int(numbers.integers(half + 1)) for _ in range(2))
    rows, columns = slice(top, top + half), slice(left, left + half)
    return drawn[..., rows, columns], wanted[..., rows, columns]


def feature_distance(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Mean Lite0 feature distance; on an accelerator the network runs in bfloat16."""
    device = drawn.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        found = unit_features(drawn)
    with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        aims = unit_features(wanted)
    terms = [(a.float() - b.float()).square().sum(1).mean() for a, b in zip(found, aims, strict=True)]
    return torch.stack(terms).sum()


def code_terms(mean: Tensor, spread: Tensor, codes: Tensor, config: FlatConfig) -> dict[str, Tensor]:
    """Surprise of normal distributions (N, groups, w_dim), means and log-variances, at codes (N, w_dim), and what they
    lie away from the standard one."""
    missed = (codes[:, None] - mean).square() * torch.exp(-spread)
    return {
        "latent": config.latent_weight * 0.5 * (spread + missed).mean(),
        "prior": config.prior_weight * 0.5 * (mean.square() + spread.exp() - 1 - spread).mean(),
    }


def signal_to_noise(drawn: Tensor, wanted: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture (N, 3, S, S) in [-1, 1], dB, (N,)."""
    squared = ((drawn.clamp(-1, 1) - wanted) / 2).square().mean((1, 2, 3))
    return -10 * torch.log10(squared.clamp(min=1e-10))
