"""Layers against naive loops and closed forms, in double precision."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models import layers
from agile3d_cli.models.layers import GAIN, SLOPE, Linear, ModulatedConv, activate, blur_kernel, softplus, upsample


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blur_loop(padded: Tensor, gain: float) -> Tensor:
    """Correlation of one padded channel (H, W) with the binomial filter, entry by entry."""
    taps = [1, 3, 3, 1]
    rows, columns = padded.shape[0] - 3, padded.shape[1] - 3
    out = torch.zeros(rows, columns, dtype=padded.dtype)
    for i in range(rows):
        for j in range(columns):
            for a in range(4):
                for b in range(4):
                    out[i, j] += gain * taps[a] * taps[b] / 64 * padded[i + a, j + b]
    return out


def zero_stuffed(x: Tensor) -> Tensor:
    stuffed = torch.zeros(2 * x.shape[0], 2 * x.shape[1], dtype=x.dtype)
    stuffed[::2, ::2] = x
    return stuffed


def test_linear_is_equalised() -> None:
    torch.manual_seed(0)
    layer = Linear(5, 3, lr=0.01, bias=1.0).double()
    x = seeded(4, 5)
    expected = x @ (layer.weight * 0.01 / math.sqrt(5)).T + layer.bias * 0.01
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.bias * 0.01, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-7)


def test_equalised_outputs_have_unit_variance_whatever_the_multiplier() -> None:
    torch.manual_seed(0)
    for lr in (0.01, 1.0):
        out = Linear(256, 1024, lr=lr)(torch.randn(1024, 256))
        # The inputs' own second moment varies by sqrt(2 / (1024 * 256)) = 0.003, the weights' as much.
        assert abs(float(out.detach().var()) - 1) < 0.02


def test_activation_keeps_the_second_moment() -> None:
    x = seeded(200_000)
    # E[y^2] = gain^2 (1 + slope^2) / 2 = 1.04 for a normal input.
    assert float(activate(x).square().mean()) == pytest.approx(GAIN**2 * (1 + SLOPE**2) / 2, abs=0.02)
    assert float(activate(torch.tensor(-1.0))) == pytest.approx(-SLOPE * GAIN)


def test_blur_kernel_is_the_separable_binomial() -> None:
    kernel = blur_kernel(4.0, torch.zeros((), dtype=torch.float64))
    assert float(kernel.sum()) == pytest.approx(4.0)
    torch.testing.assert_close(kernel, 4 * torch.outer(*2 * [torch.tensor([1.0, 3, 3, 1]).double() / 8]))


def test_upsample_stuffs_zeros_and_blurs() -> None:
    x = seeded(1, 2, 3, 5)
    up = upsample(x)
    for c in range(2):
        # Two zeros before, one after: EG3D's and StyleGAN2's padding.
        expected = blur_loop(F.pad(zero_stuffed(x[0, c]), (2, 1, 2, 1)), 4.0)
        torch.testing.assert_close(up[0, c], expected)


def test_upsample_keeps_constants_and_slopes_inside() -> None:
    ramp = torch.arange(8, dtype=torch.float64).expand(1, 1, 8, 8)
    up = upsample(ramp)[0, 0, 4]
    # Sample k of the doubled line lies at (k - 0.5) / 2 of the old one.
    torch.testing.assert_close(up[2:14], (torch.arange(2, 14, dtype=torch.float64) - 0.5) / 2)


def conv_loop(x: Tensor, weight: Tensor) -> Tensor:
    """(C, H, W) with (O, C, k, k), zero padding that keeps the size."""
    k = weight.shape[2]
    padded = F.pad(x, 4 * (k // 2,))
    out = torch.zeros(weight.shape[0], *x.shape[1:], dtype=x.dtype)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            out[:, i, j] = torch.einsum("ocab,cab->o", weight, padded[:, i : i + k, j : j + k])
    return out


def modulated_weights(layer: ModulatedConv, w: Tensor, demodulate: bool) -> Tensor:
    """The paper's form: scale weights (O, C, k, k) per input channel, then bring output channels to unit norm."""
    weight = layer.weight * layer.affine(w[None])[0][None, :, None, None]
    return weight * torch.rsqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8) if demodulate else weight


def filled(layer: ModulatedConv) -> ModulatedConv:
    with torch.no_grad():
        for k, parameter in enumerate(layer.parameters()):
            parameter.copy_(seeded(*parameter.shape, seed=k))
    return layer.double()


def test_modulated_convolution_equals_modulated_weights() -> None:
    layer = filled(ModulatedConv(3, 4, 6, size=5))
    x, w = seeded(2, 3, 5, 5), seeded(2, 6, seed=1)
    out = layer(x, w)
    for n in range(2):
        plain = conv_loop(x[n], modulated_weights(layer, w[n], True))
        noisy = plain + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
        torch.testing.assert_close(out[n], activate(noisy))


def test_up_convolution_is_zero_stuffing_convolution_and_blur() -> None:
    layer = filled(ModulatedConv(2, 3, 6, size=8, up=True))
    x, w = seeded(1, 2, 4, 4), seeded(1, 6, seed=1)
    weight = modulated_weights(layer, w[0], True)
    # A strided transposed convolution spreads each input over the kernel's footprint.
    spread = torch.zeros(3, 9, 9, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            spread[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += torch.einsum("ocab,c->oab", weight, x[0, :, i, j])
    blurred = torch.stack([blur_loop(F.pad(channel, (1, 1, 1, 1)), 4.0) for channel in spread])
    noisy = blurred + layer.noise_const * layer.noise_strength + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w)[0], activate(noisy))


def test_plain_convolution_has_neither_norm_nor_activation() -> None:
    layer = filled(ModulatedConv(3, 4, 6, size=5, kernel=1, plain=True))
    x, w = seeded(1, 3, 5, 5), seeded(1, 6, seed=1)
    expected = conv_loop(x[0], modulated_weights(layer, w[0], False) / math.sqrt(3)) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(x, w)[0], expected)
    assert {name for name, _ in layer.named_parameters()} == {"affine.weight", "affine.bias", "weight", "bias"}


def test_a_layer_without_noise_equals_one_of_no_strength() -> None:
    silent, noisy = filled(ModulatedConv(3, 4, 6, size=5, noise=False)), filled(ModulatedConv(3, 4, 6, size=5))
    noisy.load_state_dict(silent.state_dict() | {"noise_strength": torch.zeros(()), "noise_const": torch.randn(5, 5)})
    x, w = seeded(1, 3, 5, 5), seeded(1, 6, seed=1)
    assert torch.equal(silent(x, w), noisy(x, w))


def test_style_scale_does_not_change_the_output() -> None:
    # Demodulation removes the scale of a style: twice the affine, the same picture.
    layer = filled(ModulatedConv(3, 4, 6, size=5))
    x, w = seeded(1, 3, 5, 5), seeded(1, 6, seed=1)
    before = layer(x, w)
    with torch.no_grad():
        layer.affine.weight.mul_(2)
        layer.affine.bias.mul_(2)
    torch.testing.assert_close(layer(x, w), before, rtol=1e-7, atol=1e-7)


def test_a_blur_first_asked_for_without_gradients_takes_part_in_them() -> None:
    layers._blur.cache_clear()
    with torch.inference_mode():
        upsample(torch.zeros(1, 3, 4, 4))
    x = torch.zeros(1, 3, 4, 4, requires_grad=True)
    upsample(x).sum().backward()
    assert x.grad is not None and (x.grad > 0).all()


def test_softplus_is_torch_s() -> None:
    x = torch.cat([torch.linspace(-200, 200, 4001), torch.linspace(-20, 20, 4001)])
    expected = F.softplus(x.double()).float()
    torch.testing.assert_close(softplus(x.clone()), expected, rtol=2e-7, atol=2e-7)
    free = x.clone().requires_grad_()
    assert torch.equal(softplus(free), F.softplus(free))
