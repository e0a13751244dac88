"""The feature distance: known values, the order of disturbances, gradients, masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from agile3d_cli.image import read_photo, to_tensor
from agile3d_cli.models.perceptual import features, perceptual_distance, style_features

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return Image.fromarray(read_photo(ASTRONAUT)).crop((100, 0, 356, 256))


def distance(a: Image.Image, b: Image.Image) -> float:
    return float(perceptual_distance(to_tensor(np.asarray(a))[None], to_tensor(np.asarray(b))[None]))


def test_features_have_the_known_shapes() -> None:
    shapes = [tuple(feature.shape) for feature in features(torch.zeros(2, 3, 96, 64))]
    assert shapes == [(2, 16, 48, 32), (2, 24, 24, 16), (2, 40, 12, 8), (2, 112, 6, 4)]
    assert [feature.shape[-1] for feature in features(torch.zeros(1, 3, 33, 33))] == [17, 9, 5, 3]


def test_disturbances_are_ordered(face: Image.Image) -> None:
    pixels = np.asarray(face)
    brighter = Image.fromarray(np.clip(pixels.astype(int) + 10, 0, 255).astype(np.uint8))
    shifted = Image.fromarray(np.roll(pixels, 2, 1))
    upside_down = face.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    found = [
        distance(face, other)
        for other in (face, brighter, face.filter(ImageFilter.GaussianBlur(1)), shifted, upside_down)
    ]
    # Measured: 0, 0.143, 0.543, 0.961 and about 5.
    assert found[0] == 0 and found[1:4] == pytest.approx([0.143, 0.543, 0.961], rel=0.02) and found[4] > 3


def test_only_the_weighted_part_counts(face: Image.Image) -> None:
    a = to_tensor(np.asarray(face))[None]
    b = a.clone()
    b[..., 192:] = -1
    left = torch.zeros(1, 1, 256, 256)
    left[..., :96] = 1
    assert perceptual_distance(a, b) > 0.5 and perceptual_distance(a, b, left) < 0.02
    assert torch.allclose(perceptual_distance(a, b, torch.ones_like(left)), perceptual_distance(a, b))


def test_gradients_reach_both_pictures() -> None:
    a, b = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (0, 1))
    a.requires_grad_(), b.requires_grad_()
    for gradient in torch.autograd.grad(perceptual_distance(a, b).sum(), (a, b)):
        assert torch.isfinite(gradient).all() and (gradient != 0).float().mean() > 0.9


def test_style_is_the_same_wherever_things_are(face: Image.Image) -> None:
    a = to_tensor(np.asarray(face))[None]
    style = style_features(a)
    assert style.shape == (1, 384) and torch.allclose(style.square().sum(), torch.tensor(4.0))
    moved = (style_features(a.roll(32, 3)) - style).norm()
    smooth = (style_features(F.avg_pool2d(a, 5, 1, 2)) - style).norm()
    assert moved < smooth / 2
