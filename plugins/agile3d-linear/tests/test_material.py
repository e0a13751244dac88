"""A style of one material is told from one of many colours, and gives its colours and its range to what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from agile3d_linear.blend import StyleLayers, draw
from agile3d_linear.config import LinearConfig
from agile3d_linear.features import PATCH, SKIN_SIZE
from agile3d_linear.layout import Layout
from agile3d_linear.material import LIGHTNESS, NO_MATERIAL, hair_over_skin, material_of, share_of_one
from agile3d_linear.shape import reference
from agile3d_linear.sitter import Sitter
from agile3d_linear.surroundings import redraw
from agile3d_linear.tone import to_lab, to_rgb

from agile3d_cli.face.outlines import LEFT_EYE

ONE_MATERIAL = replace(NO_MATERIAL, share=1.0)


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
    material = material_of(clay(heads(12, 1)), faces, ONE_MATERIAL)
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
    curve = material_of(clay(heads(12, 1)), heads(12, 0), ONE_MATERIAL).curve
    assert curve.shape == (len(LIGHTNESS), 3) and bool((np.diff(curve[:, 0]) > 0).all())


@pytest.mark.parametrize("color", [0.0, 0.5, 1.0])
def test_the_dial_goes_from_the_drawing_to_the_material(color: float) -> None:
    one, person = heads(1, 7)[0], np.ones((64, 64, 1), np.float32)
    material = material_of(clay(heads(8, 1)), heads(8, 0), ONE_MATERIAL)
    way = to_lab(material(one, person, color)) - to_lab(one)
    whole = to_lab(material(one, person, 1.0)) - to_lab(one)
    assert np.abs(way - color * whole).mean() < 0.5
    assert NO_MATERIAL(one, person) is one


def test_no_crowd_is_pulled_apart() -> None:
    flat = [0.5 + 0.3 * (face - 0.5) for face in heads(12, 0)]
    curve = material_of(clay(heads(12, 1)), flat, ONE_MATERIAL).curve
    assert float((np.diff(curve[:, 0]) / np.diff(LIGHTNESS)).max()) < 1 + 1e-6
    middle = np.median([to_lab(face)[20:40, 24:40, 0] for face in flat])
    wanted = np.median([to_lab(face)[20:40, 24:40, 0] for face in clay(heads(12, 1))])
    assert np.interp(middle, LIGHTNESS, curve[:, 0]) == pytest.approx(wanted, abs=6), "as light as the exemplars"


def test_skins_lie_as_far_apart_as_the_exemplars() -> None:
    palette = np.column_stack([[46.0, 55, 60, 65, 70], np.full(5, 11.0), np.full(5, 16.0)])
    material = replace(ONE_MATERIAL, skins=(58.0, 17.0))
    tones = [
        material.skin(np.array([light, 9.0, 9.0]), np.array([light, 8.0, 7.0]), palette, 1.0) for light in (41, 58)
    ]
    assert tones[1].tolist() == pytest.approx([palette[:, 0].mean(), 8, 7])
    assert tones[1][0] - tones[0][0] == pytest.approx(palette[:, 0].std())
    darkest = material.skin(np.array([2.0, 9, 9]), np.array([46.0, 8, 7]), palette, 1.0)
    assert darkest[0] == 46, "no skin is darker than the style's darkest"
    half = material.skin(np.array([58.0, 9, 9]), np.array([58.0, 8, 7]), palette, 0.5)
    assert half[0] == pytest.approx((58 + palette[:, 0].mean()) / 2)
    same = np.array([58.0, 8, 7])
    assert NO_MATERIAL.skin(np.array([58.0, 9, 9]), same, palette, 1.0).tolist() == same.tolist()


def test_the_hair_above_the_forehead_is_compared_with_the_skin() -> None:
    points = np.zeros((468, 3))
    points[:] = [0.5, 0.4, 0]
    points[152] = [0.5, 0.9, 0]
    picture = np.full((100, 100, 3), to_rgb(np.array([70, 10, 10])), np.float32)
    picture[:39] = to_rgb(np.array([30, 5, 5]))
    assert hair_over_skin(picture, points, np.array([70, 10, 10])) == pytest.approx(-40, abs=1)
    points[10, 1] = points[[109, 338, 67, 297], 1] = 0.02
    assert hair_over_skin(picture, points, np.array([30, 5, 5])) == pytest.approx(0, abs=1)


def test_of_one_material_hair_comes_as_near_to_skin_as_the_exemplars_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agile3d_linear.surroundings._person", lambda photo, landmarks: np.ones((128, 128, 1)))
    material = replace(NO_MATERIAL, share=1.0, hair=0.25)
    assert material.hair_kept(1.0) == 0.25 and material.hair_kept(0.0) == 1 == NO_MATERIAL.hair_kept(1.0)
    skin = np.array([70.0, 12, 14], np.float32)
    photo = np.full((128, 128, 3), to_rgb(skin), np.float32)
    photo[:40] = to_rgb(np.array([20.0, 4, 4]))
    points = np.column_stack([(reference()[:, :2] * [0.15, -0.15] + [0.5, 0.55]), reference()[:, 2]])

    def contrast(kept: float) -> float:
        drawn, _, _ = redraw(photo, points, points, skin, skin, LinearConfig(), kept)
        light = to_lab(drawn)[..., 0]
        return float(light[80, 64] - light[20, 64])

    whole = contrast(1.0)
    assert 0.1 * whole < contrast(0.25) < 0.7 * whole


@pytest.mark.parametrize("one", [0.0, 1.0])
def test_of_one_material_features_are_as_light_as_the_skin_around_them(one: float) -> None:
    layout = Layout(reference(), 96)
    light, dark = np.array([80.0, 12, 14], np.float32), np.array([35.0, 12, 14], np.float32)
    # Both exemplars have eyes of the same grey, which is more than the skin of one and less than the other's.
    patches = np.zeros((2, 5, PATCH, PATCH, 4), np.float32)
    patches[:, 0, 32:96, 32:96] = [0.4, 0.4, 0.4, 1]
    centre = layout.points[list(LEFT_EYE), :2].mean(0)
    style = StyleLayers(
        skin_tones=np.stack([light, dark]),
        skins=np.zeros((2, SKIN_SIZE, SKIN_SIZE, 3), np.float32),
        patches=patches,
        places=np.tile(np.array([*centre, 0.05, 0.03], np.float32), (2, 5, 1)),
        shapes=np.zeros((2, 468, 3)),
        traits=np.zeros((2, 3)),
        trust=np.ones((2, 5)),
        brightest=80.0,
    )
    flat = np.zeros((96, 96), np.float32)
    sitter = Sitter(dark, dark, 0.0, dark, flat, dark, flat, flat[..., None], flat[..., None], flat > -1)
    face, tone = draw(
        sitter, np.zeros(3), style, layout, LinearConfig(), replace(NO_MATERIAL, share=one, skins=(57.5, 22.5))
    )
    of_dark, of_light = ((to_rgb(tone) + 0.02) / (to_rgb(skin) + 0.02) for skin in (dark, light))
    wanted = 0.4 * (of_dark + of_light) / 2 if one else 0.4
    place = tuple((centre[::-1] * 96).astype(int))
    np.testing.assert_allclose(face[place][:3], np.broadcast_to(wanted, 3), atol=0.01)
