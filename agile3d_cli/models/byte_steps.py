"""Large tensors in a quarter of their size: a byte for each number, and the size of a byte's step for each channel."""

from __future__ import annotations

import torch
from torch import Tensor


def in_bytes(value: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Numbers as int8, and the step (float32) of each of the channels that the first ``axes`` axes count.

    Steps have the tensor's number of axes, so that ``from_bytes`` broadcasts. A number is off by half a step at most:
    1/254 of the largest in its channel.
    """
    rest = tuple(range(axes, value.dim()))
    steps = value.abs().amax(rest, keepdim=True).float() / 127
    return (value / steps.clamp(min=1e-12)).round().to(torch.int8), steps


def from_bytes(stored: Tensor, steps: Tensor) -> Tensor:
    """What ``in_bytes`` was given, within its error; float32."""
    return stored.float() * steps
