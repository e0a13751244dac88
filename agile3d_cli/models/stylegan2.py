"""StyleGAN2 with skip outputs: z -> ws -> picture. What 2D stylizers stand on.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (CVPR 2020). Written from the paper and
checked against recorded tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.layers import Linear, ModulatedConv, activate, upsample

MAPPING_LR = 0.01
FLOOR = 1e-8
"""Added to the squared norm of modulated weights after their gain."""


@dataclass(frozen=True)
class StyleGAN2Config:
    """Sizes of a StyleGAN2."""

    widths: tuple[int, ...]
    """Feature channels at 4, 8, 16 ... pixels."""
    w_dim: int = 512
    """Numbers in z and in a style."""
    mapping_layers: int = 8

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"A StyleGAN2 needs channels at 4 and at 8 pixels at least, not {self.widths}.")

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... size."""
        return [4 << k for k in range(len(self.widths))]

    @property
    def size(self) -> int:
        """Edge of the picture, pixels."""
        return self.resolutions[-1]

    @property
    def num_ws(self) -> int:
        """Styles of one picture."""
        return 2 * len(self.widths)


def configuration_f(size: int) -> StyleGAN2Config:
    """The published sizes for pictures of a power of two from 8 pixels up."""
    return StyleGAN2Config(tuple(min(32768 >> k, 512) for k in range(2, size.bit_length())))


class Mapping(nn.Module):
    """z to w, each (..., w_dim): Z+ codes go through row by row."""

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(Linear(width, width, lr=MAPPING_LR) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(-1, keepdim=True) + 1e-8)
        for layer in self.layers:
            x = activate(layer(x))
        return x


class Block(nn.Module):
    """One resolution: two convolutions (one at 4 pixels) and the output that is added to the skip picture."""

    def __init__(self, before: int, width: int, w_dim: int, resolution: int):
        super().__init__()
        self.first = resolution == 4
        if not self.first:
            self.conv0 = ModulatedConv(before, width, w_dim, resolution, up=True, floor=FLOOR * 9 * before)
        self.conv1 = ModulatedConv(width, width, w_dim, resolution, floor=FLOOR * 9 * width)
        self.output = ModulatedConv(width, 3, w_dim, resolution, kernel=1, plain=True)

    @property
    def convolutions(self) -> list[ModulatedConv]:
        """In order."""
        return [self.conv1] if self.first else [self.conv0, self.conv1]


class StyleGAN2(nn.Module):
    """The generator. Its l-th convolution takes style l; a block's output takes the style after its last."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        self.config = config
        self.mapping = Mapping(config.w_dim, config.mapping_layers)
        self.const = nn.Parameter(torch.randn(config.widths[0], 4, 4))
        before = (config.widths[0], *config.widths[:-1])
        self.blocks = nn.ModuleList(
            Block(a, b, config.w_dim, size)
            for a, b, size in zip(before, config.widths, config.resolutions, strict=True)
        )

    def forward(self, ws: Tensor, noise: Sequence[Tensor] | None = None, size: int | None = None) -> Tensor:
        """Pictures (N, 3, size, size), about [-1, 1] and not clamped.

        Args:
            ws: (N, num_ws, w_dim).
            noise: a map (N or 1, 1, h, w) for each convolution; their own without it.
            size: draws no more than the blocks up to so many pixels, one of the configuration's resolutions.
        """
        count = len(self.blocks) if size is None else 1 + self.config.resolutions.index(size)
        blocks = [block for block in self.blocks if isinstance(block, Block)][:count]
        return synthesis(self.const, blocks, ws[:, : 2 * count], noise)


def synthesis(const: Tensor, blocks: Sequence[Block], ws: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
    """``StyleGAN2.forward`` with given blocks, from 4 pixels up, on ``const`` (C, 4, 4)."""
    return synthesis_with_features(const, blocks, ws, noise)[0]


def synthesis_with_features(
    const: Tensor, blocks: Sequence[Block], ws: Tensor, noise: Sequence[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The picture of ``synthesis`` and the features (N, C, S, S) of its last block."""
    maps: Sequence[Tensor | None] = [None] * ws.shape[1] if noise is None else noise
    x, image, layer = const[None].expand(len(ws), -1, -1, -1), None, 0
    for block in blocks:
        for conv in block.convolutions:
            x = conv(x, ws[:, layer], maps[layer])
            layer += 1
        image = added(image, block.output(x, ws[:, layer]))
    assert image is not None
    return image, x


def added(image: Tensor | None, output: Tensor) -> Tensor:
    """The skip picture, doubled where there is one, with what a block adds to it."""
    return output if image is None else upsample(image) + output


def truncated(ws: Tensor, mean: Tensor, factor: float) -> Tensor:
    """Styles (N, num_ws, w_dim) drawn towards ``mean`` (w_dim,) or (num_ws, w_dim) by 1 - factor."""
    return mean + factor * (ws - mean)


def fresh_noise(config: StyleGAN2Config, count: int, rng: torch.Generator) -> list[Tensor]:
    """A new noise map (count, 1, h, w) for each convolution, drawn on the CPU."""
    sizes = [resolution for resolution in config.resolutions for _ in range(1 if resolution == 4 else 2)]
    return [torch.randn(count, 1, size, size, generator=rng) for size in sizes]
