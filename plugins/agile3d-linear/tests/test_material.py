"""A style of one material is told from one of many colours, and gives its colours and its range to what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from agile3d_linear.material import LIGHTNESS, NO_MATERIAL, material_of, share_of_one
from agile3d_linear.tone import to_lab, to_rgb


def heads(count: int, seed: int) -> list[np.ndarray]:
    """Skin, hair and background in colours of their own, each lighter or darker from place to place."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        lab = np.empty((64, 64, 3), np.float32)
        lab[:] = [70, -10, -20]
        lab[4:60, 14:50] = [rng.uniform(30, 75), 14, 18]
        lab[4:20, 14:50] = [rng.uniform(10, 80), rng.uniform(0, 25), rng.uniform(-10, 30)]
        lab[..., 0] += 6 * rng.standard_normal((64, 64))
        found.append(to_rgb(lab))
    return found


def clay(pictures: list[np.ndarray]) -> list[np.ndarray]:
    """The same, from 40 to 70 light, all of one hue."""
    found = []
    for picture in pictures:
        light = 40 + 0.3 * to_lab(picture)[..., 0]
        found.append(to_rgb(np.stack([light, 0.2 * light, 0.3 * light], -1)))
    return found


def test_a_material_is_told_from_colours() -> None:
    faces = heads(12, 0)
    assert share_of_one(clay(heads(8, 1)), faces) == 1
    assert share_of_one(heads(8, 2), faces) == 0
    halves = [0.5 * a + 0.5 * b for a, b in zip(heads(8, 3), clay(heads(8, 3)), strict=True)]
    assert 0 < share_of_one(halves, faces) < 1


def test_a_head_becomes_the_material_and_its_background_stays() -> None:
    faces = heads(12, 0)
    material = material_of(clay(heads(12, 1)), faces, 1.0)
    person = np.zeros((64, 64, 1), np.float32)
    person[4:60, 14:50] = 1
    one = heads(1, 7)[0]
    made = material(one, person)
    # Stylized by the formula itself it would be the same; curves of percentiles come near.
    wanted = clay([one])[0]
    inside = person[..., 0] > 0
    assert np.abs(made - wanted)[inside].mean() < 0.04 < np.abs(one - wanted)[inside].mean()
    np.testing.assert_allclose(made[~inside], one[~inside], atol=2e-3)


def test_darker_stays_darker() -> None:
    curve = material_of(clay(heads(12, 1)), heads(12, 0), 1.0).curve
    assert curve.shape == (len(LIGHTNESS), 3) and bool((np.diff(curve[:, 0]) > 0).all())


@pytest.mark.parametrize("color", [0.0, 0.5, 1.0])
def test_the_dial_goes_from_the_drawing_to_the_material(color: float) -> None:
    one, person = heads(1, 7)[0], np.ones((64, 64, 1), np.float32)
    material = material_of(clay(heads(8, 1)), heads(8, 0), 1.0)
    way = to_lab(material(one, person, color)) - to_lab(one)
    whole = to_lab(material(one, person, 1.0)) - to_lab(one)
    assert np.abs(way - color * whole).mean() < 0.5
    assert NO_MATERIAL(one, person) is one
