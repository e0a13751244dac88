"""Density that says what is more likely, where training leaves it at the odds."""

from __future__ import annotations

import math

import torch

from agile3d_cli.models.triplane import Decoder

DECISIVE, SOLID_FROM = 3.0, 0.6
"""Slope of the decision and the share of matter from which a place counts as solid: a speck disturbs more than a hair's
breadth that is missing."""


def decide(decoder: Decoder, step: float) -> None:
    """Makes the density output ``DECISIVE`` times as steep around the density of ``SOLID_FROM``; the surface stays.

    The density loss is a likelihood: where matter was met in a share p of the cases, the least loss is the density that
    absorbs p over ``step`` world units, and hair or ears that the planes cannot resolve become a veil.
    """
    _steepen(decoder, step, DECISIVE)


def undecide(decoder: Decoder, step: float) -> None:
    """Takes ``decide`` back, so that training can go on from a published generator."""
    _steepen(decoder, step, 1 / DECISIVE)


@torch.no_grad()
def _steepen(decoder: Decoder, step: float, slope: float) -> None:
    density = -math.log(1 - SOLID_FROM) / step / decoder.density_gain
    turning = (math.log(math.expm1(density)) + 1) / decoder.density_gain
    decoder.output.weight[0] *= slope
    decoder.output.bias[0] = slope * decoder.output.bias[0] + (1 - slope) * turning
