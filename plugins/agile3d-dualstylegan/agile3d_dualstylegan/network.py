"""DualStyleGAN: face styles + styles of one exemplar + dial -> the face as a picture of the exemplar's kind.

A StyleGAN2 (the intrinsic path) draws the face. The exemplar (the extrinsic path) bends the features of its coarse
layers through residual blocks and takes the place of the styles of its fine layers.
Source: Yang et al., "Pastiche Master: Exemplar-Based High-Resolution Portrait Style Transfer" (CVPR 2022), section 3;
adaptive instance normalisation of Huang and Belongie (ICCV 2017). Written from the papers and checked against recorded
tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models import foreign_stylegan
from agile3d_cli.models.discriminator import Conv
from agile3d_cli.models.foreign_stylegan import fill, generator_names, mapping_names
from agile3d_cli.models.layers import Linear
from agile3d_cli.models.stylegan2 import Block, StyleGAN2, StyleGAN2Config, added
from agile3d_cli.models.stylegan2 import Mapping as MappingNetwork
from agile3d_dualstylegan.dial import STRUCTURE

TRANSFORM_LAYERS = 2
EPSILON = 1e-5
"""Added to the variance that instance normalisation divides by."""
LARGEST = 4096
"""Pixels of a picture that are believed of a file."""
PARTS = ("weight", "bias")
INTRINSIC = "generator."
"""What the names of the StyleGAN2's tensors begin with."""


class StyledNorm(nn.Module):
    """Adaptive instance normalisation: every channel gets the spread and the mean that a code asks for.

    The code is read by a plain linear layer, without equalised learning rate, and the spread is what it says, not one
    more than that: so the published weights want it.
    """

    def __init__(self, channels: int, w_dim: int):
        super().__init__()
        self.style = nn.Linear(w_dim, 2 * channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """(N, C, H, W) and codes (N or 1, w_dim)."""
        asked: Tensor = self.style(code)
        spread, mean = asked[:, :, None, None].chunk(2, 1)
        return spread * F.instance_norm(x, eps=EPSILON) + mean


class ResidualBlock(nn.Module):
    """Modulative residual: what an exemplar adds to the features of one layer."""

    def __init__(self, channels: int, w_dim: int):
        super().__init__()
        self.norm0, self.conv0 = StyledNorm(channels, w_dim), Conv(channels, channels, 3)
        self.norm1, self.conv1 = StyledNorm(channels, w_dim), Conv(channels, channels, 3)
        # The paper starts near zero; at zero, a new network is its StyleGAN2 exactly.
        nn.init.zeros_(self.conv1.weight)

    def forward(self, x: Tensor, code: Tensor, weight: float) -> Tensor:
        """(N, C, H, W) and structure codes (N or 1, w_dim); weight 0 leaves ``x`` as it is."""
        if weight == 0:
            return x
        change: Tensor = self.conv0(self.norm0(x, code))
        change = self.conv1(self.norm1(change, code))
        return x + weight * change


class DualStyleGAN(nn.Module):
    """The generator. ``generator`` alone is the plain intrinsic one, as a dial of zeros is."""

    def __init__(self, config: StyleGAN2Config):
        super().__init__()
        if config.num_ws <= STRUCTURE:
            raise ConfigError(f"DualStyleGAN makes pictures of 32 pixels or more, not {config.size}.")
        self.config = config
        self.generator = StyleGAN2(config)
        # Begins with the norm of a mapping network, though what it is given are styles already: trained that way.
        self.transform = MappingNetwork(config.w_dim, TRANSFORM_LAYERS)
        self.residuals = nn.ModuleList(
            ResidualBlock(config.widths[(layer + 1) // 2], config.w_dim) for layer in range(STRUCTURE)
        )
        self.colors = nn.ModuleList(_identity(config.w_dim) for _ in range(STRUCTURE, config.num_ws))

    def forward(
        self, ws: Tensor, extrinsic: Tensor, dial: Sequence[float], noise: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Pictures (N, 3, size, size), about [-1, 1] and not clamped.

        Args:
            ws: (N, num_ws, w_dim), the face's styles, truncated where that is wanted.
            extrinsic: (N or 1, num_ws, w_dim), the exemplar's styles. Published codes are Z+ and are mapped by
                ``generator.mapping`` first.
            dial: a weight for each style; see ``dial.py``.
            noise: as in ``StyleGAN2``.

        Raises:
            ConfigError: the dial has another number of weights.
        """
        *_, (_, image) = self.steps(ws, extrinsic, dial, noise)
        return image

    def features(
        self, ws: Tensor, extrinsic: Tensor, dial: Sequence[float], noise: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (N, C, 32, 32) and skip picture (N, 3, 32, 32) where structure ends and colour begins."""
        for x, image in self.steps(ws, extrinsic, dial, noise):
            if x.shape[-1] == self.config.resolutions[STRUCTURE // 2]:
                return x, image
        raise AssertionError("every generator reaches 32 pixels")

    def steps(
        self, ws: Tensor, extrinsic: Tensor, dial: Sequence[float], noise: Sequence[Tensor] | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and skip picture after each resolution, from 4 pixels up; arguments as in ``forward``."""
        styles = self.colored(ws, extrinsic, dial)
        codes = self.transform(extrinsic[:, :STRUCTURE])
        maps: Sequence[Tensor | None] = [None] * self.config.num_ws if noise is None else noise
        x, image, layer = self.generator.const[None].expand(len(ws), -1, -1, -1), None, 0
        for block in self.generator.blocks:
            assert isinstance(block, Block)
            for conv in block.convolutions:
                x = conv(x, styles[:, layer], maps[layer])
                if layer < STRUCTURE:
                    x = self.residuals[layer](x, codes[:, layer], dial[layer])
                layer += 1
            # Its style is that of the next block's first convolution: of colour from 32 pixels on.
            image = added(image, block.output(x, styles[:, layer]))
            yield x, image

    def colored(self, ws: Tensor, extrinsic: Tensor, dial: Sequence[float]) -> Tensor:
        """The face's styles (N, num_ws, w_dim) with those of colour moved to the exemplar's by the dial."""
        if len(dial) != self.config.num_ws:
            raise ConfigError(f"The dial has {len(dial)} weights; this generator takes {self.config.num_ws}.")
        rows = list(ws.unbind(1))
        for layer, color in enumerate(self.colors, STRUCTURE):
            rows[layer] = dial[layer] * color(extrinsic[:, layer]) + (1 - dial[layer]) * rows[layer]
        return torch.stack(rows, 1)


def _identity(width: int) -> Linear:
    """A linear layer that, untrained, changes nothing."""
    layer = Linear(width, width)
    layer.weight = nn.Parameter(torch.eye(width) * math.sqrt(width))
    return layer


def names(config: StyleGAN2Config) -> dict[str, str]:
    """Our name of every tensor -> that of the published files."""
    found = {INTRINSIC + ours: INTRINSIC + theirs for ours, theirs in generator_names(config).items()}
    found |= mapping_names(TRANSFORM_LAYERS, "transform.layers", "style")
    for k in range(STRUCTURE):
        for ours, theirs in (("0", ""), ("1", "2")):
            found |= {f"residuals.{k}.norm{ours}.style.{part}": f"res.{k}.norm{theirs}.style.{part}" for part in PARTS}
            found[f"residuals.{k}.conv{ours}.weight"] = f"res.{k}.conv{theirs}.0.weight"
            found[f"residuals.{k}.conv{ours}.bias"] = f"res.{k}.conv{theirs}.1.bias"
    for k in range(config.num_ws - STRUCTURE):
        found |= {f"colors.{k}.{part}": f"res.{k + STRUCTURE}.{part}" for part in PARTS}
    return found


def generator_from(tensors: Mapping[str, Tensor]) -> DualStyleGAN:
    """The generator of a published style file's ``g_ema``.

    Raises:
        RefusedError: tensors are missing, unknown, of a wrong shape or not finite.
    """
    config = config_of(tensors)
    with torch.device("meta"):
        network = DualStyleGAN(config)
    fill(network, tensors, names(config), "a DualStyleGAN generator")
    return network


def config_of(tensors: Mapping[str, Tensor]) -> StyleGAN2Config:
    """Sizes of a published generator from the shapes of its tensors.

    Raises:
        RefusedError: they are not those of a DualStyleGAN generator.
    """
    intrinsic = {name.removeprefix(INTRINSIC): value for name, value in tensors.items() if name.startswith(INTRINSIC)}
    try:
        config = foreign_stylegan.config_of(intrinsic)
    except RefusedError as error:
        raise RefusedError("The checkpoint is not a DualStyleGAN generator: its layers cannot be counted.") from error
    if config.num_ws <= STRUCTURE or config.size > LARGEST or config.w_dim < 1:
        raise RefusedError("The checkpoint is not a DualStyleGAN generator: its sizes are those of no such network.")
    return config
