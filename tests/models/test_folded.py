"""Convolutions of one subject against the layers they were made of, and tiles against torch's own convolution."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.config import GeneratorConfig, PublishedConfig
from agile3d_cli.models.folded import LARGE, folded, folded_planes
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.layers import SLOPE, ModulatedConv
from agile3d_cli.models.winograd import tiled_conv, tiled_weight

PLANES = GeneratorConfig(
    w_dim=8,
    plane_size=2 * LARGE,
    channel_base=1024,
    channel_max=8,
    plane_channels=4,
    published=PublishedConfig(folded=True),
)


def layer_of(up: bool, plain: bool, noise: bool) -> ModulatedConv:
    torch.manual_seed(0)
    size = 32 if up else 16
    layer = ModulatedConv(5, 7, 8, size, kernel=1 if plain else 3, up=up, plain=plain, noise=noise, folded=True)
    layer.bias.data.normal_()
    if layer.noise:
        layer.noise_strength.data.fill_(0.4)
    return layer.requires_grad_(False)


@pytest.mark.parametrize("tile", [0, 2, 4])
@pytest.mark.parametrize(
    ("up", "plain", "noise"), [(False, False, True), (True, False, True), (True, False, False), (False, True, False)]
)
@pytest.mark.parametrize("clamp", [math.inf, 0.7])
def test_a_folded_layer_is_the_layer(up: bool, plain: bool, noise: bool, clamp: float, tile: int) -> None:
    layer, x, w = layer_of(up, plain, noise), torch.randn(1, 5, 16, 16), torch.randn(1, 8)
    expected = layer(x, w).clamp(-clamp, clamp)
    found = folded(layer, w, torch.float32, clamp, tile)(x.contiguous(memory_format=torch.channels_last))
    # Measured: 1.4e-6 of values up to 9.
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("noise", [False, True])
def test_a_layer_may_work_in_tiles(noise: bool, tile: int) -> None:
    layer, x, w = layer_of(False, False, noise), torch.randn(1, 5, 16, 16), torch.randn(1, 8)
    ways = [folded(layer, w, torch.float32, 0.9, side)(x) for side in (0, tile)]
    assert not torch.equal(*ways), "this is one way twice"
    torch.testing.assert_close(*ways, rtol=0, atol=1e-5)
    torch.testing.assert_close(ways[1], layer(x, w).clamp(-0.9, 0.9), rtol=0, atol=1e-5)
    assert folded(layer, w, torch.bfloat16, tile=tile)(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("strip", [1, 3 * 66 * 7, 1 << 22])
def test_strips_are_the_whole(strip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, w = layer_of(True, False, True), torch.randn(1, 5, 16, 16), torch.randn(1, 8)
    monkeypatch.setattr("agile3d_cli.models.folded.STRIP", strip)
    torch.testing.assert_close(folded(layer, w, torch.float32)(x), layer(x, w), rtol=0, atol=1e-5)


def test_planes_in_tiles_are_the_backbones() -> None:
    torch.manual_seed(0)
    network = TriplaneGenerator(PLANES).requires_grad_(False)
    for name, value in network.backbone.state_dict().items():
        if "noise" in name or "bias" in name:
            value.normal_(0, 0.3)
    ws = torch.randn(1, PLANES.num_ws, PLANES.w_dim)
    found = folded_planes(network.backbone, ws)
    # Measured: 2.4e-6 of values up to 6.
    torch.testing.assert_close(found, network.backbone(ws), rtol=0, atol=5e-5)


def exact(x: Tensor, weight: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
    return F.leaky_relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1) + noise, SLOPE)


@pytest.mark.parametrize("outputs", [9, 64])
@pytest.mark.parametrize("size", [(4, 4), (8, 20), (96, 64)])
@pytest.mark.parametrize(("tile", "most", "rms"), [(2, 1e-5, 5e-7), (4, 5e-5, 3e-6)])
def test_tiles_are_a_convolution(size: tuple[int, int], outputs: int, tile: int, most: float, rms: float) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(1, 64, *size), torch.randn(outputs, 64, 3, 3) / 24, torch.randn(outputs)
    x = x.contiguous(memory_format=torch.channels_last)
    noise = torch.randn(1, 1, *size)
    expected = exact(x, weight, bias, noise)
    found = tiled_conv(x.clone(), tiled_weight(weight, tile), bias, noise, SLOPE, math.inf)
    # Measured: 2.0e-6 and 1.2e-5 of values up to 8, where torch's own convolution is 4.2e-6 off.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=most)
    assert float((found - expected).square().mean().sqrt()) < rms
    assert found.is_contiguous(memory_format=torch.channels_last)
    held = tiled_conv(x.clone(), tiled_weight(weight, tile), bias, noise, SLOPE, 0.5)
    assert torch.equal(held, found.clamp(-0.5, 0.5))
