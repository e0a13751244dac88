"""A style's details: finer texels for what is drawn on a face, added to the front plane where the face is.

An eye is 15 texels of the planes wide, enough for what light and skin do and too few for a drawn iris. Details are the
same for all people, for they lie on the mean head's face, and so are what a style draws on it.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.texels import AXES
from agile3d_cli.models.triplane import plane_features

REACH = 0.5
"""Details cover the middle of the front plane up to here, of 1: brows, eyes, nose and mouth. They have as many texels
as the whole plane, so theirs are half as large."""


def detail_features(details: Tensor, normalised: Tensor, axes: str) -> Tensor:
    """What details add to ``plane_features``.

    Args:
        details: (1, C, S, S).
        normalised: (N, P, 3) in [-1, 1].
        axes: key of ``AXES``; the first plane is the front one.

    Returns:
        (N, P, C), zero beside the face.
    """
    n, count, _ = normalised.shape
    place = normalised[..., list(AXES[axes][0])].reshape(1, 1, -1, 2) / REACH
    found = F.grid_sample(details, place, align_corners=False)[0, :, 0].T
    return found.reshape(n, count, -1) / len(AXES[axes])


def detailed_features(planes: Tensor, details: Tensor | None, normalised: Tensor, axes: str) -> Tensor:
    """``plane_features`` with what details add, if there are any."""
    features = plane_features(planes, normalised, axes)
    return features if details is None else features + detail_features(details, normalised, axes)
