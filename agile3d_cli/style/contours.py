"""Exemplars -> the line that they draw around heads, measured and not learnt.

Across the rim of a head brightness goes from the background's to the head's, more or less straight. Where a line is
drawn it falls below both: how far, over how many pixels, and to what colour is looked up along the whole rim of every
exemplar. Shares of the rim that look like a line, measured: Fluent 0, clay 0.06 to 0.09, toon 0.22, ToonHead 0.33 (dark
hair around pale faces), inks 0.69 and 0.78.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from torch import Tensor

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.matte import person_matte
from agile3d_cli.models.contour import Contour

LARGEST = 512
"""Edge of the pictures, pixels; larger ones are made smaller."""
MIDDLE = np.array([0.5, 0.5])
"""A point on the face, fractions."""
OUT, AWAY, INSIDE = 0.03, 0.012, 0.05
"""Shares of the picture along the rim's normal: how far outside it looking begins, how much of that and of the other
end is background and head alone, and how far inside it ends. The rim that is found may be off by a few pixels."""
LOWEST = 0.72
"""Rows below this share of the picture show neck and clothes."""
BRIGHT = 0.25
"""On what is darker than this no dark line can be seen, of 1."""
FALL, WIDEST = 0.3, 0.022
"""Share by which brightness falls where there is a line, and the share of the picture's edge from which on what falls
is dark hair around a face, and no line."""
MANY, FEW = 0.5, 20
"""Share of the rim that has a line in a style that draws one, and the points that tell."""


@dataclass(frozen=True)
class _Rim:
    """What is seen across the rim of one head, at n points of it."""

    fall: np.ndarray
    """(n,) share by which brightness falls below that of both sides."""
    width: np.ndarray
    """(n,) share of the picture's edge over which it does."""
    darkest: np.ndarray
    """(n, 3) the colour there, sRGB."""

    @property
    def lined(self) -> np.ndarray:
        """(n,) where there is a line."""
        return (self.fall > FALL) & (self.width < WIDEST)


def contour_of(images: Sequence[Tensor]) -> Contour | None:
    """The line around the heads of pictures (3, S, S) in [-1, 1] at the portrait framing; None in styles without."""
    rims = [rim for image in images if len((rim := _across_rim(image)).fall) >= FEW]
    if not rims or np.median([rim.lined.mean() for rim in rims]) < MANY:
        return None
    lined = [(rim, rim.lined) for rim in rims if rim.lined.any()]
    width = float(np.median([np.median(rim.width[there]) for rim, there in lined]))
    red, green, blue = np.median([np.median(rim.darkest[there], 0) for rim, there in lined], 0).tolist()
    return Contour(width, 1.0, (red, green, blue))


def _across_rim(image: Tensor) -> _Rim:
    size = min(LARGEST, image.shape[-1])
    small = F.interpolate(image[None].float().cpu(), (size, size), mode="area")[0]
    matte = person_matte(small, MIDDLE, FaceConfig(threads=1))[0].numpy()
    rows, columns = np.nonzero((matte > 0.5) & (distance_transform_edt(matte > 0.5) <= 1))
    margin = OUT * size
    there = (rows > margin) & (rows < LOWEST * size) & (columns > margin) & (columns < size - margin)
    rows, columns = rows[there], columns[there]
    slope = np.stack(np.gradient(gaussian_filter(matte, size / 128)), -1)[rows, columns]
    normal = slope / (np.linalg.norm(slope, axis=1, keepdims=True) + 1e-9)
    along = np.arange(-OUT * size, INSIDE * size)
    places = np.stack([rows, columns], -1)[:, None] + normal[:, None] * along[:, None]
    picture = (small.numpy() + 1) / 2
    seen = [map_coordinates(channel, np.moveaxis(places, -1, 0), order=1, mode="nearest") for channel in picture]
    return _rim(np.stack(seen, -1), size, max(1, round(AWAY * size)))


def _rim(seen: np.ndarray, size: int, ends: int) -> _Rim:
    """From colours (n, T, 3) along n normals, a pixel apart, of which ``ends`` at each end lie clear of the rim."""
    bright = seen.mean(-1)
    beside = np.minimum(bright[:, :ends].mean(1), np.median(bright[:, -ends:], 1))
    seen, bright, beside = (each[beside > BRIGHT] for each in (seen, bright, beside))
    between = bright[:, ends:-ends]
    lowest = between.argmin(1)
    rows = np.arange(len(between))
    fall = 1 - between[rows, lowest] / beside
    missing = np.clip(1 - between / beside[:, None], 0, None).sum(1)
    width = missing / np.maximum(fall, 1e-3) / size
    return _Rim(fall, width, seen[:, ends:-ends][rows, lowest])
