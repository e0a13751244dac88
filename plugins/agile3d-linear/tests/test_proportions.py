"""Features that are larger than their landmarks say are measured on the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from agile3d_linear.layout import Layout, fractions
from agile3d_linear.mesh import mirrored
from agile3d_linear.natural import Relative
from agile3d_linear.picture import blur, sample
from agile3d_linear.proportions import proportions
from agile3d_linear.shape import reference

from agile3d_cli.face.outlines import LEFT_EYE, MOUTH

LAYOUT = Layout(reference(), 128)
REACH = 0.4
EYES = [list(LEFT_EYE), list(mirrored(LEFT_EYE))]


def middle(part: Sequence[int]) -> np.ndarray:
    return np.asarray(LAYOUT.shape[list(part), :2].mean(0))


def drawn(picture: np.ndarray) -> Relative:
    return Relative(picture, np.zeros((*picture.shape, 2)))


def face(seed: int) -> np.ndarray:
    """Log lightness of brows, eyes with iris and white, nose and lips, with shades of its own."""
    rng = np.random.default_rng(seed)
    picture = blur(rng.standard_normal((LAYOUT.size, LAYOUT.size, 1)), 4.0)[..., 0]
    places = LAYOUT.places
    for eye in EYES:
        away = places - middle(eye)
        oval = np.hypot(away[..., 0] / 0.2, away[..., 1] / 0.1)
        picture += 0.3 * (oval < 1) - 1.0 * (np.linalg.norm(away, axis=-1) < 0.08) - 0.4 * (abs(oval - 1) < 0.2)
        picture -= 0.6 * (np.hypot(away[..., 0] / 0.28, (away[..., 1] - 0.22) / 0.05) < 1)
    nose, mouth = places - middle([4]), places - middle(MOUTH)
    picture -= 0.4 * (abs(abs(nose[..., 0]) - 0.12) < 0.05) * (abs(nose[..., 1] + 0.08) < 0.04)
    picture -= 0.5 * (np.hypot(mouth[..., 0] / 0.35, mouth[..., 1] / 0.08) < 1)
    return picture


def larger(picture: np.ndarray, part: Sequence[int], scale: float) -> np.ndarray:
    """The picture with what lies around a part magnified, fading out."""
    places = LAYOUT.places
    away = places - middle(part)
    near = np.exp(-(away**2).sum(-1, keepdims=True) / (2 * REACH**2))
    source = places - near * away * (1 - 1 / scale)
    return sample(picture[..., None], fractions(source), "bilinear")[..., 0]


def growth(moved: np.ndarray, part: Sequence[int]) -> float:
    """By which share a part becomes wider."""
    width = np.ptp(LAYOUT.shape[list(part), 0])
    return float(np.ptp((LAYOUT.shape + moved)[list(part), 0]) / width - 1)


def true_growth(part: Sequence[int], scale: float) -> float:
    """The same of a part that ``larger`` magnifies: its corners lie where they are shown."""
    corner = np.ptp(LAYOUT.shape[list(part), 0]) / 2
    shown = np.linspace(0, 1, 10_001)
    source = shown * (1 - np.exp(-(shown**2) / (2 * REACH**2)) * (1 - 1 / scale))
    return float(np.interp(corner, source, shown) / corner - 1)


def test_equal_faces_stay_as_they_are() -> None:
    moved = proportions([drawn(face(k)) for k in range(4)], [drawn(face(k)) for k in range(10, 14)], LAYOUT)
    assert np.abs(moved).max() < 0.02


@pytest.mark.parametrize("scale", [0.75, 1.4])
def test_the_size_of_eyes_is_seen_in_the_pictures(scale: float) -> None:
    styled = []
    for k in range(4):
        picture = face(k)
        for eye in EYES:
            picture = larger(picture, eye, scale)
        # Harder and darker than a realistic face: forms count, not tones.
        styled.append(drawn(np.clip(1.6 * picture - 0.2, -3, 1)))
    moved = proportions(styled, [drawn(face(k)) for k in range(10, 16)], LAYOUT)
    grown = np.mean([growth(moved, eye) for eye in EYES])
    assert grown == pytest.approx(true_growth(LEFT_EYE, scale), abs=0.08)
    assert abs(growth(moved, MOUTH)) < 0.08
    assert np.abs(moved[:, 2]).max() == 0
