"""The focus map and the canonical deformation: round trips, linearity, no folds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agile3d_cli.models.config import DeformationConfig, FocusConfig, GeneratorConfig
from agile3d_cli.models.deformation import EXPRESSION_SLOPE, Deformation, Focus, look_up

FOCUS = FocusConfig(strength=3.0, centre=(0.0, 0.05, 0.15))
CONFIG = GeneratorConfig(
    z_dim=8, focus=FOCUS, deformation=DeformationConfig(4, ((0.5, -1.0), (0.3, 0.0)), grid=16, inverse_grid=24)
)


def smooth(size: float) -> Deformation:
    """A deformation whose fields are gentle waves of about ``size`` world units."""
    deformation = Deformation(CONFIG)
    nodes = deformation.focus.nodes(CONFIG.deformation.grid)
    rng = torch.Generator().manual_seed(0)
    for k in range(CONFIG.deformation.components):
        for axis in range(3):
            wave, phase = 3 * torch.randn(3, generator=rng), 6 * torch.rand((), generator=rng)
            deformation.basis[k, axis] = size * torch.sin(nodes @ wave + phase)
    return deformation


def inside(count: int, half_width: float = 0.45) -> Tensor:
    return half_width * (2 * torch.rand(1, count, 3, generator=torch.Generator().manual_seed(1)) - 1)


@pytest.mark.parametrize("config", [FocusConfig(), FOCUS])
def test_focus_maps_the_box_and_back(config: FocusConfig) -> None:
    focus = Focus(config, 0.5)
    corners = torch.cartesian_prod(*3 * [torch.tensor([-0.5, 0.5])])
    torch.testing.assert_close(focus.forward(corners), corners * 2, rtol=0, atol=1e-6)
    points = inside(500)
    torch.testing.assert_close(focus.inverse(focus.forward(points)), points, rtol=0, atol=1e-6)


def test_focus_is_densest_at_its_centre() -> None:
    focus, step = Focus(FOCUS, 0.5), 1e-3
    centre = torch.tensor(FOCUS.centre).double()
    slopes = []
    for place in (centre, torch.zeros(3).double(), torch.full((3,), 0.45).double()):
        slopes.append((focus.forward(place + step) - focus.forward(place - step)) / (2 * step))
    assert (slopes[0] >= slopes[1]).all() and (slopes[1] > slopes[2]).all()
    # Without a shift of centre the gain over the plain 1 / half-width is k / asinh(k) = 1.65.
    plain = Focus(FocusConfig(strength=3.0), 0.5)
    gain = plain.forward(torch.full((3,), step).double()) / (2 * step)
    torch.testing.assert_close(gain, torch.full((3,), 1.6497).double(), rtol=0, atol=1e-3)


def test_nodes_and_look_up_agree_on_axes() -> None:
    focus = Focus(FOCUS, 0.5)
    nodes = focus.nodes(5)
    # A field that holds its own nodes' positions, looked up at a node, gives the node.
    field = nodes.permute(3, 0, 1, 2)[None]
    found = look_up(field, focus.forward(nodes).reshape(1, -1, 3))
    torch.testing.assert_close(found.reshape(5, 5, 5, 3), nodes, rtol=0, atol=1e-6)
    assert nodes[0, 0, 4, 0] > 0.49 and nodes[0, 4, 0, 1] > 0.49 and nodes[4, 0, 0, 2] > 0.49


def test_displacement_is_linear_in_the_weights() -> None:
    deformation = smooth(0.02)
    a, b = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    joined = deformation.displacement(2 * a - 3 * b)
    torch.testing.assert_close(joined, 2 * deformation.displacement(a) - 3 * deformation.displacement(b))


def test_weights_are_shapes_then_bounded_expressions() -> None:
    deformation = Deformation(CONFIG)
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    weights = deformation.weights(z)
    assert torch.equal(weights[:, :4], z[:, :4])
    torch.testing.assert_close(weights[:, 4], 0.5 * torch.sigmoid(EXPRESSION_SLOPE * z[:, 4] - 1))
    torch.testing.assert_close(weights[:, 5], 0.3 * torch.sigmoid(EXPRESSION_SLOPE * z[:, 5]))


def test_no_weights_are_the_identity() -> None:
    deformation = smooth(0.02)
    backward = deformation.invert(deformation.displacement(torch.zeros(1, 6)))
    # Exact up to the rounding of the nodes.
    torch.testing.assert_close(deformation.to_canonical(inside(200), backward), inside(200), rtol=0, atol=1e-6)


def test_backward_undoes_forward() -> None:
    deformation = smooth(0.02)
    weights = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    forward = deformation.displacement(weights)
    backward = deformation.invert(forward)
    canonical = inside(2000, 0.4).expand(2, -1, -1)
    moved = canonical + look_up(forward, deformation.focus.forward(canonical))
    assert float((moved - canonical).norm(dim=-1).max()) > 0.03
    error = (deformation.to_canonical(moved, backward) - canonical).norm(dim=-1)
    # Measured: 2.7e-3 near the box, where nodes lie 0.1 apart, and 4e-4 on average: the two grids' interpolation.
    assert float(error.max()) < 4e-3 and float(error.mean()) < 6e-4


def test_inversion_solves_its_equation_at_the_nodes() -> None:
    deformation = smooth(0.02)
    forward = deformation.displacement(torch.randn(1, 6, generator=torch.Generator().manual_seed(2)))
    backward = deformation.invert(forward)
    nodes = deformation.focus.nodes(CONFIG.deformation.inverse_grid).reshape(1, -1, 3)
    canonical = nodes + backward.reshape(1, 3, -1).transpose(1, 2)
    missed = canonical + look_up(forward, deformation.focus.forward(canonical)) - nodes
    # Eight rounds of a contraction by about 0.2.
    assert float(missed.abs().max()) < 1e-4


def test_mini_folds_space_nowhere() -> None:
    from agile3d_cli.models.checkpoints import load_base

    deformation = load_base("mini").generator.deformation
    z = torch.randn(20, deformation.config.components, generator=torch.Generator().manual_seed(0))
    forward = deformation.displacement(deformation.weights(z))
    points, step = inside(4000, 0.42), 2e-3
    for field in forward:
        columns = []
        for offset in step * torch.eye(3):
            ahead, behind = (deformation.focus.forward(points + side * offset) for side in (1, -1))
            columns.append((look_up(field[None], ahead) - look_up(field[None], behind))[0] / (2 * step))
        jacobian = torch.eye(3) + torch.stack(columns, -1)
        # Measured: 0.026, between the lips of a wide smile with an open jaw; most heads stay above 0.3.
        assert float(torch.linalg.det(jacobian).min()) > 0
