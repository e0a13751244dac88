"""Density on a grid against the decoder at the same points, and the surface that is found of it."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path

import numpy as np
import pytest
import torch

from agile3d_cli.avatar.imported import BORDER, imported_surface
from agile3d_cli.avatar.surface import is_watertight, volume
from agile3d_cli.errors import Agile3dError
from agile3d_cli.models.config import GeneratorConfig, PublishedConfig
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.merged import merged_planes
from agile3d_cli.models.published import PublishedSubject, published_subject
from agile3d_cli.models.ray_field import FoldedDecoder, RayField, march_rays
from agile3d_cli.models.separable import grid_density
from agile3d_cli.models.texels import AXES
from agile3d_cli.models.triplane import plane_features_plain

CONFIG = GeneratorConfig(
    z_dim=8,
    w_dim=16,
    plane_size=32,
    channel_base=256,
    channel_max=16,
    plane_channels=4,
    decoder_hidden=8,
    feature_channels=3,
    published=PublishedConfig(folded=True),
)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> TriplaneGenerator:
    """With a head in its planes."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    return importlib.import_module("benchmarks.planted").planted(CONFIG)


@pytest.fixture
def subject(generator: TriplaneGenerator) -> PublishedSubject:
    z = torch.randn(1, CONFIG.z_dim, generator=torch.Generator().manual_seed(0))
    return published_subject(generator, generator.mapping(z, torch.zeros(1, 25)))


def ball(speck: bool) -> PublishedSubject:
    """Raw density 26 - 400 r^2: a ball of radius 0.2, and maybe a speck of two cells of a grid of 256."""
    line = (torch.arange(128) + 0.5) / 128 - 0.5
    plane = 13 - 400 * (line[None].square() / 2 + line[:, None].square())
    if speck:
        plane[108:110, 108:110] += 65
    planes = torch.stack([plane, plane, torch.zeros_like(plane)])[:, None]
    # The softplus of large numbers is the numbers.
    decoder = FoldedDecoder(torch.ones(1, 1), torch.tensor([500.0]), torch.ones(1, 1), torch.tensor([-500.0]))
    field = RayField(merged_planes(3 * planes, CONFIG.plane_axes), decoder, 1.0)
    return PublishedSubject(CONFIG, field, (), torch.float32, march_rays)


@pytest.mark.parametrize("axes", AXES)
def test_a_grid_has_the_density_of_its_points(axes: str) -> None:
    torch.manual_seed(0)
    network = TriplaneGenerator(dataclasses.replace(CONFIG, plane_axes=axes, box=1.4)).requires_grad_(False)
    ws = torch.randn(1, CONFIG.num_ws, CONFIG.w_dim)
    line = torch.linspace(-0.8, 0.7, 21)
    density = grid_density(published_subject(network, ws).field, line)
    where = torch.randint(0, 21, (3, 10000))
    points = (line[where].T * (2 / 1.4))[None]
    expected = network.decoder.raw(plane_features_plain(network.backbone(ws), points, axes))[0, :, 0]
    # Measured: 1.4e-6 of values up to 5.
    torch.testing.assert_close(density.raw(where), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("resolution", [32, 64])
def test_the_band_gives_the_surface_of_the_whole_grid(subject: PublishedSubject, resolution: int) -> None:
    band, dense = (imported_surface(subject, resolution, dense=dense) for dense in (False, True))
    assert np.array_equal(band.vertices, dense.vertices) and np.array_equal(band.faces, dense.faces)
    assert dense.evaluated == 1 and band.evaluated < (1 if resolution == 32 else 0.9)
    assert is_watertight(band.vertices, band.faces) and len(band.vertices) > 500
    assert np.abs(band.vertices).max() <= 0.5 - BORDER + 1 / resolution


def test_the_surface_lies_at_the_level(generator: TriplaneGenerator, subject: PublishedSubject) -> None:
    vertices = torch.from_numpy(imported_surface(subject, 128).vertices).float()
    inner = vertices[(vertices.abs() < 0.5 - BORDER - 0.02).all(1)]
    raw = subject.field(inner)[0]
    # Between nodes the density is not linear.
    assert float((raw - 10).abs().median()) < 0.1
    # And the border is empty, though the head would go on there.
    cut = imported_surface(subject, 64, border=0.35)
    assert np.abs(cut.vertices).max() <= 0.15 + 1 / 64 and is_watertight(cut.vertices, cut.faces)


def test_a_ball_is_found_where_it_is() -> None:
    surface = imported_surface(ball(False), 64)
    radius = np.linalg.norm(surface.vertices, axis=1)
    # Linear interpolation of a square, over cells and texels.
    assert np.abs(radius - 0.2).max() < 4e-4
    assert volume(surface.vertices, surface.faces) == pytest.approx(4 / 3 * np.pi * 0.2**3, rel=1e-2)


def test_what_is_smaller_than_a_block_is_found_on_the_whole_grid() -> None:
    band, dense = (imported_surface(ball(True), 256, dense=dense) for dense in (False, True))
    plain = imported_surface(ball(False), 256)
    assert np.array_equal(band.vertices, plain.vertices)
    more = dense.vertices[np.linalg.norm(dense.vertices, axis=1) > 0.25]
    assert len(more) and np.abs(more - (109 / 128 - 0.5)).max() < 0.008


def test_no_surface_is_said() -> None:
    with pytest.raises(Agile3dError, match="no surface at raw density 1000"):
        imported_surface(ball(False), 32, level=1000)
