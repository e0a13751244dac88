"""Landmarks to camera: known cameras are recovered, and the standard camera is a fixed point of the crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from agile3d_cli.camera import five_points_world, flip_label, portrait_label, project
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.pose import solve_pose
from agile3d_cli.face.template import face_template
from agile3d_cli.face.warp import similarity, to_crop, to_photo


def seen(yaw: float, pitch: float, points: np.ndarray) -> np.ndarray:
    """Crop fractions of world points under the standard camera."""
    return project(portrait_label(yaw, pitch)[None], torch.from_numpy(points).float()[None])[0].double().numpy()


def test_template_has_the_five_world_points() -> None:
    # Largest difference measured: 0.0022 world units (0.8 mm).
    assert np.abs(five_of(face_template().points) - five_points_world().numpy()).max() < 0.003


def test_template_is_symmetric() -> None:
    template = face_template()
    # The five world points themselves lean by 0.0005.
    assert np.abs(template.points[template.mirror] * [-1, 1, 1] - template.points).max() < 1e-3
    assert np.array_equal(template.mirror[template.mirror], np.arange(468))
    assert np.array_equal(template.weights[template.mirror], template.weights)


@pytest.mark.parametrize("count", [468, 5])
@pytest.mark.parametrize("yaw", [-50, -20, 0, 10, 35])
@pytest.mark.parametrize("pitch", [-20, 0, 15])
def test_known_camera_and_crop_are_recovered(count: int, yaw: float, pitch: float) -> None:
    points = face_template().points if count == 468 else five_of(face_template().points)
    picture = seen(math.radians(yaw), math.radians(pitch), points)
    placed = similarity(np.array([812.0, 433.0]), 357.0, math.radians(23))
    pose = solve_pose(np.column_stack([to_photo(placed, picture[:, :2]), np.zeros(count)]))
    # Worst measured: 0.001 degree with the mesh, 0.04 with five points (the pull towards the front).
    limit = 0.01 if count == 468 else 0.1
    assert abs(math.degrees(pose.yaw) - yaw) < limit and abs(math.degrees(pose.pitch) - pitch) < limit
    assert np.abs(pose.crop - placed).max() < (0.05 if count == 468 else 0.5)
    assert pose.error < 1e-3


def test_noise_moves_the_angles_little() -> None:
    random = np.random.default_rng(0)
    misses = []
    for yaw in (-0.5, 0.0, 0.3):
        picture = seen(yaw, 0.1, face_template().points) * 400
        picture[:, :2] += random.normal(0, 4, (468, 2))  # one hundredth of the crop
        picture[:10, :2] += 80  # a few landmarks far off
        pose = solve_pose(picture)
        misses.append(math.degrees(max(abs(pose.yaw - yaw), abs(pose.pitch - 0.1))))
    assert max(misses) < 1  # measured: 0.7


def test_frontal_crop_is_a_fixed_point() -> None:
    picture = seen(0.0, 0.0, face_template().points)[:, :2] * 512
    pose = solve_pose(picture)
    assert np.abs(pose.crop - [[512, 0, 0], [0, 512, 0]]).max() < 0.5
    assert torch.allclose(pose.label, portrait_label(), atol=1e-3)
    again = solve_pose(to_crop(pose.crop, picture))
    assert np.abs(again.crop - [[1, 0, 0], [0, 1, 0]]).max() < 1e-4


def test_mirrored_landmarks_have_the_mirrored_label() -> None:
    picture = seen(0.4, -0.2, face_template().points) * 300
    picture[:, 2] = 0
    mirrored = picture[face_template().mirror] * [-1, 1, 1] + [900, 0, 0]
    assert torch.allclose(solve_pose(mirrored).label, flip_label(solve_pose(picture).label), atol=1e-3)


@pytest.mark.parametrize("name", ["standard", "mini"])
def test_each_template_recovers_its_own_face(name: str) -> None:
    template = face_template(name)
    assert np.abs(template.points[template.mirror] * [-1, 1, 1] - template.points).max() < 1e-3
    pose = solve_pose(seen(0.3, -0.1, template.points), name)
    assert abs(pose.yaw - 0.3) < 1e-3 and abs(pose.pitch + 0.1) < 1e-3 and pose.error < 1e-3


def test_heads_of_mini_are_a_little_smaller() -> None:
    picture = seen(0.0, 0.0, face_template("mini").points)
    standard = solve_pose(picture)
    # The crop by the standard face would cut out 0.94 of the picture that mini's camera sees.
    assert 0.9 < np.hypot(*standard.crop[:, 0]) < 0.98 and abs(standard.yaw) < 0.01
