"""AgileGAN's attribute-aware generator: StyleGAN2 with a branch of middle layers for each attribute.

Head (4 pixels) and tail (from 128) are shared, so a branch adds little; each branch is a whole generator.
Source: Song et al., "AgileGAN" (SIGGRAPH 2021), section 5. Written from the paper and checked against recorded tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.foreign_stylegan import conv_names, fill, mapping_names, output_names
from agile3d_cli.models.stylegan2 import Block, StyleGAN2Config, synthesis
from agile3d_cli.models.stylegan2 import Mapping as MappingNetwork

BRANCHED = 64
"""Largest resolution of the published branches, pixels."""
LETTERS = "AB"
"""Branches of published files; their test takes A for faces classified as female, B for male."""


class BranchedGenerator(nn.Module):
    """The generator; ``widths`` of its configuration must reach beyond the branches."""

    def __init__(self, config: StyleGAN2Config, branches: int = len(LETTERS), branched: int = BRANCHED):
        super().__init__()
        if config.size <= branched:
            raise ConfigError(f"A generator with branches makes pictures of over {branched} pixels, not {config.size}.")
        self.config = config
        self.mapping = MappingNetwork(config.w_dim, config.mapping_layers)
        self.const = nn.Parameter(torch.randn(config.widths[0], 4, 4))
        self.head = Block(config.widths[0], config.widths[0], config.w_dim, 4)
        sizes = list(zip(pairwise(config.widths), config.resolutions[1:], strict=True))
        own = [(*pair, config.w_dim, size) for pair, size in sizes if size <= branched]
        shared = [(*pair, config.w_dim, size) for pair, size in sizes if size > branched]
        self.branches = nn.ModuleList(nn.ModuleList(Block(*row) for row in own) for _ in range(branches))
        self.tail = nn.ModuleList(Block(*row) for row in shared)

    def forward(self, ws: Tensor, branch: int, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Pictures (N, 3, size, size) of ws (N, num_ws, w_dim) through one branch; ``noise`` as in ``StyleGAN2``."""
        return synthesis(self.const, self.blocks(branch), ws, noise)

    def blocks(self, branch: int) -> list[Block]:
        """The blocks of one branch, from 4 pixels up; together with ``const`` they are a whole generator."""
        middle = self.branches[branch]
        assert isinstance(middle, nn.ModuleList)
        return [block for block in (self.head, *middle, *self.tail) if isinstance(block, Block)]


def names(config: StyleGAN2Config, letters: str = LETTERS) -> dict[str, str]:
    """Our name of every tensor -> that of the published files. A layer's noise map is the same in every branch."""
    found = mapping_names(config.mapping_layers) | {"const": "input.input"}
    found |= conv_names("head.conv1", "conv1", "noises.noise_0") | output_names("head.output", "to_rgb1")
    layer = 1
    own = sum(4 < size <= BRANCHED for size in config.resolutions)
    for k in range(len(config.resolutions) - 1):
        number = k if k < own else k - own
        places = [(f"branches.{b}.{number}", letter) for b, letter in enumerate(letters)]
        for ours, letter in places if k < own else [(f"tail.{number}", "C")]:
            for step, conv in enumerate(("conv0", "conv1")):
                theirs = f"convs{letter}.{2 * number + step}"
                found |= conv_names(f"{ours}.{conv}", theirs, f"noises.noise_{layer + step}")
            found |= output_names(f"{ours}.output", f"to_rgbs{letter}.{number}")
        layer += 2
    return found


def generator_from(tensors: Mapping[str, Tensor]) -> BranchedGenerator:
    """The generator of a published style file's ``g_ema``.

    Raises:
        RefusedError: tensors are missing (a branch is incomplete), unknown, of a wrong shape or not finite.
    """
    config = config_of(tensors)
    with torch.device("meta"):
        network = BranchedGenerator(config)
    fill(network, tensors, names(config), "an AgileGAN generator")
    return network


def config_of(tensors: Mapping[str, Tensor]) -> StyleGAN2Config:
    """Sizes of a published generator from the shapes of its tensors.

    Raises:
        RefusedError: they are not those of an AgileGAN generator.
    """
    layers = sum(name.startswith("style.") for name in tensors) // 2
    counts = {letter: sum(f"to_rgbs{letter}." in n and n.endswith(".conv.weight") for n in tensors) for letter in "AC"}
    try:
        widths = [tensors["input.input"].shape[1]]
        for letter, count in counts.items():
            widths += [tensors[f"convs{letter}.{2 * k + 1}.activate.bias"].shape[0] for k in range(count)]
        if not counts["C"]:
            raise KeyError("convsC")
        return StyleGAN2Config(tuple(widths), tensors["conv1.conv.modulation.weight"].shape[1], layers)
    except (KeyError, IndexError, ConfigError) as error:
        raise RefusedError("The checkpoint is not an AgileGAN generator: its layers cannot be counted.") from error
