"""Planes + points -> features -> density and colour.

Source: EG3D (Chan et al., CVPR 2022), section 4.1: features of the three projections are averaged, a small decoder
with softplus gives density and colour features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.layers import Linear

AXES = {"xy_xz_zx": ((0, 1), (0, 2), (2, 0)), "xy_xz_zy": ((0, 1), (0, 2), (2, 1))}
"""Which coordinates run along a plane's columns and rows."""


def plane_features(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """Bilinear look-up and average over the three planes.

    Args:
        planes: (N, 3, C, H, W).
        normalised: (N, P, 3) in [-1, 1]; outside the features are zero.
        axes: key of ``AXES``.

    Returns:
        (N, P, C).
    """
    n, _, channels, height, width = planes.shape
    grid = torch.stack([normalised[..., list(pair)] for pair in AXES[axes]], 1)
    found = F.grid_sample(
        planes.reshape(n * 3, channels, height, width), grid.reshape(n * 3, 1, -1, 2), align_corners=False
    )
    return found.reshape(n, 3, channels, -1).mean(1).transpose(1, 2)


class Decoder(nn.Module):
    """Features (..., C) to density (...,) per world unit and colour features (..., F) in (0, 1)."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.hidden = Linear(config.plane_channels, config.decoder_hidden)
        width = config.decoder_hidden
        self.more = nn.ModuleList(Linear(width, width) for _ in range(config.decoder_layers - 1))
        self.output = Linear(config.decoder_hidden, 1 + config.feature_channels)
        self.density_gain = config.density_gain

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.raw(features)
        return self.density(raw[..., 0]), torch.sigmoid(raw[..., 1:]) * 1.002 - 0.001

    def raw(self, features: Tensor) -> Tensor:
        """Before the squashing functions, (..., 1 + F)."""
        x = F.softplus(self.hidden(features))
        for layer in self.more:
            x = F.softplus(layer(x))
        return self.output(x)

    def density(self, raw: Tensor) -> Tensor:
        """Raw density output to density per world unit."""
        return F.softplus(raw * self.density_gain - 1) * self.density_gain
