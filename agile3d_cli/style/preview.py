"""Style -> pictures of people in it, the same people for every style."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.image import to_array
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.style.people import people_in

PREVIEW_PEOPLE, PREVIEW_SIZE, KEPT_SIZE = 8, 192, 96
"""People of the preview and pixels of each view: in the picture, and in the bundle, which it must not fill."""


@torch.no_grad()
def views_of(base: BaseModel, difference: StyleDifference) -> Tensor:
    """Random people in the style, (2 * PREVIEW_PEOPLE, 3, S, S): front and turned in turn."""
    labels = torch.stack([camera.portrait_label(yaw, 0.0, 0.75 * camera.FOCAL) for yaw in (0.0, 0.6)])
    people = people_in(base, difference, PREVIEW_PEOPLE)
    return torch.cat([styled.render(labels, PREVIEW_SIZE).image.cpu() for _, styled in people])


def sheet(people: Tensor) -> np.ndarray:
    """Pictures (16, 3, S, S) as one, four a row, (4 * S, 4 * S, 3) uint8."""
    rows = people.reshape(4, 4, *people.shape[1:])
    return to_array(torch.cat([torch.cat(list(row), 2) for row in rows], 1))


def kept(people: Tensor) -> Tensor:
    """The preview (H, W, 3) uint8 that a bundle holds."""
    return torch.from_numpy(sheet(F.interpolate(people, size=KEPT_SIZE, mode="area")))
