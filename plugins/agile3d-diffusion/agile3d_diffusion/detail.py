"""A drawing at the base's size -> the drawing at the face's size, with the face's finest detail where it belongs.

Detail is taken over as far as the drawing follows the face there: the slope of a local linear fit, as in a guided
filter. Where the style draws something of its own, the fit is flat and nothing of the face shows through.

Source: He and Sun, Fast guided filter, 2015.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

RADIUS = 3
"""Of the windows in which drawing and face are compared, pixels of the drawing."""
FLOOR = 4e-3
"""Added to the face's variance in a window: fainter detail than its square root, 0.06, counts little."""


def enlarge(drawing: Tensor, face: Tensor, detail: float) -> Tensor:
    """Drawing (N, 3, s, s) of the face (N, 3, S, S) at the size S; ``detail`` 0 takes nothing over from the face."""
    size, own = face.shape[-1], drawing.shape[-1]
    result = resized(drawing, size)
    if detail > 0 and size > own:
        small = resized(face, own)
        slope = _slope(drawing, small).clamp(0, 1)
        result = result + detail * resized(slope, size) * (face - resized(small, size))
    return result.clamp(-1, 1)


def resized(pictures: Tensor, size: int) -> Tensor:
    """Pictures (N, C, s, s) at another size: areas are averaged, or the gaps filled smoothly."""
    if size == pictures.shape[-1]:
        return pictures
    if size < pictures.shape[-1]:
        return F.interpolate(pictures, size=(size, size), mode="area")
    return F.interpolate(pictures, size=(size, size), mode="bicubic", align_corners=False)


def _slope(drawing: Tensor, face: Tensor) -> Tensor:
    """How much the drawing changes where the face changes by 1, in the window around each pixel, each channel alone."""
    mean_drawing, mean_face = _mean(drawing), _mean(face)
    both = _mean(drawing * face) - mean_drawing * mean_face
    return both / (_mean(face * face) - mean_face * mean_face + FLOOR)


def _mean(pictures: Tensor) -> Tensor:
    return F.avg_pool2d(pictures, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)
