"""What the weights of a dial do, on a small network: zeros are the plain generator, structure and colour are apart."""

from __future__ import annotations

import pytest
import torch
from agile3d_dualstylegan.dial import STRUCTURE, dial, fused, keeping_color
from agile3d_dualstylegan.network import DualStyleGAN, ResidualBlock
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.stylegan2 import StyleGAN2Config, fresh_noise

MICRO = StyleGAN2Config((4, 4, 5, 4, 3), 8, 2)


@pytest.fixture
def network() -> DualStyleGAN:
    """A small one whose every tensor matters."""
    torch.manual_seed(0)
    made = DualStyleGAN(MICRO).requires_grad_(False)
    for value in made.parameters():
        value.add_(0.3 * torch.randn(value.shape))
    return made


@pytest.fixture
def codes() -> tuple[Tensor, Tensor]:
    """Styles of two faces and of two exemplars."""
    rng = torch.Generator().manual_seed(1)
    ws, extrinsic = (torch.randn(2, MICRO.num_ws, 8, generator=rng) for _ in range(2))
    return ws, extrinsic


def test_a_dial_of_zeros_is_the_plain_generator(network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    ws, extrinsic = codes
    noise = fresh_noise(MICRO, 2, torch.Generator().manual_seed(2))
    zeros = dial(0, 0, MICRO.num_ws)
    assert torch.equal(network(ws, extrinsic, zeros), network.generator(ws))
    assert torch.equal(network(ws, extrinsic, zeros, noise), network.generator(ws, noise))
    assert not torch.equal(network(ws, extrinsic, zeros, noise), network.generator(ws))


def test_a_new_network_is_its_plain_generator(codes: tuple[Tensor, Tensor]) -> None:
    ws, extrinsic = codes
    fresh = DualStyleGAN(MICRO)
    structure, full = (fresh(ws, extrinsic, dial(1, color, MICRO.num_ws)) for color in (0, 1))
    assert torch.equal(structure, fresh.generator(ws))
    torch.testing.assert_close(full, fresh.generator(keeping_color(ws, extrinsic)))


def test_weights_of_colour_leave_shapes_alone(network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    plain, colored, bent = (
        network.features(*codes, dial(*both, MICRO.num_ws)) for both in ((0.5, 0), (0.5, 1), (0.6, 0))
    )
    assert torch.equal(plain[0], colored[0]) and not torch.equal(plain[0], bent[0])
    # The picture at 32 pixels already takes the first style of colour.
    assert not torch.equal(plain[1], colored[1])
    mixed = network.colored(*codes, dial(1, 0.5, MICRO.num_ws))
    assert torch.equal(mixed[:, :STRUCTURE], codes[0][:, :STRUCTURE])
    assert torch.equal(network.colored(*codes, dial(1, 0, MICRO.num_ws)), codes[0])


@pytest.mark.parametrize("layer", range(MICRO.num_ws))
def test_a_weight_acts_from_its_layer_on(layer: int, network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    weights = [0.5] * MICRO.num_ws
    before = list(network.steps(*codes, weights))
    weights[layer] = 0.7
    after = list(network.steps(*codes, weights))
    convolved, painted = (layer + 1) // 2, (layer + 1) // 2 - (layer % 2 if layer >= STRUCTURE else 0)
    for k, (one, two) in enumerate(zip(before, after, strict=True)):
        last = layer == MICRO.num_ws - 1  # the last style colours the picture alone
        assert torch.equal(one[0], two[0]) == (k < convolved or last)
        assert torch.equal(one[1], two[1]) == (k < painted)


@pytest.mark.parametrize("layer", range(MICRO.num_ws))
def test_a_layer_at_zero_does_not_see_the_exemplar(
    layer: int, network: DualStyleGAN, codes: tuple[Tensor, Tensor]
) -> None:
    ws, extrinsic = codes
    weights = [0.7] * MICRO.num_ws
    changed = extrinsic.clone()
    changed[:, layer] += 1
    assert not torch.equal(network(ws, extrinsic, weights), network(ws, changed, weights))
    weights[layer] = 0
    assert torch.equal(network(ws, extrinsic, weights), network(ws, changed, weights))


def test_a_colour_layer_at_one_does_not_see_the_face(network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    ws, extrinsic = codes
    weights = dial(0.75, 1, MICRO.num_ws)
    other = keeping_color(ws, torch.randn_like(ws))
    assert torch.equal(network(ws, extrinsic, weights), network(other, extrinsic, weights))


def test_structure_is_added_in_proportion(network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    block, code = network.residuals[1], codes[1][:, 1]
    assert isinstance(block, ResidualBlock)
    none, half, full = (block(x, code, weight) for weight in (0.0, 0.5, 1.0))
    assert none is x
    torch.testing.assert_close(half, (x + full) / 2)
    # By hand, in double precision.
    norm, values = block.norm0.double(), x.double()
    gamma, beta = norm.style(code.double())[:, :, None, None].chunk(2, 1)
    spread = (values.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    wanted = gamma * (values - values.mean((2, 3), keepdim=True)) / spread + beta
    torch.testing.assert_close(norm(values, code.double()), wanted)


def test_one_exemplar_serves_many_faces(network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    ws, extrinsic = codes[0], codes[1][:1]
    weights = dial(styles=MICRO.num_ws)
    alone = torch.cat([network(ws[k : k + 1], extrinsic, weights) for k in range(2)])
    torch.testing.assert_close(network(ws, extrinsic, weights), alone, rtol=0, atol=1e-5 * float(alone.abs().max()))
    assert keeping_color(extrinsic, ws).shape == ws.shape


def test_a_limit_is_a_dial() -> None:
    weights = tuple(0.1 * k for k in range(1, 11))
    assert fused(weights, 18) == weights and fused(weights, 0) == (0.0,) * 10
    assert fused(weights, 3) == weights[:4] + (0.0,) * 6


def test_a_dial_of_another_length_is_an_error(network: DualStyleGAN, codes: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ConfigError, match="18 weights; this generator takes 10"):
        network(*codes, dial())
    with pytest.raises(ConfigError, match="32 pixels"):
        DualStyleGAN(StyleGAN2Config((4, 4, 4), 8, 1))
