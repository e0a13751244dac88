"""Tensors in bytes: how far they are off, and that channels do not spoil each other."""

from __future__ import annotations

import torch

from agile3d_cli.models.byte_steps import from_bytes, in_bytes


def test_numbers_are_off_by_half_a_step_of_their_channel_at_most() -> None:
    value = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    value[1] *= 1e-6
    value[2, 2] = 0
    for axes in (1, 2):
        stored, steps = in_bytes(value, axes)
        assert stored.dtype == torch.int8 and stored.shape == value.shape
        assert steps.shape == value.shape[:axes] + (1,) * (4 - axes) and steps.dtype == torch.float32
        assert bool(((from_bytes(stored, steps) - value).abs() <= 0.501 * steps).all())
        assert int(stored.abs().max()) == 127 and not bool(stored[2, 2].any())
