"""Details: finer texels that a style adds to the front plane where the face is."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.avatar.traced import Traced, colours
from agile3d_cli.errors import RefusedError
from agile3d_cli.models.config import DeformationConfig, GeneratorConfig, TraitsConfig
from agile3d_cli.models.details import REACH, detail_features
from agile3d_cli.models.generator import Look, TriplaneGenerator
from agile3d_cli.models.styled import DETAILS, StyleDifference, in_style, read_difference, stylized
from agile3d_cli.models.triplane import plane_features

PARTED = GeneratorConfig(
    z_dim=6, w_dim=12, label_dim=0, normalize_z=False, plane_size=16, plane_channels=4, plane_axes="xy_xz_zy",
    channel_base=128, channel_max=8, decoder_hidden=8, feature_channels=3, mean_planes=True,
    deformation=DeformationConfig(shapes=2, grid=8, inverse_grid=10), traits=TraitsConfig(3, 4), parts=3,
)  # fmt: skip


@pytest.fixture
def base() -> TriplaneGenerator:
    torch.manual_seed(0)
    generator = TriplaneGenerator(PARTED).eval().requires_grad_(False)
    # Untaught parts are black, on which nothing shows.
    generator.palette.layer.bias.fill_(0.5)
    return generator


@pytest.fixture
def details() -> Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))


def test_they_are_a_front_plane_of_twice_the_texels(details: Tensor) -> None:
    fine = torch.zeros(1, 3, 4, 32, 32)
    fine[:, 0, :, 8:24, 8:24] = details
    places = torch.rand(2, 500, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    found = detail_features(details, places, "xy_xz_zy")
    wanted = plane_features(fine.expand(2, -1, -1, -1, -1), places, "xy_xz_zy")
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)
    assert found.abs().max() > 0.1
    # Half a texel beyond their reach nothing is left of them.
    beside = (places[..., :2].abs() > REACH + 1 / 32).any(-1)
    assert beside.any() and not found[beside].any()


def test_a_style_keeps_them(base: TriplaneGenerator, details: Tensor) -> None:
    difference = StyleDifference({DETAILS: details}, None)
    back = read_difference(difference.tensors(), base, "mine")
    torch.testing.assert_close(back.weights[DETAILS], details, atol=2e-3, rtol=0)
    half = stylized(base, difference, 0.5).backbone.details
    assert half is not None and torch.equal(half, 0.5 * details)
    assert base.backbone.details is None, "the base is left as it was"
    plain = TriplaneGenerator(dataclasses.replace(PARTED, deformation=DeformationConfig()))
    with pytest.raises(RefusedError, match="details"):
        read_difference(difference.tensors(), plain, "mine")
    with pytest.raises(RefusedError, match="details"):
        read_difference({f"weights.{DETAILS}": details[:, :, :8]}, base, "mine")


def test_what_is_learnt_on_is_what_is_shown(base: TriplaneGenerator, details: Tensor) -> None:
    """The transfer asks the painter at traced places; a view asks the base with a subject in the style."""
    painter = stylized(base, StyleDifference({DETAILS: 5 * details}, None))
    rng = torch.Generator().manual_seed(3)
    ws = base.mapping(torch.randn(1, 6, generator=rng))
    # In front, where all that is painted shows.
    places = torch.rand(1, 60, 3, generator=rng) * 0.3 + torch.tensor([-0.15, -0.15, 0.1])
    subject = base.subject(ws, torch.zeros(1, 2))
    look = Look(places, base.decoder.raw(plane_features(subject.planes, places / 0.5, "xy_xz_zy")), places[..., 0])
    shown = base.colours(in_style(subject, base, painter, ws), look)[0]
    traced = Traced(places[0, :, None], torch.ones(60, 1), torch.ones(60), None)
    asked = colours(painter, painter.backbone(ws), traced, painter.colours_of_parts(ws))
    hidden = base.decoder.shares(look.raw)[0, 5:8].sum(0)
    assert not hidden.any(), "none of the three parts hides another"
    torch.testing.assert_close(shown, asked, atol=1e-5, rtol=1e-4)
    without = colours(base, painter.backbone(ws), traced, painter.colours_of_parts(ws))
    assert float(F.l1_loss(asked, without).detach()) > 0.01
