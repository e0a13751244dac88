"""The volume quadrature against closed forms."""

from __future__ import annotations

import math

import numpy as np
import torch

from agile3d_cli.models.volume import (
    composite,
    importance_depths,
    interval_weights,
    matter_colour,
    matter_share,
    spread_depths,
)

SIGMA, NEAR, FAR = 3.0, 2.0, 3.0


def line(samples: int) -> torch.Tensor:
    return torch.linspace(NEAR, FAR, samples, dtype=torch.float64).expand(1, 1, samples)


def test_constant_density_is_exact_with_few_samples() -> None:
    for samples in (2, 5, 50):
        depths = line(samples)
        colour = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64).expand(1, 1, samples, 3)
        pixels = composite(torch.full_like(depths, SIGMA), colour, depths)
        alpha = 1 - math.exp(-SIGMA * (FAR - NEAR))
        torch.testing.assert_close(pixels.alpha, torch.full_like(pixels.alpha, alpha))
        torch.testing.assert_close(pixels.colour, alpha * colour[:, :, 0])


def test_linear_density_is_exact_too() -> None:
    # Averaging neighbours integrates a linear density without error: optical depth is its integral.
    depths = line(7)
    pixels = composite(5 * (depths - NEAR), torch.zeros(1, 1, 7, 1, dtype=torch.float64), depths)
    assert math.isclose(float(pixels.alpha), 1 - math.exp(-2.5), rel_tol=1e-12)


def test_depth_of_a_slab() -> None:
    depths = line(4001)
    pixels = composite(torch.full_like(depths, SIGMA), torch.zeros(1, 1, 4001, 1, dtype=torch.float64), depths)
    # Mean free path from NEAR, cut at FAR, where what is left is counted: integral of exp(-sigma t) over the slab.
    expected = NEAR + (1 - math.exp(-SIGMA * (FAR - NEAR))) / SIGMA
    # The quadrature's error falls with the square of the step: (1 / 4000)^2.
    assert math.isclose(float(pixels.depth), expected, abs_tol=1e-7)


def test_opaque_wall_hides_what_is_behind() -> None:
    depths = line(11)
    density = torch.zeros_like(depths)
    density[..., 4:] = 1e6
    colour = torch.zeros(1, 1, 11, 2, dtype=torch.float64)
    colour[..., :6, 0], colour[..., 6:, 1] = 1, 1
    pixels = composite(density, colour, depths)
    torch.testing.assert_close(pixels.colour[0, 0], torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert math.isclose(float(pixels.depth), 2.35, rel_tol=1e-12)


def test_empty_ray_is_clear_and_far() -> None:
    depths = line(9)
    pixels = composite(torch.zeros_like(depths), torch.ones(1, 1, 9, 3, dtype=torch.float64), depths)
    assert float(pixels.alpha) == 0 and float(pixels.depth) == FAR and not pixels.colour.any()


def test_weights_are_transmittance_times_absorption() -> None:
    rng = torch.Generator().manual_seed(0)
    depths = torch.rand(2, 3, 8, generator=rng, dtype=torch.float64).cumsum(-1)
    density = 4 * torch.rand(2, 3, 8, generator=rng, dtype=torch.float64)
    weights = interval_weights(density, depths)
    for n in range(2):
        for r in range(3):
            left = 1.0
            for s in range(7):
                mean = (density[n, r, s] + density[n, r, s + 1]) / 2
                through = math.exp(-float(mean * (depths[n, r, s + 1] - depths[n, r, s])))
                assert math.isclose(float(weights[n, r, s]), left * (1 - through), rel_tol=1e-9, abs_tol=1e-15)
                left *= through
            assert math.isclose(float(weights[n, r].sum()), 1 - left, rel_tol=1e-9)


def test_gradient_is_the_derivative() -> None:
    depths = torch.rand(1, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64).cumsum(-1)
    density = torch.rand(1, 2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    colour = torch.rand(1, 2, 5, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()

    def outputs(d: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        pixels = composite(d, c, depths)
        return pixels.colour, pixels.alpha, pixels.depth

    assert torch.autograd.gradcheck(outputs, (density, colour))


def test_spread_depths_sit_in_their_cells() -> None:
    like = torch.zeros(2, 3, 3)
    middle = spread_depths(2.0, 3.0, 4, like)
    torch.testing.assert_close(middle, torch.tensor([2.125, 2.375, 2.625, 2.875]).expand(2, 3, 4))
    jitter = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    cell = ((spread_depths(2.0, 3.0, 4, like, jitter) - 2) * 4).floor()
    assert torch.equal(cell, torch.arange(4.0).expand(2, 3, 4))


def test_importance_depths_invert_the_distribution() -> None:
    rng = torch.Generator().manual_seed(0)
    depths = torch.rand(2, 3, 9, generator=rng, dtype=torch.float64).cumsum(-1)
    weights = torch.rand(2, 3, 8, generator=rng, dtype=torch.float64)
    jitter = torch.rand(2, 3, 20, generator=rng, dtype=torch.float64)
    found = importance_depths(depths, weights, 20, jitter)
    assert (found.diff(dim=-1) >= 0).all()
    for n in range(2):
        for r in range(3):
            mass = weights[n, r].numpy() + 1e-5
            cdf = np.concatenate([[0], np.cumsum(mass) / mass.sum()])
            u = (np.arange(20) + jitter[n, r].numpy()) / 20
            expected = np.interp(u, cdf, depths[n, r].numpy())
            np.testing.assert_allclose(found[n, r].numpy(), expected, rtol=0, atol=1e-8)


def test_importance_depths_gather_where_the_weight_is() -> None:
    depths = line(11)
    weights = torch.zeros(1, 1, 10, dtype=torch.float64)
    weights[..., 6] = 1
    found = importance_depths(depths, weights, 40)
    assert ((found > 2.6 - 1e-3) & (found < 2.7 + 1e-3)).all()
    # No weight anywhere: evenly spread.
    even = importance_depths(depths, 0 * weights, 10)
    torch.testing.assert_close(even[0, 0], 2.05 + 0.1 * torch.arange(10, dtype=torch.float64), rtol=0, atol=1e-6)


def test_empty_depths_take_the_colour_of_matter_beside_them() -> None:
    density = torch.tensor([[[0.0, 0.0, 50.0, 50.0, 0.0]]])
    colour = torch.tensor([0.9, 0.9, 0.2, 0.4, 0.9])[None, None, :, None]
    found = matter_colour(density, colour)[0, 0, :, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.2, 0.8 / 3, 1.0 / 3, 0.4]))


def test_shares_of_matter_are_the_transpose_of_its_colour() -> None:
    rng = torch.Generator().manual_seed(0)
    density, share = 9 * torch.rand(1, 7, 12, generator=rng), torch.rand(1, 7, 12, generator=rng)
    colour = torch.rand(1, 7, 12, 3, generator=rng)
    expected = (share[..., None] * matter_colour(density, colour)).sum(2)
    torch.testing.assert_close((matter_share(density, share)[..., None] * colour).sum(2), expected)


def test_nothing_behind_a_surface_has_a_denormal_gradient() -> None:
    depths = line(400).float()
    density = torch.full_like(depths, 900.0, requires_grad=True)
    weights = interval_weights(density, depths)
    # Without the end of what counts, the first 88 absorbed are worth a denormal number here.
    (1e-5 * weights * torch.linspace(0, 1, 399)).sum().backward()
    assert density.grad is not None
    size = density.grad.abs()
    assert bool((size > 0).any()) and not bool(((size > 0) & (size < torch.finfo(torch.float32).tiny)).any())
    exact = interval_weights(density.detach().double(), depths.double())
    torch.testing.assert_close(weights.detach().double(), exact, rtol=0, atol=1e-6)
