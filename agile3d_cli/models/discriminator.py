"""StyleGAN2's residual discriminator: pictures -> how real they look.

Source: Karras et al. (CVPR 2020), section 4; the minibatch deviation after Karras et al. 2018, section 3. Written from
the papers and checked against recorded tensors.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.layers import Linear, activate, blur_kernel
from agile3d_cli.models.stylegan2 import StyleGAN2Config

GROUP = 4
"""Pictures whose spread is compared."""


class Conv(nn.Module):
    """Convolution with equalised learning rate; ``down`` blurs and halves, ``plain`` has no bias and no activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, down: bool = False, plain: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.gain, self.kernel, self.down = 1 / math.sqrt(inputs * kernel * kernel), kernel, down
        self.bias = None if plain else nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W), or half as high and wide."""
        if self.down:
            pad, channels = (self.kernel + 1) // 2, x.shape[1]
            taps = blur_kernel(1.0, x).expand(channels, 1, 4, 4)
            x = F.conv2d(F.pad(x, (pad, pad, pad, pad)), taps, groups=channels)
            x = F.conv2d(x, self.weight * self.gain, stride=2)
        else:
            x = F.conv2d(x, self.weight * self.gain, padding=self.kernel // 2)
        return x if self.bias is None else activate(x + self.bias[:, None, None])


class ResidualBlock(nn.Module):
    """Halves the resolution."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3, down=True)
        self.skip = Conv(inputs, outputs, 1, down=True, plain=True)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv1(self.conv0(x)) + self.skip(x)) / math.sqrt(2)


class Discriminator(nn.Module):
    """Pictures (N, 3, size, size) in [-1, 1] to logits (N, 1); above ``GROUP``, N must be a multiple of it."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        widths = config.widths[::-1]
        self.entry = Conv(3, widths[0], 1)
        self.blocks = nn.ModuleList(ResidualBlock(a, b) for a, b in pairwise(widths))
        last = widths[-1]
        self.conv = Conv(last + 1, last, 3)
        self.hidden = Linear(16 * last, last)
        self.output = Linear(last, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.entry(images)
        for block in self.blocks:
            x = block(x)
        x = self.conv(with_deviation(x))
        return self.output(activate(self.hidden(x.flatten(1))))


def with_deviation(x: Tensor) -> Tensor:
    """Features (N, C, H, W) with one more channel: how far the pictures of a group differ on average.

    Members of a group are strided, not neighbours: picture n belongs to group n modulo the number of groups.
    """
    group = min(len(x), GROUP)
    if len(x) % group:
        raise ConfigError(f"The discriminator compares pictures by {GROUP}: {len(x)} cannot be split; take a multiple.")
    spread = x.reshape(group, -1, *x.shape[1:]).var(0, unbiased=False).add(1e-8).sqrt().mean((1, 2, 3))
    return torch.cat([x, spread.repeat(group)[:, None, None, None].expand(-1, 1, *x.shape[2:])], 1)
