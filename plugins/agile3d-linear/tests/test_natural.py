"""A style with natural features is told from one with features of its own; its tones fall on the sitter's own face."""

from __future__ import annotations

import numpy as np
import pytest
from agile3d_linear.layout import Layout
from agile3d_linear.natural import NOT_NATURAL, Relative, laid_over, natural_of, natural_share, relative
from agile3d_linear.picture import blur
from agile3d_linear.shape import reference
from agile3d_linear.tone import to_lab, to_rgb

LAYOUT = Layout(reference(), 96)
TONE = np.array([62.0, 16.0, 20.0], np.float32)
STYLE_TONE = np.array([75.0, 4.0, 6.0], np.float32)


def faces(count: int, seed: int) -> list[np.ndarray]:
    """Skin in light and shade with dark eyes, brows and red lips, each face a little different."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        lab = np.tile(TONE, (LAYOUT.size, LAYOUT.size, 1))
        lab[..., 0] += blur(12 * rng.standard_normal((LAYOUT.size, LAYOUT.size, 1)), 3.0)[..., 0] * 8
        for region, deep in zip(LAYOUT.features, (30, 30, 25, 25, 12), strict=True):
            middle = blur(region.astype(np.float32)[..., None], 2.0)[..., 0] ** 4
            lab[..., 0] -= deep * rng.uniform(0.7, 1.3) * middle
        lab[..., 1] += 14 * LAYOUT.features[4]
        found.append(to_rgb(lab))
    return found


def in_style(picture: np.ndarray) -> np.ndarray:
    """Half of the contrast, a fifth of the purity, another skin."""
    own = relative(picture, TONE)
    light = np.exp(0.5 * own.steps)[..., None]
    return to_rgb(np.concatenate([light * 78 - 3, light * STYLE_TONE[1:] + 0.2 * own.chroma], -1))


def learnt(pictures: list[np.ndarray], tone: np.ndarray) -> list[Relative]:
    return [relative(picture, tone) for picture in pictures]


def test_what_is_relative_comes_back() -> None:
    picture = faces(1, 0)[0]
    # Measured 1.6e-3 of the colours' range: those near black lose some purity to rounding.
    np.testing.assert_allclose(NOT_NATURAL(relative(picture, TONE), TONE, LAYOUT, 1.0), picture, atol=5e-3)


def test_a_natural_style_is_told_from_features_of_its_own() -> None:
    usual = learnt(faces(12, 0), TONE)
    natural = [in_style(picture) for picture in faces(8, 1)]
    assert natural_share(learnt(natural, STYLE_TONE), usual, LAYOUT) == 1
    # Discs for eyes and a light mouth: darker where faces are lighter.
    strange = [to_rgb(2 * TONE * [1, 0, 0] + to_lab(picture) * [-1, 1, 1]) for picture in faces(8, 1)]
    assert natural_share(learnt(strange, TONE), usual, LAYOUT) == 0
    assert natural_share([], usual, LAYOUT) == 0


def test_the_own_face_takes_the_styles_tones() -> None:
    exemplars = learnt([in_style(picture) for picture in faces(12, 1)], STYLE_TONE)
    natural = natural_of(1.0, exemplars, learnt(faces(12, 0), TONE), LAYOUT)
    assert natural.purity == pytest.approx(0.2, abs=0.03)
    sitter = faces(1, 7)[0]
    own = relative(sitter, TONE)
    wanted, made = in_style(sitter), natural(own, STYLE_TONE, LAYOUT, 1.0)
    inside = LAYOUT.inwards > 0.08
    assert np.abs(made - wanted)[inside].mean() < 0.02 < np.abs(sitter - wanted)[inside].mean()
    bare = natural(own, TONE, LAYOUT, 0.0)
    np.testing.assert_allclose(bare, sitter, atol=5e-3)
    assert bool((np.diff(natural.curves, axis=1) >= 0).all()), "darker stays darker"


def test_only_what_the_photo_shows_is_laid_over() -> None:
    drawn, own = np.zeros((96, 96, 3), np.float32), np.ones((96, 96, 3), np.float32)
    seen = np.zeros((48, 48), bool)
    seen[:, :24] = True
    over = laid_over(drawn, own, seen, 0.5, LAYOUT)
    np.testing.assert_allclose(over[:, :40], 0.5, atol=0.01)
    np.testing.assert_allclose(over[:, 56:], 0.0, atol=0.01)
