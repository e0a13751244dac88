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
TABLE_POINTS = 4096
"""From so many points on, a look-up without gradients is worth a table of texels."""


def plane_features(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """Bilinear look-up and average over the three planes.

    Args:
        planes: (N, 3, C, H, W).
        normalised: (N, P, 3) in [-1, 1]; outside the features are zero.
        axes: key of ``AXES``.

    Returns:
        (N, P, C).
    """
    many = normalised.shape[1] >= TABLE_POINTS
    if many and planes.device.type == "cpu" and not (planes.requires_grad or normalised.requires_grad):
        return torch.stack([_from_table(own, points, axes) for own, points in zip(planes, normalised, strict=True)])
    return plane_features_plain(planes, normalised, axes)


def plane_features_plain(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """``plane_features`` by torch's own sampling, which gradients flow through."""
    n, _, channels, height, width = planes.shape
    grid = torch.stack([normalised[..., list(pair)] for pair in AXES[axes]], 1)
    found = F.grid_sample(
        planes.reshape(n * 3, channels, height, width), grid.reshape(n * 3, 1, -1, 2), align_corners=False
    )
    return found.reshape(n, 3, channels, -1).mean(1).transpose(1, 2)


def _from_table(planes: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """Planes (3, C, H, W) at points (P, 3) as sums of twelve rows of a table of texels: contiguous reads, on a CPU four
    times as fast as sampling channel by channel."""
    _, channels, height, width = planes.shape
    # A frame of zeros is what lies outside.
    table = F.pad(planes, (1, 1, 1, 1)).permute(0, 2, 3, 1).reshape(-1, channels).contiguous()
    row = width + 2
    rows, shares = [], []
    for number, (along, across) in enumerate(AXES[axes]):
        left, u = _cell(normalised[:, along], width)
        top, v = _cell(normalised[:, across], height)
        first = number * (height + 2) * row + top * row + left
        both = u * v
        rows += [first, first + 1, first + row, first + row + 1]
        shares += [1 - u - v + both, u - both, v - both, both]
    weights = torch.stack(shares, 1) / 3
    return F.embedding_bag(torch.stack(rows, 1), table, mode="sum", per_sample_weights=weights)


def _cell(normalised: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Texel before each coordinate, counted with the frame, and how far the coordinate lies beyond its centre, 0..1."""
    place = ((normalised + 1) * (size / 2) + 0.5).clamp(0, size + 1)
    cell = place.floor().clamp(max=size)
    return cell.int(), place - cell


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
