"""Portrait to person mask: a small segmentation network, then a guided filter that finds the edges again.

In: a picture with one head in the middle. Out: how much of each pixel is that person. Source: MediaPipe selfie
segmentation (256 x 256 in and out); He et al., Guided image filtering, 2010, for the full-size edges.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.networks import run_network

INPUT = 256
"""Side of the network's input and output, pixels."""
RADIUS = 1 / 50
"""Half-width of the guided filter's window, fraction of the picture: about the width of loose hair."""
SMOOTHNESS = 2e-4
"""Colour variance below which an edge is not followed, for colours in [0, 1]."""


def person_matte(picture: Tensor, centre: np.ndarray, config: FaceConfig) -> Tensor:
    """The person mask of a portrait.

    Args:
        picture: (3, S, S) in [-1, 1].
        centre: (2,) a point on the face, fractions; of several people the one there is kept.
        config: threads of the network.

    Returns:
        (1, S, S) in [0, 1].
    """
    colour = ((picture + 1) / 2)[None]
    small = F.interpolate(colour, (INPUT, INPUT), mode="bilinear", antialias=True, align_corners=False)
    coarse = (_segment(small, config) + _segment(small.flip(3), config).flip(3)) / 2
    coarse = _one_person(coarse, centre)
    fine = _guided_filter(colour, small, coarse, max(2, round(INPUT * RADIUS)))
    # The filter leaves a faint veil on plain areas; stretch it away.
    return ((fine[0] - 0.05) / 0.9).clamp(0, 1)


def _segment(picture: Tensor, config: FaceConfig) -> Tensor:
    (mask,) = run_network("person_matte", picture.numpy().astype(np.float32), config.threads)
    return torch.from_numpy(mask)


def _one_person(mask: Tensor, centre: np.ndarray) -> Tensor:
    """Clears the people that do not touch the one at ``centre``."""
    parts, count = ndimage.label(mask[0, 0].numpy() > 0.3)
    column, row = np.clip((centre * INPUT).astype(int), 0, INPUT - 1)
    if count < 2 or parts[row, column] == 0:
        return mask
    others = (parts > 0) & (parts != parts[row, column])
    near = ndimage.binary_dilation(others, iterations=2) & (parts != parts[row, column])
    return mask * torch.from_numpy(~near)


def _guided_filter(guide: Tensor, small: Tensor, mask: Tensor, radius: int) -> Tensor:
    """The mask as a locally linear function of colour, found on the small picture and applied to the full one.

    Args:
        guide: (1, 3, S, S).
        small: (1, 3, s, s), the guide at the mask's size.
        mask: (1, 1, s, s).
        radius: half-width of the window, pixels of the mask.

    Returns:
        (1, 1, S, S).
    """

    def mean(values: Tensor) -> Tensor:
        # A square window is a row after a column.
        padded = F.pad(values, [radius] * 4, mode="replicate")
        return F.avg_pool2d(F.avg_pool2d(padded, (2 * radius + 1, 1), stride=1), (1, 2 * radius + 1), stride=1)

    side = mask.shape[-1]
    small_mean, mask_mean = mean(small), mean(mask)
    together = mean(small * mask) - small_mean * mask_mean
    rows, columns = [0, 0, 0, 1, 1, 2], [0, 1, 2, 1, 2, 2]
    upper = mean(small[:, rows] * small[:, columns]) - small_mean[:, rows] * small_mean[:, columns]
    matrix = upper[0, [0, 1, 2, 1, 3, 4, 2, 4, 5]].permute(1, 2, 0).reshape(side, side, 3, 3)
    matrix = matrix + SMOOTHNESS * torch.eye(3)
    slope = torch.linalg.solve(matrix, together[0].permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)[None]
    offset = mask_mean - (slope * small_mean).sum(1, keepdim=True)
    both = F.interpolate(mean(torch.cat([slope, offset], 1)), guide.shape[-2:], mode="bilinear", align_corners=False)
    return (both[:, :3] * guide).sum(1, keepdim=True) + both[:, 3:]
