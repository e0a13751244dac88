"""Styles by formula: space is bent but never folded, and a head in a style is still that head."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from agile3d_cli import camera

ROOT = Path(__file__).parents[2]
KIT = ROOT / "../shared/assets/makehuman-head-kit"


def places(truths: ModuleType) -> object:
    """A face of usual proportions."""
    eyes = np.array([[-0.06, 0.0, 0.12], [0.06, 0.0, 0.12]])
    cheeks = np.array([[-0.07, -0.06, 0.12], [0.07, -0.06, 0.12]])
    return truths.Places(
        eyes, np.array([0, -0.05, 0.18]), np.array([0, -0.17, 0.13]), np.array([0, 0.12, 0.14]), cheeks
    )


@pytest.mark.parametrize("number", range(3))
def test_a_style_folds_nothing_and_keeps_both_sides_alike(truths: ModuleType, number: int) -> None:
    style, face = truths.STYLES[number], places(truths)
    points = np.random.default_rng(0).uniform([-0.2, -0.3, -0.1], [0.2, 0.25, 0.25], (4000, 3))
    step = 1e-4
    columns = [(style.bend(points + d, face) - style.bend(points - d, face)) / (2 * step) for d in step * np.eye(3)]
    # Measured: 0.17 or more.
    assert np.linalg.det(np.stack(columns, -1)).min() > 0.05
    mirror = np.array([-1, 1, 1])
    np.testing.assert_allclose(style.bend(points * mirror, face), style.bend(points, face) * mirror, atol=1e-12)
    far = np.array([[0, -0.5, -0.4]])
    assert np.abs(style.bend(far, face) - far).max() < 0.02


def test_swelling_is_radial_and_local(truths: ModuleType) -> None:
    centre = np.array([0.1, 0.2, 0.3])
    points = centre + np.array([[0.01, 0, 0], [0, 0.5, 0]])
    moved = truths.swell(points, centre, 0.1, 0.5)
    np.testing.assert_allclose(moved[0] - centre, [0.01 * (1 + 0.5 * np.exp(-0.005)), 0, 0])
    np.testing.assert_allclose(moved[1], points[1], atol=1e-5)


@pytest.mark.skipif(not KIT.is_dir(), reason="the MakeHuman head kit is not on this machine")
def test_a_head_in_a_style_is_seen_from_every_side(truths: ModuleType) -> None:
    pytest.importorskip("anny", reason="the train extra is not installed")
    from agile3d_cli.heads.kit import Kit
    from agile3d_cli.heads.masks import build_masks
    from agile3d_cli.heads.subject import Subject
    from agile3d_cli.heads.template import build_template
    from agile3d_cli.models.checkpoints import load_base
    from agile3d_cli.prior.subjects import latent

    template, kit = build_template(), Kit(KIT)
    masks = build_masks(template, kit)
    landmarks = load_base("mini").landmarks
    assert landmarks is not None
    z = 0.7 * latent(2_000_000)
    label, size = camera.portrait_label(0.3, 0.0), 48
    plain = Subject(z, template, kit, masks).render(label, size)
    for style in truths.STYLES:
        view = truths.StyledSubject(z, template, kit, masks, landmarks.numpy(), style).render(label, size)
        assert view.image.min() >= 0 and view.image.max() <= 1 and not view.image[view.alpha == 0].any()
        both = (view.alpha > 0) & (plain.alpha > 0)
        assert both.sum() / ((view.alpha > 0) | (plain.alpha > 0)).sum() > 0.8
        assert np.abs(view.image - plain.image)[both].mean() > 0.04
        assert 0.002 < np.abs(view.depth - plain.depth)[both].mean() < 0.1
        assert (view.part == plain.part)[both].mean() > 0.75
