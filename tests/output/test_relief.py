"""A style's light: brighter towards it, darker in crevices, the same from every side, and part of a mesh's colours."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.invert import Latent
from agile3d_cli.avatar.latents import build_head
from agile3d_cli.avatar.paint import surface_colors
from agile3d_cli.avatar.relief import TOWARDS, Relief
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.styled import StyleDifference

NODES, BOX = 64, 0.5
NOSE, CHEEK_LEFT, CHEEK_RIGHT = 4, 50, 280
"""Landmarks; left is the viewer's."""


def balls(*balls: tuple[tuple[float, float, float], float]) -> Tensor:
    """Density (1, 1, NODES, NODES, NODES) of balls: centre and radius, world units."""
    line = torch.linspace(-BOX, BOX, NODES)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    points = torch.stack([x, y, z], -1)
    inside = torch.stack([(points - torch.tensor(centre)).norm(dim=-1) < radius for centre, radius in balls])
    return 100.0 * inside.any(0).float()[None, None]


def at(relief: Relief, *places: tuple[float, float, float]) -> list[float]:
    return relief(torch.tensor(places)).tolist()


def test_a_ball_is_brightest_towards_the_light() -> None:
    relief = Relief(balls(((0.1, 0.0, -0.1), 0.25)), BOX)
    towards = TOWARDS / np.linalg.norm(TOWARDS)
    middle = np.array([0.1, 0.0, -0.1])
    lit, back = (tuple((middle + sign * 0.25 * towards).tolist()) for sign in (1, -1))
    left, right, above, below = (0.1 - 0.25, 0.0, -0.1), (0.1 + 0.25, 0.0, -0.1), (0.1, 0.25, -0.1), (0.1, -0.25, -0.1)
    bright = at(relief, lit, back, left, right, above, below)
    assert bright[0] == max(bright) and bright[1] == min(bright)
    assert bright[2] > bright[3] + 0.5 and bright[4] > bright[5] + 0.5
    # The cosine is 1 on the one side and -1 on the other.
    assert 1.6 < bright[0] - bright[1] < 2.1


def test_crevices_are_dark() -> None:
    """At the bottom of a pit the surface faces the same way as around it."""
    line = torch.linspace(-BOX, BOX, NODES)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    pit = ((x**2 + y**2).sqrt() < 0.1) & (z > -0.15)
    relief = Relief(100.0 * ((z < 0) & ~pit).float()[None, None], BOX)
    bottom, ground = at(relief, (0.0, 0.0, -0.15), (0.25, 0.25, 0.0))
    assert bottom < ground - 0.2


@pytest.fixture(scope="module")
def mini() -> BaseModel:
    return load_base("mini")


@pytest.fixture(scope="module")
def heads(mini: BaseModel) -> tuple[GeneratorHead, GeneratorHead]:
    """The mean head without light and with it."""
    subject = mini.generator.from_latent(torch.zeros(1, mini.generator.config.z_dim))
    return GeneratorHead(mini.generator, subject), GeneratorHead(mini.generator, subject, None, 0.25)


def test_a_face_stays_as_bright_as_it_was(heads: tuple[GeneratorHead, GeneratorHead], mini: BaseModel) -> None:
    views = [head.render(camera.portrait_label()[None], 128) for head in heads]
    assert torch.equal(views[0].alpha, views[1].alpha) and torch.equal(views[0].depth, views[1].depth)
    face = slice(40, 90)
    before, after = ((view.image[0, :, face, 44:84] + 1) / 2 for view in views)
    assert float(after.mean() / before.mean()) == pytest.approx(1, abs=0.05)
    assert float((after / before.clamp(min=0.05)).std()) > 0.05, "and is modelled"


def test_light_stands_still_before_a_head(heads: tuple[GeneratorHead, GeneratorHead], mini: BaseModel) -> None:
    """What a camera sees, and what a mesh gets, is the field's colour, which knows no camera."""
    assert mini.landmarks is not None
    points = mini.landmarks[[NOSE, CHEEK_LEFT, CHEEK_RIGHT]]
    (density, plain), (same, lit) = (head.field(points) for head in heads)
    assert torch.equal(density, same)
    gain = (lit / plain).mean(1)
    assert lit.max() < 1, "no colour is cut off"
    torch.testing.assert_close(lit, plain * gain[:, None], atol=1e-3, rtol=0)
    assert gain[0] > 1.05 and gain[1] > gain[2] + 0.05, "a nose is lit, and the cheek towards the light"
    normals = np.tile([0.0, 0.0, 1.0], (3, 1))
    meshes = [surface_colors(head, points.numpy(), normals) for head in heads]
    np.testing.assert_allclose((meshes[1] / meshes[0]).mean(1), gain.numpy(), atol=0.06)


@torch.no_grad()
def test_the_dial_of_colour_turns_it(mini: BaseModel) -> None:
    z = torch.zeros(1, mini.generator.config.z_dim)
    latent = Latent(z, mini.generator.mapping(z), None, None)
    plain = StyleDifference({}, None)
    lit = dataclasses.replace(plain, light=0.4)
    label = camera.portrait_label()[None]

    def picture(style: StyleDifference, color: float) -> Tensor:
        return build_head(latent, mini, style, 1.0, 1.0, color).render(label, 96).image

    assert torch.equal(picture(lit, 0.0), picture(plain, 0.0))
    changes = [float((picture(lit, dial) - picture(plain, dial)).abs().mean()) for dial in (0.5, 1.0)]
    assert 1e-3 < changes[0] < 0.6 * changes[1]
