"""The contract of all stylizers, and what this one promises beyond it."""

from __future__ import annotations

import torch
from agile3d_mystyle.config import MyStyleConfig
from agile3d_mystyle.stylizer import FACES, MyStyle

from agile3d_cli.testing import PaintedFaces, StylizerContract, ignore_progress, paint_exemplars


class TestContract(StylizerContract):
    package = "agile3d-mystyle"
    name = "mystyle"
    config = MyStyleConfig()


def test_faces_take_the_colours_of_the_exemplars() -> None:
    # Pale, so that no colour leaves [-1, 1] and is clipped.
    exemplars = [0.3 * picture for picture in paint_exemplars(8)]
    stylizer = MyStyle(MyStyleConfig())
    stylizer.fit(exemplars, PaintedFaces(), ignore_progress, seed=0)
    faces = PaintedFaces().sample(FACES, torch.Generator().manual_seed(0)).images
    wanted = torch.stack([picture.mean((1, 2)) for picture in exemplars]).mean(0)
    torch.testing.assert_close(stylizer.stylize(faces).mean((0, 2, 3)), wanted, rtol=0, atol=1e-4)
