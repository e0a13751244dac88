"""IR-SE50, a face recognition backbone with squeeze-and-excitation, and the feature pyramid encoders built on it.

Modules are named as in the published files, so that these load as they are. Source: Deng et al., "ArcFace" (CVPR 2019);
Hu et al., "Squeeze-and-Excitation Networks" (CVPR 2018); Richardson et al., "Encoding in Style" (pSp, CVPR 2021);
Song et al., "AgileGAN" (SIGGRAPH 2021), section 4. Written from the papers and checked against recorded tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.models.layers import Linear

UNITS = (3, 4, 14, 3)
"""Residual units of the four stages."""
TAPS = (6, 20, 23)
"""Units whose maps the pyramid takes: at a quarter, an eighth and a sixteenth of the input's size."""
COARSE, MIDDLE = 3, 7
"""Heads before the first number read the smallest map, those before the second the middle one, others the largest."""
HEAD_SLOPE = 0.01
IDENTITY_CROP = (slice(35, 223), slice(32, 220))
"""Rows and columns of an aligned picture of 256 pixels that hold the face."""
IDENTITY_SIZE = 112


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a pyramid encoder; the defaults are the published ones."""

    widths: tuple[int, int, int, int] = (64, 128, 256, 512)
    """Channels of the four stages."""
    codes: int = 18
    """Heads: one code for each style of the decoder."""
    reduction: int = 16
    """By which squeeze-and-excitation narrows."""


class SqueezeExcite(nn.Module):
    """Scales channels by what all of the map says."""

    def __init__(self, channels: int, reduction: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // reduction, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Unit(nn.Module):
    """A residual unit."""

    def __init__(self, inputs: int, width: int, stride: int, reduction: int):
        super().__init__()
        self.stride = stride
        self.shortcut_layer = (
            nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))
            if inputs != width
            else None
        )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, width, 3, 1, 1, bias=False),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            SqueezeExcite(width, reduction),
        )

    def forward(self, x: Tensor) -> Tensor:
        kept = x[..., :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        return kept + self.res_layer(x)


def _entry(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width))


def _body(config: EncoderConfig) -> nn.Sequential:
    units, inputs = [], config.widths[0]
    for width, count in zip(config.widths, UNITS, strict=True):
        for k in range(count):
            units.append(Unit(inputs, width, 1 if k else 2, config.reduction))
            inputs = width
    return nn.Sequential(*units)


class FaceRecognition(nn.Module):
    """Pictures (N, 3, 112, 112) in [-1, 1] of faces to unit embeddings (N, 512)."""

    def __init__(self, config: EncoderConfig | None = None):
        super().__init__()
        config = config or EncoderConfig()
        self.input_layer, self.body = _entry(config.widths[0]), _body(config)
        last, side = config.widths[-1], IDENTITY_SIZE // 16
        # The published network drops out between the two while it trains.
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last), nn.Identity(), nn.Flatten(), nn.Linear(last * side * side, 512), nn.BatchNorm1d(512)
        )

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.body(self.input_layer(images))))

    def identity(self, images: Tensor) -> Tensor:
        """Embeddings (N, 512) of aligned pictures (N, 3, 256, 256)."""
        face = images[:, :, IDENTITY_CROP[0], IDENTITY_CROP[1]]
        return self(F.adaptive_avg_pool2d(face, IDENTITY_SIZE))


class Head(nn.Module):
    """A map (N, C, S, S) to one code (N, C)."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        layers: list[nn.Module] = []
        while size > 1:
            layers += [nn.Conv2d(channels, channels, 3, 2, 1), nn.LeakyReLU(HEAD_SLOPE)]
            size //= 2
        self.convs, self.linear = nn.Sequential(*layers), Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.convs(x).flatten(1))


class PyramidEncoder(nn.Module):
    """pSp's gradual encoder: pictures (N, 3, 256, 256) in [-1, 1] to codes (N, codes, widths[-1])."""

    def __init__(self, config: EncoderConfig | None = None):
        super().__init__()
        self.config = c = config or EncoderConfig()
        self.input_layer, self.body = _entry(c.widths[0]), _body(c)
        sizes = [16 if k < COARSE else 32 if k < MIDDLE else 64 for k in range(c.codes)]
        self.styles = nn.ModuleList(Head(c.widths[-1], size) for size in sizes)
        self.latlayer1 = nn.Conv2d(c.widths[2], c.widths[3], 1)
        self.latlayer2 = nn.Conv2d(c.widths[1], c.widths[3], 1)

    def forward(self, images: Tensor) -> Tensor:
        x, taps = self.input_layer(images), []
        for k, unit in enumerate(self.body):
            x = unit(x)
            if k in TAPS:
                taps.append(x)
        large, middle, small = taps
        middle = _below(small, self.latlayer1(middle))
        large = _below(middle, self.latlayer2(large))
        maps = [small if k < COARSE else middle if k < MIDDLE else large for k in range(len(self.styles))]
        return torch.stack([head(x) for head, x in zip(self.styles, maps, strict=True)], 1)


class VariationalEncoder(PyramidEncoder):
    """AgileGAN's hierarchical variational encoder: means and log variances (N, codes, widths[-1]) in Z+."""

    def __init__(self, config: EncoderConfig | None = None):
        super().__init__(config)
        width = (config or EncoderConfig()).widths[-1]
        self.fc_mu, self.fc_var = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        codes = super().forward(images)
        return self.fc_mu(codes), self.fc_var(codes)


def _below(coarse: Tensor, lateral: Tensor) -> Tensor:
    """One step down the pyramid."""
    return F.interpolate(coarse, lateral.shape[-2:], mode="bilinear", align_corners=True) + lateral
