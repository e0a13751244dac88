"""Rendered features -> image: the convolutions that EG3D-type networks put behind the volume renderer.

``mini`` has none; imported networks need them for their full picture.
Source: EG3D (Chan et al., CVPR 2022), section 4.2 and supplement: two blocks, the last style for every layer, no noise.
Written from the paper.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.layers import ModulatedConv, upsample


class EnlargeBlock(nn.Module):
    """Two convolutions and the output that is added to the image, all held in [-clamp, clamp]."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, size: int, up: bool, clamp: float, folded: bool):
        super().__init__()
        self.up, self.clamp = up, clamp or math.inf
        self.conv0 = ModulatedConv(inputs, outputs, w_dim, size, up=up, noise=False, folded=folded)
        self.conv1 = ModulatedConv(outputs, outputs, w_dim, size, noise=False, folded=folded)
        self.output = ModulatedConv(outputs, 3, w_dim, size, kernel=1, plain=True, folded=folded)

    def forward(self, x: Tensor, image: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, C, H, W), image (N, 3, H, W) and styles (N, w_dim) -> both at the block's size."""
        x = self.conv0(x, w).clamp(-self.clamp, self.clamp)
        x = self.conv1(x, w).clamp(-self.clamp, self.clamp)
        image = upsample(image) if self.up else image
        return x, image + self.output(x, w).clamp(-self.clamp, self.clamp)


class Superresolution(nn.Module):
    """All blocks of a configuration."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config.superresolution
        blocks = []
        inputs, before = config.feature_channels, self.config.entry
        for size, channels in zip(self.config.sizes, self.config.channels, strict=True):
            up, clamp = size == 2 * before, self.config.clamp
            blocks.append(EnlargeBlock(inputs, channels, config.w_dim, size, up, clamp, config.published.folded))
            inputs, before = channels, size
        self.blocks = nn.ModuleList(blocks)

    def forward(self, features: Tensor, ws: Tensor) -> Tensor:
        """Rendered features (N, F, R, R), the first three RGB in [-1, 1], and ws (N, num_ws, w_dim).

        Returns:
            (N, 3, S, S), about [-1, 1], not clamped.
        """
        return self.piece(features, ws, self.config.entry)

    def piece(self, features: Tensor, ws: Tensor, entry: int) -> Tensor:
        """``forward`` of a square cut out of what was rendered, which ``entry`` pixels of the first block make up.

        Towards its edges, by about five of these, the picture differs from that of the whole.
        """
        if features.shape[-1] != entry:
            features = F.interpolate(features, (entry, entry), mode="bilinear", align_corners=False, antialias=True)
        x, image = features, features[:, :3]
        for block in self.blocks:
            x, image = block(x, image, ws[:, -1])
        return image
