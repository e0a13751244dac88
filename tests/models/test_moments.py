"""The crowd's distance falls along its gradient, asks for variety, and is the scores' discrepancy."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from agile3d_cli.models.moments import FEWEST, CrowdDistance, kernel
from agile3d_cli.models.perceptual import style_features
from agile3d_cli.scores import style_distance
from agile3d_cli.testing import paint_faces


def faces(count: int, blue: float, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    skin = torch.tensor([0.6 - blue, 0.2, 0.7 * blue]) + 0.2 * torch.rand(count, 3, generator=rng)
    return paint_faces((torch.rand(count, 2, generator=rng) - 0.5) * 0.1, skin)


def test_the_kernel_is_that_of_the_scores() -> None:
    one, two = style_features(faces(6, 0.0)), style_features(faces(5, 1.0))
    same = [kernel(x, x) for x in (one, two)]
    within = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in same]
    value = float(within[0] + within[1] - 2 * kernel(one, two).mean())
    assert value == pytest.approx(style_distance(one, two).value, rel=1e-4)


def test_nothing_is_asked_for_before_there_is_a_crowd() -> None:
    distance = CrowdDistance(faces(3, 1.0))
    assert float(distance(faces(FEWEST - 1, 0.0))) == 0
    distance(faces(1, 0.0))
    assert float(distance(faces(1, 0.0))) != 0


def test_a_step_against_the_gradient_brings_the_crowd_nearer() -> None:
    exemplars, crowd = faces(6, 1.0), faces(FEWEST, 0.0, 3)
    distance, shift = CrowdDistance(exemplars), torch.zeros(1, 3, 1, 1, requires_grad=True)
    distance(crowd)
    distance(crowd[:3] + shift).backward()
    assert shift.grad is not None
    wanted, step = style_features(exemplars), 0.05 * shift.grad / shift.grad.norm()
    towards, away = (style_distance(style_features(crowd + s * step), wanted).value for s in (-1, 1))
    assert towards < style_distance(style_features(crowd), wanted).value < away


def test_a_crowd_of_one_face_is_pushed_apart() -> None:
    exemplars, one = faces(8, 1.0), faces(1, 1.0, seed=4)
    alike, varied = CrowdDistance(exemplars), CrowdDistance(exemplars)
    alike(one.expand(FEWEST, -1, -1, -1))
    varied(faces(FEWEST, 1.0, seed=9))
    assert float(alike(one)) > float(varied(one))
