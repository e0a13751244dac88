"""Convolutions of one subject against the layers they were made of, and tiles against torch's own convolution."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.folded import folded
from agile3d_cli.models.layers import SLOPE, ModulatedConv
from agile3d_cli.models.winograd import tiled_conv, tiled_weight


def layer_of(up: bool, plain: bool, noise: bool) -> ModulatedConv:
    torch.manual_seed(0)
    size = 32 if up else 16
    layer = ModulatedConv(5, 7, 8, size, kernel=1 if plain else 3, up=up, plain=plain, noise=noise, folded=True)
    layer.bias.data.normal_()
    if layer.noise:
        layer.noise_strength.data.fill_(0.4)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize(
    ("up", "plain", "noise"), [(False, False, True), (True, False, True), (True, False, False), (False, True, False)]
)
@pytest.mark.parametrize("clamp", [math.inf, 0.7])
def test_a_folded_layer_is_the_layer(up: bool, plain: bool, noise: bool, clamp: float, tiled: bool) -> None:
    layer, x, w = layer_of(up, plain, noise), torch.randn(1, 5, 16, 16), torch.randn(1, 8)
    expected = layer(x, w).clamp(-clamp, clamp)
    found = folded(layer, w, torch.float32, clamp, tiled)(x.contiguous(memory_format=torch.channels_last))
    # Measured: 1.4e-6 of values up to 9.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_layer_without_noise_may_work_in_tiles() -> None:
    layer, x, w = layer_of(False, False, False), torch.randn(1, 5, 16, 16), torch.randn(1, 8)
    ways = [folded(layer, w, torch.float32, 0.9, tiled)(x) for tiled in (False, True)]
    assert not torch.equal(*ways), "this is one way twice"
    torch.testing.assert_close(*ways, rtol=0, atol=1e-5)
    torch.testing.assert_close(ways[1], layer(x, w).clamp(-0.9, 0.9), rtol=0, atol=1e-5)
    assert folded(layer, w, torch.bfloat16, tiled=True)(x.bfloat16()).dtype == torch.bfloat16


def exact(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1), SLOPE)


@pytest.mark.parametrize("outputs", [9, 64])
@pytest.mark.parametrize("size", [(4, 4), (8, 20), (96, 64)])
def test_tiles_are_a_convolution(size: tuple[int, int], outputs: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 64, *size), torch.randn(outputs, 64, 3, 3) / 24, torch.randn(outputs)
    x = x.contiguous(memory_format=torch.channels_last)
    expected = exact(x, weight, bias)
    found = tiled_conv(x.clone(), tiled_weight(weight), bias, SLOPE, math.inf)
    # Measured: 1.3e-5 of values up to 5, where torch's own convolution is 1.3e-6 off.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=5e-5)
    assert float((found - expected).square().mean().sqrt()) < 3e-6
    assert found.is_contiguous(memory_format=torch.channels_last)
    held = tiled_conv(x.clone(), tiled_weight(weight), bias, SLOPE, 0.5)
    assert torch.equal(held, found.clamp(-0.5, 0.5))
