"""The stylized generator: a branched StyleGAN2 and a finish that doubles its pictures, with a dial for each layer.

Source: Song et al., "AgileGAN" (SIGGRAPH 2021), section 5. The finish is after Shi et al., "Real-Time Single Image and
Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network" (CVPR 2016): crisp lines, little cost.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.network import BRANCHED, BranchedGenerator
from agile3d_cli.models.layers import activate, upsample
from agile3d_cli.models.stylegan2 import Block, StyleGAN2, StyleGAN2Config, synthesis_with_features

FINISH = 24
"""Channels inside the finish."""
COARSE, MIDDLE = 8, 32
"""Largest resolutions, pixels, that the dials ``coarse`` and ``middle`` reach."""


class Drawing(nn.Module):
    """Styles (N, num_ws, w_dim) to pictures of twice the prior's size."""

    def __init__(self, config: StyleGAN2Config, branches: int):
        super().__init__()
        self.generator = BranchedGenerator(config, branches, min(BRANCHED, config.size // 2))
        self.finish = Finish(config.widths[-1])

    @property
    def size(self) -> int:
        """Edge of the finished pictures, pixels."""
        return 2 * self.generator.config.size

    def forward(self, ws: Tensor, branch: int, half: bool = False) -> Tensor:
        """Pictures (N, 3, size, size), about [-1, 1]; with ``half`` of a quarter of that size, half of the prior's."""
        blocks = self.generator.blocks(branch)
        if half:
            blocks = blocks[:-1]
        image, x = synthesis_with_features(self.generator.const, blocks, ws[:, : 2 * len(blocks)])
        return image if half else self.finish(image, x)


class Finish(nn.Module):
    """Doubles pictures (N, 3, S, S) with features (N, C, S, S); adds nothing at first."""

    def __init__(self, inputs: int):
        super().__init__()
        self.hidden = nn.Conv2d(inputs, FINISH, 3, padding=1)
        self.output = nn.Conv2d(FINISH, 12, 3, padding=1)
        with torch.no_grad():
            for parameter in self.output.parameters():
                parameter.zero_()

    def forward(self, image: Tensor, x: Tensor) -> Tensor:
        return upsample(image) + F.pixel_shuffle(self.output(activate(self.hidden(x))), 2)


def started_from(source: StyleGAN2, branches: int, seed: int) -> Drawing:
    """A drawing network that draws, in every branch, what the source draws, doubled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Drawing(source.config, branches)
    generator = made.generator
    generator.mapping.load_state_dict(source.mapping.state_dict())
    with torch.no_grad():
        generator.const.copy_(source.const)
    for branch in range(branches):
        for ours, theirs in zip(generator.blocks(branch), source.blocks, strict=True):
            ours.load_state_dict(theirs.state_dict())
    generator.mapping.requires_grad_(False)
    return made


def dialled(source: StyleGAN2, learnt: Drawing, config: AgileganConfig) -> Drawing:
    """A copy of what was learnt whose weights lie, layer by layer, as far from the source's as the dials say."""
    made = copy.deepcopy(learnt)
    with torch.no_grad():
        made.generator.const.lerp_(source.const, 1 - config.coarse)
        done: set[int] = set()
        for branch in range(len(made.generator.branches)):
            for size, ours, theirs in zip(
                source.config.resolutions, made.generator.blocks(branch), source.blocks, strict=True
            ):
                assert isinstance(theirs, Block)
                if id(ours) not in done:
                    done.add(id(ours))
                    _lerp(ours, theirs.state_dict(), 1 - dial_of(size, config))
        for parameter in made.finish.output.parameters():
            parameter.mul_(config.fine)
    return made.eval().requires_grad_(False)


def dial_of(size: int, config: AgileganConfig) -> float:
    """The dial of the layers of one resolution, pixels."""
    return config.coarse if size <= COARSE else config.middle if size <= MIDDLE else config.fine


def _lerp(ours: nn.Module, theirs: Mapping[str, Tensor], share: float) -> None:
    for name, parameter in ours.named_parameters():
        parameter.lerp_(theirs[name], share)
