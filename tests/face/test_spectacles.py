"""What the bridge of the nose says of spectacles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agile3d_cli.avatar.spectacles import MOST, STEP, SWITCH, bridge_edge, with_bridge
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.heads.parameters import GLASSES, SWITCHES
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.config import ChoicesConfig
from agile3d_cli.models.encoder import Guess

ROOT = Path(__file__).parents[2]
CONGRESS = ROOT / "../shared/assets/photos-us-congress"
WORN = ("andy-harris", "bill-pascrell", "brett-guthrie", "charles-schumer")
BARE = ("albio-sires", "anthony-brindisi", "bill-cassidy", "cedric-richmond")
"""The encoder alone takes these four for wearers."""


def face_with_line(darkness: float) -> tuple[torch.Tensor, np.ndarray]:
    """Skin with a horizontal bar across the root of the nose, and landmarks."""
    image = torch.full((3, 128, 128), 0.4)
    image[:, 52:56] -= 2 * darkness
    points = np.full((468, 2), 0.5, np.float32)
    points[33], points[263], points[168], points[2] = (0.3, 0.4), (0.7, 0.4), (0.5, 0.4), (0.5, 0.6)
    return image, points


def test_the_edge_of_a_bar_is_its_contrast_whichever_way_the_head_leans() -> None:
    for darkness in (0.0, 0.1, 0.3):
        image, points = face_with_line(darkness)
        upright = bridge_edge(image, points)
        # Two rows are less than a pixel apart, so the change is shared by some.
        assert 0.5 * darkness <= upright <= darkness + 1e-6
        leaning = bridge_edge(image.transpose(1, 2), points[:, ::-1].copy())
        assert leaning == pytest.approx(upright, abs=1e-5)


def test_the_guess_moves_by_what_is_seen_and_by_no_more() -> None:
    config = ChoicesConfig(((0, (0.0, 0.5)),), ((5, 0.8), (4, 0.0)))

    class Face:
        image, landmarks = face_with_line(0.0)

    guess = Guess(torch.zeros(1, 4), torch.ones(1, 4))
    bare = with_bridge(guess, Face, 2, config)
    Face.image, Face.landmarks = face_with_line(0.6)
    worn = with_bridge(guess, Face, 2, config)
    assert bare.mean[0].tolist() == pytest.approx([0, 0, 0, -MOST]) and worn.mean[0, 3] == pytest.approx(MOST)
    assert not guess.mean.any() and torch.equal(worn.deviation, guess.deviation)
    assert with_bridge(guess, Face, 2, ChoicesConfig()) is guess
    assert 0 < STEP < MOST


def test_the_switch_is_that_of_spectacles() -> None:
    choices = load_base("mini").generator.config.choices
    assert choices.switches[SWITCH] == SWITCHES[GLASSES]


@pytest.mark.skipif(not CONGRESS.is_dir(), reason="the portraits are not on this machine")
@pytest.mark.parametrize(("name", "worn"), [(n, True) for n in WORN] + [(n, False) for n in BARE])
def test_portraits_tell_who_wears_spectacles(name: str, worn: bool) -> None:
    face, _ = load_face(CONGRESS / f"{name}.jpg", FaceConfig(template="mini"))
    # Measured: 0.17 and more, 0.06 and less.
    assert (bridge_edge(face.image, face.landmarks) > STEP) is worn
