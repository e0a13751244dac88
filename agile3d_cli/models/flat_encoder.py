"""Picture -> mean and log-variance of a flat code: the variational encoder of AgileGAN, small.

Source: Song et al., "AgileGAN" (SIGGRAPH 2021), section 4: a code in Z+, one normal distribution for each layer. Here
layers of one scale share a code, and the trunk is our own: 3 x 3 convolutions that halve, each with a residual block
of a depthwise and two narrow convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST, MOST = -7.0, 1.0
"""Bounds of the log-variance."""


@dataclass(frozen=True)
class FlatEncoderConfig:
    """Sizes of the encoder."""

    w_dim: int
    """Numbers of a code."""
    groups: tuple[int, ...]
    """How many of the generator's styles share each code, from 4 pixels up."""
    size: int = 128
    """Edge of the pictures that are looked at, pixels; others are brought to it."""
    widths: tuple[int, ...] = (24, 40, 80, 128, 160)
    """Channels at a half, a quarter ... of the size."""
    last: int = 20
    """Channels that are read out, with their places."""


class FlatEncoder(nn.Module):
    """Pictures (N, 3, H, W) in [-1, 1] to means and log-variances, each (N, groups, w_dim)."""

    def __init__(self, config: FlatEncoderConfig):
        super().__init__()
        self.config = config
        steps = [module for a, b in pairwise((3, *config.widths)) for module in (Halving(a, b), Residual(b))]
        self.trunk = nn.Sequential(*steps, nn.Conv2d(config.widths[-1], config.last, 1))
        cells = (config.size >> len(config.widths)) ** 2
        self.output = nn.Linear(config.last * cells, 2 * len(config.groups) * config.w_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        images = resized(images, self.config.size)
        found = self.output(self.trunk(images).flatten(1)).float()
        mean, spread = found.reshape(len(images), 2, len(self.config.groups), self.config.w_dim).unbind(1)
        return mean, LEAST + (MOST - LEAST) * torch.sigmoid(spread + 1.5)

    def styles(self, codes: Tensor) -> Tensor:
        """A code for each group (N, groups, w_dim) to one for each of the generator's styles (N, num_ws, w_dim)."""
        return torch.cat([codes[:, k : k + 1].expand(-1, count, -1) for k, count in enumerate(self.config.groups)], 1)


class Halving(nn.Module):
    """(N, a, H, W) to (N, b, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm = nn.GroupNorm(min(8, outputs), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class Residual(nn.Module):
    """(N, C, H, W) to the same shape."""

    def __init__(self, width: int):
        super().__init__()
        self.each = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = nn.GroupNorm(min(8, width), width)
        self.widen, self.narrow = nn.Conv2d(width, 2 * width, 1), nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(F.silu(self.widen(self.norm(self.each(x)))))


def resized(images: Tensor, size: int) -> Tensor:
    """Pictures (N, C, H, W) as (N, C, size, size): by areas where they shrink, by interpolation where they grow."""
    if images.shape[-1] == images.shape[-2] == size:
        return images
    if min(images.shape[-2:]) >= size:
        return F.interpolate(images, (size, size), mode="area")
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
