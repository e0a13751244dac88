"""A style of its own features takes a broad smile back, and nothing else of a sitter's shape."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.calm import calming
from agile3d_cli.avatar.invert import Latent
from agile3d_cli.avatar.latents import build_head
from agile3d_cli.avatar.likeness import spread
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.outlines import INNER_MOUTH, MOUTH
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.models.deformation import look_up
from agile3d_cli.models.styled import StyleDifference

CHIN, FOREHEAD = 152, 10


@pytest.fixture(scope="module")
def mini() -> BaseModel:
    return load_base("mini")


def landmarks(base: BaseModel, field: Tensor) -> Tensor:
    assert base.landmarks is not None
    return base.landmarks + look_up(field, base.generator.deformation.focus.forward(base.landmarks[None]))[0]


def width(points: Tensor) -> float:
    """Of the mouth, in eye distances."""
    left, right, _, one, two = torch.from_numpy(five_of(points.numpy()))
    return float((two - one).norm() / (right - left).norm())


def grin(base: BaseModel, wider: float) -> Tensor:
    """A field (1, 3, G, G, G) that widens the mouth."""
    assert base.landmarks is not None
    lips = list(MOUTH + INNER_MOUTH)
    moved = torch.zeros_like(base.landmarks)
    moved[lips, 0] = (wider - 1) * base.landmarks[lips, 0]
    away = torch.cdist(base.landmarks, base.landmarks[lips]).amin(1)
    near = away < 0.03
    moved[near, 0] = (wider - 1) * base.landmarks[near, 0]
    deformation = base.generator.deformation
    return spread(moved, base.landmarks, deformation.focus.nodes(deformation.config.grid))[None]


def test_the_mean_head_is_calm(mini: BaseModel) -> None:
    grid = mini.generator.deformation.config.grid
    assert float(calming(mini, torch.zeros(1, 3, grid, grid, grid)).abs().max()) < 1e-6


def test_a_broad_smile_is_taken_back(mini: BaseModel) -> None:
    own = grin(mini, 1.4)
    before, after = landmarks(mini, own), landmarks(mini, own + calming(mini, own))
    usual = width(landmarks(mini, 0 * own))
    assert width(before) > 1.25 * usual
    assert width(after) < usual + 0.3 * (width(before) - usual)
    eyes = [torch.from_numpy(five_of(points.numpy()))[:2] for points in (before, after)]
    torch.testing.assert_close(eyes[1], eyes[0], atol=2e-3, rtol=0)
    for place in (CHIN, FOREHEAD):
        torch.testing.assert_close(after[place], before[place], atol=2e-3, rtol=0)


def test_a_face_keeps_its_size_and_its_mouth_its_place(mini: BaseModel) -> None:
    assert mini.landmarks is not None
    deformation = mini.generator.deformation
    nodes = deformation.focus.nodes(deformation.config.grid).permute(3, 0, 1, 2)[None]
    larger = 0.1 * nodes + torch.tensor([0.0, 0.02, 0.01])[:, None, None, None]
    assert float(landmarks(mini, calming(mini, larger)).sub(mini.landmarks).norm(dim=1).max()) < 2e-3
    lower = torch.zeros_like(mini.landmarks)
    lower[:, 1] = -0.03 * torch.exp(-((torch.cdist(mini.landmarks, mini.landmarks[[13]]) / 0.15) ** 2))[:, 0]
    own = spread(lower, mini.landmarks, nodes[0].permute(1, 2, 3, 0))[None]
    lips = list(MOUTH + INNER_MOUTH)
    middles = [landmarks(mini, field)[lips].mean(0) for field in (own, own + calming(mini, own))]
    torch.testing.assert_close(middles[1], middles[0], atol=3e-3, rtol=0)


@torch.no_grad()
def test_the_dial_of_structure_turns_it(mini: BaseModel) -> None:
    z = torch.zeros(1, mini.generator.config.z_dim)
    latent = Latent(z, mini.generator.mapping(z), grin(mini, 1.4), None)
    plain = StyleDifference({}, None)
    calm = dataclasses.replace(plain, calm=1.0)
    label = camera.portrait_label()[None]

    def picture(style: StyleDifference, structure: float) -> Tensor:
        return build_head(latent, mini, style, 1.0, structure, 1.0).render(label, 96).image

    assert torch.equal(picture(calm, 0.0), picture(plain, 1.0))
    changes = [float((picture(calm, dial) - picture(plain, 1.0)).abs().mean()) for dial in (0.5, 1.0)]
    assert 1e-4 < changes[0] < changes[1]
