"""The intrinsic path's fine layers: learnt with the style, and blended by the dial.

DualStyleGAN leaves its intrinsic path as it is, so fine layers can only mix strokes that faces have already. A small
prior of smooth heads has none of a drawing's, so from 64 pixels on its convolutions are learnt as well. Each follows
its weight in the dial back to the prior's, so that a dial of zeros is still the plain prior, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from agile3d_cli.models.stylegan2 import Block, StyleGAN2
from agile3d_dualstylegan.dial import STRUCTURE
from agile3d_dualstylegan.network import DualStyleGAN

COARSE = (STRUCTURE + 1) // 2
"""Blocks of structure: 4 to 32 pixels."""


def fine_blocks(generator: StyleGAN2) -> dict[int, Block]:
    """By number, the blocks from 64 pixels on."""
    return {k: block for k, block in enumerate(generator.blocks) if k >= COARSE and isinstance(block, Block)}


def at_dial(network: DualStyleGAN, source: StyleGAN2, weights: Sequence[float]) -> DualStyleGAN:
    """A frozen copy of the network whose fine layers lie between the prior's and their own as a dial says."""
    found = copy.deepcopy(network).eval().requires_grad_(False)
    for layer, own, plain in _layers(found.generator, source):
        for value, start in zip(own.parameters(), plain.parameters(), strict=True):
            value.copy_(value if weights[layer] == 1 else torch.lerp(start, value, weights[layer]))
    return found


def _layers(one: StyleGAN2, two: StyleGAN2) -> Iterator[tuple[int, nn.Module, nn.Module]]:
    """Fine convolutions and outputs of two generators with the number of the style that each takes."""
    others = fine_blocks(two)
    for k, block in fine_blocks(one).items():
        first, other = 2 * k - 1, others[k]
        for number, (a, b) in enumerate(zip(block.convolutions, other.convolutions, strict=True)):
            yield first + number, a, b
        yield first + len(block.convolutions), block.output, other.output
