"""Person mask: where the person is, where not, and that one person stays one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.networks import run_network
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import read_photo

ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


def test_network_gives_a_mask() -> None:
    (mask,) = run_network("person_matte", np.full((1, 3, 256, 256), 0.5, np.float32), 1)
    assert mask.shape == (1, 1, 256, 256) and mask.min() >= 0 and mask.max() <= 1


def test_head_is_in_and_background_is_out() -> None:
    face, _ = load_face(ASTRONAUT)
    matte = face.matte[0]
    assert matte.min() >= 0 and matte.max() <= 1
    assert matte[180:320, 210:320].min() > 0.95  # face
    assert matte[60:80, 230:300].mean() > 0.9  # hair above the forehead
    assert matte[20:150, 20:60].max() < 0.05 and matte[20:150, 460:500].max() < 0.05
    # Edges are soft only near the outline.
    assert ((matte > 0.1) & (matte < 0.9)).float().mean() < 0.08


def test_matte_can_be_left_out() -> None:
    face, _ = load_face(ASTRONAUT, FaceConfig(matte=False, size=128))
    assert torch.equal(face.matte, torch.ones(1, 128, 128))


def test_a_neighbour_is_not_the_person() -> None:
    photo = Image.fromarray(read_photo(ASTRONAUT).copy())
    alone, _ = load_face(np.asarray(photo))
    photo.paste(photo.crop((140, 0, 310, 190)).resize((85, 95)), (427, 0))
    beside, _ = load_face(np.asarray(photo))
    assert beside.matte[0, :100, 440:].mean() < alone.matte[0, :100, 440:].mean() + 0.1
    assert (beside.matte[0, 120:300, 200:320] > 0.9).all()
