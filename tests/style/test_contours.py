"""A line that exemplars draw around heads is found, with its width and colour, and none is seen where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.matte import person_matte
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.style.contours import MIDDLE, contour_of
from agile3d_cli.style.exemplars import read_exemplars

EXEMPLARS = Path(__file__).parents[2] / "examples" / "cartoon-exemplars"
INK = (0.1, 0.05, 0.2)


@pytest.fixture(scope="module")
def heads() -> list[Tensor]:
    """Six drawings without lines, of 256 pixels."""
    return [
        torch.nn.functional.interpolate(image[None], 256, mode="area")[0]
        for image in read_exemplars(EXEMPLARS, load_base("mini").framing).images[::4]
    ]


def lined(image: Tensor, width: float) -> Tensor:
    """The head with a line of ``width`` pixels along its rim."""
    solid = person_matte(image, MIDDLE, FaceConfig(threads=1))[0].numpy() > 0.5
    share = torch.from_numpy(solid * np.clip(width + 1 - distance_transform_edt(solid), 0, 1)).float()
    return torch.lerp(image, 2 * torch.tensor(INK)[:, None, None] - 1, share)


def test_cartoons_without_lines_have_none(heads: list[Tensor]) -> None:
    assert contour_of(heads) is None
    assert contour_of([]) is None
    assert contour_of([torch.zeros(3, 64, 64)]) is None, "no head, no line"


@pytest.mark.parametrize("width", [2.0, 4.0])
def test_a_line_is_measured(heads: list[Tensor], width: float) -> None:
    found = contour_of([lined(head, width) for head in heads])
    assert found is not None and found.opacity == 1
    # Measured: 2.1 and 3.9 pixels.
    assert 256 * found.width == pytest.approx(width, rel=0.25)
    np.testing.assert_allclose(found.colour, INK, atol=0.06)


def test_the_few_that_are_drawn_otherwise_do_not_count(heads: list[Tensor]) -> None:
    found = contour_of([lined(head, 3.0) for head in heads[:5]] + heads[5:])
    assert found is not None
    assert contour_of([lined(head, 3.0) for head in heads[:2]] + heads[2:]) is None
