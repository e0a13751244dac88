"""Exemplars -> the colour of their brows, where they all have one: most styles' follow the hair, inked ones are black.

A pale brow is hardly seen in a picture, so stylized pictures cannot tell that it would be drawn black.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from skimage.draw import polygon2mask
from torch import Tensor

from agile3d_cli.face.template import face_template
from agile3d_cli.style.measure import landmarks

LEFT = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
"""Outline of the brow to the left of the picture, points of the face mesh."""
DARKEST = 0.4
"""Share of the pixels within these outlines that are brow."""
FEW = 3
"""Pictures with a face that tell."""
ONE_COLOUR = 0.01
"""Median distance from the median lightness, of 1, up to which brows are of one colour. Measured: inks 0.001, clay
0.03 to 0.05, flat and round cartoons 0.06 to 0.13."""


def one_brow_colour(images: Sequence[Tensor]) -> Tensor | None:
    """The colour (3,) in [0, 1] of the brows of pictures (3, S, S) in [-1, 1]; None where they differ or are few."""
    found = [colour for image in images if (colour := brow_colour(image)) is not None]
    if len(found) < FEW:
        return None
    colours = torch.stack(found)
    light = colours.mean(1)
    apart = (light - light.median()).abs().median()
    return colours.median(0).values if float(apart) <= ONE_COLOUR else None


def brow_colour(image: Tensor) -> Tensor | None:
    """The colour (3,) in [0, 1] of the brows of one picture; None without a face."""
    points = landmarks(image)
    if points is None:
        return None
    size = image.shape[-1]
    inside = np.any([polygon2mask((size, size), outline[:, ::-1]) for outline in outlines(points, size)], 0)
    colours = (image[:, torch.from_numpy(inside)].T + 1) / 2
    if not len(colours):
        return None
    darkest = colours.mean(1).argsort()[: max(1, round(DARKEST * len(colours)))]
    return colours[darkest].mean(0)


def outlines(points: Tensor, size: int) -> list[np.ndarray]:
    """Both brows' outlines, (10, 2) pixels of a picture of ``size``, from landmarks (468, 2), fractions."""
    sides = np.array(LEFT), face_template().mirror[list(LEFT)]
    return [points.numpy()[side] * size - 0.5 for side in sides]
