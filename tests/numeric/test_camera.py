"""Each convention of ``camera``, pinned: axes, signs, units, the label's order."""

from __future__ import annotations

import math

import pytest
import torch

from agile3d_cli.camera import (
    FOCAL,
    PIVOT,
    RADIUS,
    angles,
    five_points_world,
    flip_label,
    look_at,
    portrait_label,
    project,
    rays,
    split_label,
    with_focal,
)

ANGLES = [(0.0, 0.0), (0.5, 0.0), (-0.5, 0.2), (0.1, -0.4), (1.2, 0.3)]


def test_frontal_label_is_the_published_one() -> None:
    expected = [1, 0, 0, 0, 0, -1, 0, 0, 0, 0, -1, 2.7, 0, 0, 0, 1, 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]
    assert torch.allclose(portrait_label(), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), ANGLES)
def test_camera_is_a_rotation_at_the_radius_that_sees_the_pivot_in_the_middle(yaw: float, pitch: float) -> None:
    matrix = look_at(yaw, pitch)
    rotation = matrix[:3, :3]
    assert torch.allclose(rotation.T @ rotation, torch.eye(3), atol=1e-6) and torch.linalg.det(rotation) > 0
    assert float(matrix[:3, 3].norm()) == pytest.approx(RADIUS)
    middle = project(portrait_label(yaw, pitch)[None], torch.tensor([[PIVOT]]))[0, 0]
    assert torch.allclose(middle[:2], torch.tensor([0.5, 0.5]), atol=1e-5)


def test_axes_of_world_and_picture() -> None:
    points = torch.tensor([[[0.1, 0, 0.2], [0, 0.1, 0.2], [0, 0, 0.3]]])
    seen = project(portrait_label()[None], points)[0]
    assert seen[0, 0] > 0.5 and seen[1, 1] < 0.5  # x right, y up
    assert seen[2, 2] < seen[0, 2]  # z towards the camera
    assert float(seen[0, 0] - 0.5) == pytest.approx(FOCAL * 0.1 / 2.5, rel=1e-5)


def test_positive_yaw_shows_the_sitters_left_and_positive_pitch_the_top() -> None:
    # The nose moves against the camera: to the left of the picture when the camera goes to +x, down when it goes up.
    nose = five_points_world()[2][None, None]
    front, side, above = (project(portrait_label(*a)[None], nose)[0, 0] for a in ((0.0, 0.0), (0.4, 0.0), (0.0, 0.4)))
    assert side[0] < front[0] and above[1] > front[1]


@pytest.mark.parametrize(("yaw", "pitch"), ANGLES)
def test_rays_and_projection_are_inverse(yaw: float, pitch: float) -> None:
    label = portrait_label(yaw, pitch)[None]
    origin, direction = rays(label, 6, 4)
    seen = project(label, origin + 2.5 * direction)[0].reshape(6, 4, 3)
    assert torch.allclose(seen[0, 0, :2], torch.tensor([0.5 / 4, 0.5 / 6]), atol=1e-5)  # pixel centres
    assert torch.allclose(seen[5, 3, :2], torch.tensor([3.5 / 4, 5.5 / 6]), atol=1e-5)
    assert torch.allclose(direction.norm(dim=-1), torch.ones(1, 24), atol=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), ANGLES)
def test_flipped_label_sees_the_mirrored_world(yaw: float, pitch: float) -> None:
    points = torch.rand(1, 20, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    label = portrait_label(yaw, pitch)[None]
    seen = project(label, points)
    mirrored = project(flip_label(label), points * torch.tensor([-1.0, 1, 1]))
    assert torch.allclose(mirrored, seen * torch.tensor([-1.0, 1, 1]) + torch.tensor([1.0, 0, 0]), atol=1e-5)
    assert torch.equal(flip_label(flip_label(label)), label)
    assert torch.allclose(flip_label(label), portrait_label(-yaw, pitch)[None], atol=1e-6)


@pytest.mark.parametrize(("yaw", "pitch"), ANGLES)
def test_angles_follow_the_viewing_direction(yaw: float, pitch: float) -> None:
    label = portrait_label(yaw, pitch)
    found = angles(label)
    camera = split_label(label)[0][:3, 3].double()
    to_camera = camera - torch.tensor(PIVOT).double()
    assert found[0] == pytest.approx(math.atan2(float(to_camera[0]), float(to_camera[2])), abs=1e-5)
    assert found[1] == pytest.approx(math.asin(float(to_camera[1] / to_camera.norm())), abs=1e-5)
    assert found[2] == pytest.approx(0, abs=1e-5)


def test_roll_turns_the_content_clockwise() -> None:
    label = portrait_label(0.3, 0.1)
    camera, _ = split_label(label)
    turn = math.radians(20)
    # The camera turns anticlockwise about its axis, so the picture's content turns clockwise.
    roll = torch.tensor([[math.cos(turn), math.sin(turn), 0], [-math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    turned = camera.clone()
    turned[:3, :3] = camera[:3, :3] @ roll
    label = torch.cat([turned.reshape(16), label[16:]])
    assert math.degrees(angles(label)[2]) == pytest.approx(20, abs=1e-3)
    eyes = project(label[None], five_points_world()[None, :2])[0]
    level = project(portrait_label(0.3, 0.1)[None], five_points_world()[None, :2])[0]
    slope, flat = (math.atan2(float(e[1, 1] - e[0, 1]), float(e[1, 0] - e[0, 0])) for e in (eyes, level))
    assert math.degrees(slope - flat) == pytest.approx(20, abs=0.5)


def test_smaller_focal_shows_more_around_the_same_middle() -> None:
    points = torch.rand(1, 9, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    label = portrait_label(0.2, 0.1)[None]
    near, far = project(label, points), project(with_focal(label, FOCAL / 2), points)
    assert torch.allclose((far - near)[..., 2], torch.zeros(1, 9))
    assert torch.allclose(far[..., :2] - 0.5, (near[..., :2] - 0.5) / 2, atol=1e-5)


def test_five_points_are_a_face() -> None:
    points = five_points_world()
    assert points[0, 0] < 0 < points[1, 0] and points[3, 0] < 0 < points[4, 0]
    assert points[:2, 1].min() > points[2, 1] > points[3:, 1].max() and points[2, 2] == points[:, 2].max()
    # Eyes 6.2 cm apart at METRES_PER_UNIT.
    assert float((points[1] - points[0]).norm()) * 0.1 / 0.27 == pytest.approx(0.062, abs=0.001)
