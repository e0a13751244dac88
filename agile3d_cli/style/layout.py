"""Where the portrait lies in exemplars without a face that is found.

Sets of drawn avatars mostly place every head alike, and the detector knows some of them: their crops show the others'.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agile3d_cli.face.warp import scale, similarity

WITNESSES = 3
"""Crops that have to agree before others follow them."""
AGREED = 0.1
"""Largest median distance of crops from the usual one, as a share of its side. Measured: 0.02 to 0.05 in sets of one
layout."""


def usual_crop(crops: Sequence[np.ndarray]) -> np.ndarray | None:
    """The similarity (2, 3) that crops of pictures of one size agree on, else None."""
    if len(crops) < WITNESSES:
        return None
    # The median of similarities is one: turn and size are two numbers, each standing twice.
    usual: np.ndarray = np.median(np.stack(crops), axis=0)
    away = np.abs(np.stack(crops) - usual).max((1, 2)) / scale(usual)
    return usual if float(np.median(away)) <= AGREED else None


def middle_square(size: tuple[int, int]) -> np.ndarray:
    """The similarity (2, 3) of the largest square in the middle of a picture, ``size`` being width and height."""
    return similarity(np.array(size) / 2, float(min(size)))
