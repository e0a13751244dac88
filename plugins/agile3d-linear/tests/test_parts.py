"""The pieces under the stylizer, against what must come out exactly."""

from __future__ import annotations

import numpy as np
from agile3d_linear.features import PATCH, skin_likeness
from agile3d_linear.layout import Layout
from agile3d_linear.mesh import OVAL, cover, triangles, with_ring
from agile3d_linear.picture import fill
from agile3d_linear.register import register
from agile3d_linear.shape import Pose, find_pose, freed, reference
from agile3d_linear.smooth import smooth

LAYOUT = Layout(reference(), 128)


def turn(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def test_a_linear_function_is_spread_exactly() -> None:
    points = LAYOUT.points
    mesh = cover(points, 96)
    spread = mesh.spread(points[:, :1] * 2 + points[:, 1:2] * 3)[..., 0]
    v, u = (np.mgrid[:96, :96] + 0.5) / 96
    # Measured 4e-7: single precision.
    assert np.abs(spread - (2 * u + 3 * v))[mesh.mask].max() < 1e-5


def test_the_mesh_covers_the_face_without_holes() -> None:
    mask = LAYOUT.mask
    assert mask[LAYOUT.oval].all()
    assert not mask[0].any() and not mask[:, 0].any() and not mask[:, -1].any()


def test_of_a_turned_head_the_far_side_is_hidden() -> None:
    pose = Pose(0.3, turn(np.radians(60)), np.array([0.5, -0.4, 0.0]))
    seen = cover(with_ring(pose.place(reference())), 128)
    shown = set(np.unique(seen.corners))
    assert 454 not in shown or 234 not in shown, "one ear's edge is behind the head"


def test_triangles_turn_one_way() -> None:
    flat = LAYOUT.points[:, :2][triangles()]
    a, b = flat[:, 1] - flat[:, 0], flat[:, 2] - flat[:, 0]
    assert (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] > 0).mean() > 0.98
    assert len(with_ring(reference())) == 468 + len(OVAL)


def test_a_pose_is_found_and_taken_out() -> None:
    pose = Pose(0.27, turn(0.4), np.array([0.48, -0.37, 0.1]))
    landmarks = pose.place(reference())
    found = find_pose(landmarks)
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-9)
    np.testing.assert_allclose(freed(landmarks), reference(), atol=1e-9)


def test_deep_shade_is_skin_only_where_it_may_be() -> None:
    tone = np.array([65.0, 18.0, 20.0])
    shaded, hair, shirt = np.array([[38.0, 16.0, 17.0], [12.0, 2.0, 3.0], [45.0, -20.0, -25.0]])
    assert skin_likeness(shaded, tone) < 0.3 and skin_likeness(shaded, tone, 3.0) > 0.6
    assert skin_likeness(tone, tone, 3.0) == skin_likeness(tone, tone) == 1
    for other in (hair, shirt):
        assert skin_likeness(other, tone, 3.0) < 0.2


def test_shifted_cut_outs_come_to_lie_on_each_other() -> None:
    v, u = (np.mgrid[:PATCH, :PATCH] + 0.5) / PATCH * 2 - 1

    def blob(shift: float) -> np.ndarray:
        shape = ((u - shift) / 0.5) ** 2 + ((v + shift / 2) / 0.3) ** 2 < 1
        return np.repeat(shape[..., None], 4, -1).astype(np.float32)

    patches = np.stack([blob(shift) for shift in (-0.08, 0.0, 0.08)])
    moved, trust = register(patches, np.ones(3))
    # The middle one stands where it stood, the others come to it.
    assert np.abs(moved - patches[1]).mean() < 0.35 * np.abs(patches - patches[1]).mean()
    assert trust.min() > 0.9


def test_cut_outs_with_nothing_in_common_stay_and_are_trusted_less() -> None:
    v, u = (np.mgrid[:PATCH, :PATCH] + 0.5) / PATCH * 2 - 1
    shapes = np.stack([abs(u) < 0.1, abs(v) < 0.1, (u > 0.8) & (v > 0.8), u**2 + v**2 < 0.05])
    moved, trust = register(np.repeat(shapes[..., None], 4, -1).astype(np.float32), np.ones(4))
    assert np.isfinite(moved).all()
    assert trust.max() < 0.5


def test_filling_keeps_what_is_known_and_continues_it() -> None:
    picture = np.full((64, 64, 3), 0.4, np.float32)
    known = np.zeros((64, 64), np.float32)
    known[20:40, 20:40] = 1
    picture[known == 0] = 0.9
    filled = fill(picture, known, 3.0)
    np.testing.assert_allclose(filled, 0.4, atol=1e-4)


def test_smoothing_keeps_flat_areas_and_firm_edges_and_drops_noise() -> None:
    step = np.repeat((np.arange(96) >= 48).astype(np.float32)[None, :, None] * 0.6 + 0.2, 96, 0).repeat(3, -1)
    noise = np.random.default_rng(0).normal(0, 0.04, step.shape).astype(np.float32)
    calm = smooth(step + noise, 1.0)
    assert np.abs(calm - step)[:, :40].mean() < 0.012
    assert float(calm[:, 52].mean() - calm[:, 43].mean()) > 0.5
    flat = np.full((64, 64, 3), 0.3, np.float32)
    np.testing.assert_allclose(smooth(flat, 1.0), flat, atol=1e-4)
