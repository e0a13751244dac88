"""The scores against closed forms: a sphere seen twice, known galleries, known distributions."""

from __future__ import annotations

import json
import math

import pytest
import torch
from torch import Tensor

from agile3d_cli.camera import portrait_label, rays
from agile3d_cli.scores import (
    Consistency,
    Interval,
    Rank,
    Scores,
    identity,
    identity_rank,
    pose_error,
    rank_of_found,
    relief,
    sharpness,
    style_distance,
    style_gain,
    view_consistency,
    view_identity,
)
from agile3d_cli.style.score import mean_consistency


def sphere(labels: Tensor, size: int = 96, radius: float = 0.25) -> tuple[Tensor, Tensor, Tensor]:
    """Exact picture, alpha and depth of a ball around the pivot, coloured by place."""
    origin, direction = rays(labels, size, size)
    centre = torch.tensor([0.0, 0.0, 0.2])
    along = ((centre - origin) * direction).sum(-1)
    miss = (centre - origin).square().sum(-1) - along.square()
    depth = along - (radius**2 - miss).clamp(min=0).sqrt()
    alpha = (miss < radius**2).float()
    colour = torch.sin((origin + direction * depth[..., None]) * 12) * alpha[..., None]
    shape = (len(labels), -1, size, size)
    return colour.transpose(1, 2).reshape(shape), alpha.reshape(shape), depth.reshape(shape)


def test_one_ball_is_consistent_and_two_are_not() -> None:
    labels = torch.stack([portrait_label(0.0, 0.0), portrait_label(0.4, 0.1)])
    image, alpha, depth = sphere(labels)
    same = view_consistency(image, alpha, depth, labels)
    assert same is not None
    # Only the resampling between pixels remains.
    assert same.color < 0.01 and 0.5 < same.overlap < 0.95
    painted = torch.cat([image[:1], -image[1:]])
    other = view_consistency(painted, alpha, depth, labels)
    assert other is not None and other.color > 20 * same.color
    swapped = view_consistency(image, alpha, depth, labels.flip(0))
    assert swapped is None or swapped.overlap < 0.6 * same.overlap or swapped.color > 10 * same.color


def test_views_without_common_surface_are_not_measured() -> None:
    labels = torch.stack([portrait_label(0.0, 0.0), portrait_label(math.pi, 0.0)])
    image, alpha, depth = sphere(labels)
    found = view_consistency(image, alpha, depth, labels)
    assert found is None or found.overlap < 0.02
    assert view_consistency(image, torch.zeros_like(alpha), depth, labels) is None


def test_people_without_common_places_count_as_no_overlap() -> None:
    both = mean_consistency([Consistency(0.1, 0.8), None, Consistency(0.3, 0.4), None])
    assert both == Consistency(pytest.approx(0.2), pytest.approx(0.3))
    assert mean_consistency([None, None]) is None


def test_ranks_count_the_own_photo() -> None:
    gallery = torch.eye(8)
    assert identity_rank(gallery * 0.9, gallery).top1 == 1
    wrong = identity_rank(gallery.roll(1, 0), gallery)
    assert wrong.top1 == 0 and wrong.top5 == 0 and wrong.gallery == 8
    one_for_all = identity_rank(torch.zeros(8, 8), gallery)
    assert one_for_all.top1 == 0 and one_for_all.top5 == 0
    # The two places before the own photo.
    portrait = torch.tensor([[0.0, 0.9, 0.8, 0.7, 0, 0, 0, 0]])
    rank = identity_rank(portrait, gallery, torch.tensor([3]))
    assert rank.top1 == 0 and rank.top5 == 1


def test_identity_is_the_distance() -> None:
    a, b = torch.zeros(2, 128), torch.zeros(2, 128)
    b[0, 0], b[1, 5] = 0.3, 0.5
    assert identity(a, b) == pytest.approx(0.4)
    assert view_identity(torch.cat([a, b[1:]])) == pytest.approx(0.5)


def test_blur_lowers_sharpness_and_size_does_not_matter() -> None:
    noise = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert sharpness(noise, noise) == 1
    assert sharpness(noise / 2, noise) == pytest.approx(0.25)
    assert sharpness(torch.nn.functional.avg_pool2d(noise, 3, 1, 1), noise) < 0.2
    large = torch.nn.functional.interpolate(noise, scale_factor=2, mode="bilinear")
    assert sharpness(large, noise) == pytest.approx(sharpness(noise, large) ** -1)


def test_flattening_lowers_relief() -> None:
    _, alpha, depth = sphere(portrait_label()[None])
    flat = 2.5 + (depth - 2.5) * 0.4
    assert relief(flat[0], depth[0], alpha[0] > 0.5) == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize("degrees", [0.01, 5.0, 90.0, 175.0])
def test_pose_error_is_the_angle(degrees: float) -> None:
    label = portrait_label()[None]
    turn = math.radians(degrees)
    turned = label.clone().reshape(1, 25)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    matrix = label[:, :16].reshape(4, 4).clone()
    matrix[:3, :3] = rotation @ matrix[:3, :3]
    turned[:, :16] = matrix.reshape(1, 16)
    assert float(pose_error(label, turned)) == pytest.approx(degrees, rel=1e-3)


def test_style_distance_is_zero_for_one_distribution_and_grows() -> None:
    random = torch.Generator().manual_seed(3)
    draw = torch.nn.functional.normalize(torch.randn(120, 16, generator=random) + 1, dim=1)
    same = style_distance(draw[:60], draw[60:])
    assert same.low <= 0 <= same.high and abs(same.value) < 0.03
    distances = [
        style_distance(draw[:60], torch.nn.functional.normalize(draw[60:] + shift, dim=1)) for shift in (0.3, 1)
    ]
    assert 0 < distances[0].value < distances[1].value and distances[1].low > same.high
    assert style_distance(draw[:60], draw[60:]) == same


def test_style_gain_is_the_difference_of_two_distances_and_its_interval_is_that_of_pairs() -> None:
    random = torch.Generator().manual_seed(0)
    draw = torch.nn.functional.normalize(torch.randn(90, 20, generator=random), dim=1)
    exemplars, heads = draw[:30], draw[30:]
    shift = torch.zeros(20)
    shift[0] = 1.0
    before = torch.nn.functional.normalize(heads + shift, dim=1)
    after = torch.nn.functional.normalize(heads + 0.8 * shift, dim=1)
    gain = style_gain(before, after, exemplars)
    one, two = style_distance(before, exemplars), style_distance(after, exemplars)
    assert gain.value == pytest.approx(one.value - two.value)
    # Apart, the two intervals overlap; what they share does not hide the gain.
    assert one.low < two.high and gain.low > 0
    assert style_gain(before, before, exemplars) == Interval(0.0, 0.0, 0.0)
    assert style_gain(after, before, exemplars).high < 0
    with pytest.raises(ValueError, match="same heads"):
        style_gain(before, after[1:], exemplars)


def test_what_was_not_measured_is_none() -> None:
    data = Scores(identity=0.5).as_json()
    assert data.pop("identity") == 0.5 and all(value is None for value in data.values())
    assert json.loads(json.dumps(data)) == data


def test_a_portrait_without_a_face_finds_nobody() -> None:
    people = list(torch.eye(128)[:4].split(1))
    assert rank_of_found(people, people) == Rank(1.0, 1.0, 4)
    rank = rank_of_found([None, *people[1:]], people)
    assert rank is not None and (rank.top1, rank.gallery) == (pytest.approx(0.75), 4)
    # Nobody can be found who was not seen in the photo.
    rank = rank_of_found(people, [None, *people[1:]])
    assert rank == Rank(1.0, 1.0, 3)
    assert rank_of_found([None] * 4, people) == Rank(0.0, 0.0, 4)
    assert rank_of_found(people[:1], people[:1]) is None
