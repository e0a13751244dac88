"""Plane look-up against a hand-written bilinear loop, the axes conventions, the decoder's ranges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from agile3d_cli.models.config import GeneratorConfig, TraitsConfig
from agile3d_cli.models.merged import merged_planes
from agile3d_cli.models.texels import AXES, gathered, texels_of
from agile3d_cli.models.triplane import DARKEST, TABLE_POINTS, Decoder, plane_features, plane_features_plain


def bilinear(plane: Tensor, u: float, v: float) -> Tensor:
    """Plane (C, H, W) at u along columns and v along rows in [-1, 1]; pixel centres inside, zero outside."""
    _, height, width = plane.shape
    x, y = ((u + 1) * width - 1) / 2, ((v + 1) * height - 1) / 2
    total = torch.zeros(plane.shape[0], dtype=plane.dtype)
    for j in (math.floor(x), math.floor(x) + 1):
        for i in (math.floor(y), math.floor(y) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += plane[:, i, j] * (1 - abs(x - j)) * (1 - abs(y - i))
    return total


@pytest.mark.parametrize("axes", AXES)
def test_look_up_is_the_mean_of_three_bilinear_ones(axes: str) -> None:
    rng = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 3, 4, 5, 7, generator=rng, dtype=torch.float64)
    points = 2.4 * torch.rand(2, 40, 3, generator=rng, dtype=torch.float64) - 1.2
    found = plane_features(planes, points, axes)
    for n in range(2):
        for p in range(40):
            x, y, z = points[n, p].tolist()
            pairs = {"xy_xz_zx": ((x, y), (x, z), (z, x)), "xy_xz_zy": ((x, y), (x, z), (z, y))}[axes]
            expected = sum(bilinear(planes[n, k], u, v) for k, (u, v) in enumerate(pairs)) / 3
            torch.testing.assert_close(found[n, p], expected)


@pytest.mark.parametrize("axes", AXES)
def test_many_points_are_looked_up_as_few_are(axes: str) -> None:
    rng = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 3, 4, 5, 7, generator=rng)
    points = 2.6 * torch.rand(2, TABLE_POINTS, 3, generator=rng) - 1.3
    expected = plane_features_plain(planes, points, axes)
    found = plane_features(planes, points, axes)
    assert not torch.equal(found, expected), "this is the plain way twice"
    torch.testing.assert_close(found, expected, rtol=0, atol=3e-6)
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [9, 0, 0], [0, -9, 0]]).repeat(TABLE_POINTS, 1).expand(2, -1, 3)
    expected = plane_features_plain(planes, corners, axes)
    torch.testing.assert_close(plane_features(planes, corners, axes), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("axes", AXES)
def test_planes_that_see_the_same_are_one(axes: str) -> None:
    rng = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 3, 4, 6, 6, generator=rng)
    points = 2.6 * torch.rand(1, 500, 3, generator=rng) - 1.3
    merged = merged_planes(planes[0], axes)
    assert len(merged.pairs) == (2 if axes == "xy_xz_zx" else 3)
    expected = plane_features_plain(planes, points, axes)[0]
    torch.testing.assert_close(merged.features(points[0]), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("axes", AXES)
def test_gradients_of_many_points_are_those_of_few(axes: str) -> None:
    rng = torch.Generator().manual_seed(0)
    planes = torch.randn(2, 3, 4, 5, 7, generator=rng).requires_grad_()
    points = 2.6 * torch.rand(2, TABLE_POINTS, 3, generator=rng) - 1.3
    wanted = torch.randn(2, TABLE_POINTS, 4, generator=rng)
    (expected,) = torch.autograd.grad(plane_features_plain(planes, points, axes), planes, wanted)
    (found,) = torch.autograd.grad(plane_features(planes, points, axes), planes, wanted)
    assert not torch.equal(found, expected), "this is the plain way twice"
    # Sums of some hundred numbers each: 3e-5 measured.
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


def test_the_gradient_of_gathering_is_the_derivative() -> None:
    rng = torch.Generator().manual_seed(0)
    planes = torch.randn(3, 2, 4, 5, generator=rng, dtype=torch.float64).requires_grad_()
    texels = texels_of(2.6 * torch.rand(20, 3, generator=rng, dtype=torch.float64) - 1.3, (4, 5), "xy_xz_zy")
    assert torch.autograd.gradcheck(lambda own: gathered(own, texels), planes)


def test_the_published_axes_never_see_y_and_z_together() -> None:
    planes = torch.randn(1, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    points = 1.6 * torch.rand(1, 30, 3, generator=torch.Generator().manual_seed(1)) - 0.8
    # Without the (x, y) plane, moving a point along y changes nothing on the published axes.
    planes[:, 0] = 0
    moved = points + torch.tensor([0, 0.1, 0])
    assert torch.equal(plane_features(planes, points, "xy_xz_zx"), plane_features(planes, moved, "xy_xz_zx"))
    assert not torch.equal(plane_features(planes, points, "xy_xz_zy"), plane_features(planes, moved, "xy_xz_zy"))


def test_outside_the_planes_features_are_zero() -> None:
    planes = torch.ones(1, 3, 2, 4, 4)
    assert not plane_features(planes, torch.full((1, 1, 3), 1.5), "xy_xz_zx").any()


def test_decoder_gain_scales_slope_and_density() -> None:
    torch.manual_seed(0)
    decoder = Decoder(GeneratorConfig(density_gain=10.0))
    raw = torch.tensor([-1.0, 0.0, 2.0])
    torch.testing.assert_close(decoder.density(raw), 10 * torch.log1p(torch.exp(10 * raw - 1)))
    empty = torch.tensor([-9.0, -20.0], requires_grad=True)
    nothing = decoder.density(empty)
    nothing.sum().backward()
    # Empty space: neither density nor gradient is a denormal number.
    assert float(nothing.detach().max()) < 1e-15 and empty.grad is not None and not empty.grad.any()
    density, features = decoder.requires_grad_(False)(5 * torch.randn(100, 32))
    assert (density >= 0).all()
    # The published squashing reaches a thousandth beyond [0, 1].
    assert float(features.min()) >= -0.001 and float(features.max()) <= 1.001


@pytest.mark.parametrize("plain", [(), (0, 2)])
def test_tone_is_the_mean_colour_of_the_parts(plain: tuple[int, ...]) -> None:
    rng = torch.Generator().manual_seed(0)
    config = GeneratorConfig(w_dim=64, parts=4, plain_parts=plain, feature_channels=3, traits=TraitsConfig(count=5))
    raw, palette = torch.randn(2, 30, 8, generator=rng), torch.rand(2, 4, 3, generator=rng)
    found = Decoder(config).tone(raw, palette)
    for n in range(2):
        for p in range(30):
            shares = torch.softmax(raw[n, p, 4:], 0)
            colour = sum(share * own for share, own in zip(shares, palette[n], strict=True))
            expected = torch.logit(colour, DARKEST)
            own = raw[n, p, 1:4]
            expected = expected - sum(float(shares[k]) for k in plain) * (own - own.mean())
            torch.testing.assert_close(found[n, p], expected)
