"""Landmarks lie where a style of its own features draws these, however a detector sees them."""

from __future__ import annotations

import numpy as np
import pytest
from agile3d_linear.extents import EYES, fitted
from agile3d_linear.features import take_apart
from agile3d_linear.layout import Layout
from agile3d_linear.mesh import PARTS
from agile3d_linear.shape import reference

LAYOUT = Layout(reference(), 160)
SKIN = np.array([0.9, 0.7, 0.6])
COLOURS = {"eye": np.array([0.98, 0.98, 1.0]), "brow": np.array([0.2, 0.1, 0.1]), "mouth": np.array([0.6, 0.0, 0.3])}
PUPIL = np.array([0.1, 0.1, 0.1])


def box(shape: np.ndarray, name: str) -> np.ndarray:
    """(2, 2) middle and half extent of a part's landmarks."""
    own = shape[list(PARTS[name]), :2]
    return np.stack([(own.max(0) + own.min(0)) / 2, np.ptp(own, axis=0) / 2])


def face(stretch: dict[str, tuple[float, float]], rise: float = 0.0) -> np.ndarray:
    """A face (T, T, 3) of plain ellipses around the landmarks of each part, stretched across and up, mouths risen."""
    picture = np.broadcast_to(SKIN, (LAYOUT.size, LAYOUT.size, 3)).copy()
    for name in PARTS:
        kind = name.split("_")[-1]
        middle, half = box(LAYOUT.shape, name)
        away = LAYOUT.places - middle - [0, rise * (kind == "mouth")]
        inside = np.hypot(*np.moveaxis(away / (half * stretch.get(kind, (1, 1))), -1, 0)) < 1
        picture[inside] = COLOURS[kind]
        if kind == "eye":
            picture[inside & (np.hypot(away[..., 0], away[..., 1]) < 0.08)] = PUPIL
    return picture


@pytest.mark.parametrize(
    "stretch", [{}, {"eye": (1.4, 2.2), "mouth": (0.75, 0.9)}, {"mouth": (1.2, 1.0), "brow": (0.7, 1.2)}]
)
def test_landmarks_reach_as_far_as_what_is_drawn(stretch: dict[str, tuple[float, float]]) -> None:
    moved = fitted([take_apart(face(stretch), LAYOUT)] * 3, LAYOUT)
    for name in PARTS:
        before, after = (box(shape, name)[1] for shape in (LAYOUT.shape, LAYOUT.shape + moved))
        wanted = np.array(stretch.get(name.split("_")[-1], (1, 1)))
        if name.endswith("eye"):
            wanted = 1 + EYES * (wanted - 1)
        if name.endswith("brow"):
            wanted = np.ones(2)
        np.testing.assert_allclose(after, before * wanted, atol=1.5 * LAYOUT.pixel, err_msg=name)


def test_a_feature_drawn_higher_takes_its_landmarks_along() -> None:
    moved = fitted([take_apart(face({}, rise=0.08), LAYOUT)] * 3, LAYOUT)
    assert box(LAYOUT.shape + moved, "mouth")[0] - box(LAYOUT.shape, "mouth")[0] == pytest.approx([0, 0.08], abs=0.02)
    assert np.abs(moved[:, 2]).max() == 0
    # What is far from all features stays.
    assert np.abs(moved[152]).max() < 0.02


def test_one_exemplar_of_many_does_not_count() -> None:
    usual, odd = take_apart(face({}), LAYOUT), take_apart(face({"mouth": (1.3, 1.0)}), LAYOUT)
    np.testing.assert_allclose(fitted([usual, odd, usual], LAYOUT), fitted([usual], LAYOUT))


def test_a_feature_that_most_exemplars_lack_stays() -> None:
    parts = [take_apart(face({"mouth": (0.7, 1.0)}), LAYOUT)] * 2
    bare = face({})
    middle, half = box(LAYOUT.shape, "mouth")
    bare[np.abs(LAYOUT.places - middle).max(-1) < half[0] * 1.1] = SKIN
    without = [take_apart(bare, LAYOUT)] * 3
    mouth = list(PARTS["mouth"])
    assert np.abs(fitted(parts + without[:1], LAYOUT)[mouth]).max() > 0.05
    assert np.abs(fitted(parts + without, LAYOUT)[mouth]).max() < 0.02
