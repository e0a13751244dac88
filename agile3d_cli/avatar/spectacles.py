"""Spectacles on a photo: the encoder is unsure of them, but their bridge is a line across the nose that is easily seen.

Measured on 96 portraits of politicians, fifteen of them with spectacles, and 42 photos of people without: the encoder
alone takes eight bare faces for wearers and three wearers for bare, both together none and two (thin rims).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.face.align import AlignedFace
from agile3d_cli.models.config import ChoicesConfig
from agile3d_cli.models.encoder import Guess

SWITCH = 0
"""Which of ``ChoicesConfig.switches`` puts spectacles on."""
EYE_CORNERS, ROOT, TIP = (33, 263), 168, 2
"""Landmarks: outer corners of the eyes, root of the nose, and where the nose meets the lip."""
ABOVE, BELOW, BESIDE = 0.18, 0.3, 0.05
"""How far the strip reaches from the root of the nose, distances of the eyes' outer corners."""
ROWS, COLUMNS = 40, 7
STEP = 0.1
"""Change of lightness between two rows of the strip, colours in [0, 1], that speaks neither for nor against."""
WEIGHT, MOST = 8.0, 0.6
"""How much the guess moves for each unit beyond it, and at most, standard deviations."""


def with_bridge(guess: Guess, face: AlignedFace, lead: int, choices: ChoicesConfig) -> Guess:
    """The guess of coordinates (N, z_dim - lead) with what the bridge of the nose says of spectacles."""
    if not choices.switches:
        return guess
    number = choices.switches[SWITCH][0] - lead
    mean = guess.mean.clone()
    mean[:, number] += min(MOST, max(-MOST, WEIGHT * (bridge_edge(face.image, face.landmarks) - STEP)))
    return replace(guess, mean=mean)


def bridge_edge(image: Tensor, landmarks: np.ndarray) -> float:
    """Largest change of lightness down the bridge of the nose, per 1/80 of the eyes' distance, colours in [0, 1].

    Args:
        image: (3, S, S) in [-1, 1].
        landmarks: (468, 2 or more) face mesh as fractions of the picture.
    """
    points = torch.from_numpy(np.asarray(landmarks)[:, :2]).to(image)
    unit = (points[EYE_CORNERS[0]] - points[EYE_CORNERS[1]]).norm()
    down = F.normalize(points[TIP] - points[ROOT], dim=0)
    right = torch.stack([down[1], -down[0]])
    along = torch.linspace(-ABOVE, BELOW, ROWS).to(image)[:, None, None] * unit
    across = torch.linspace(-BESIDE, BESIDE, COLUMNS).to(image)[None, :, None] * unit
    places = points[ROOT] + along * down + across * right
    grey = (image.mean(0) + 1) / 2
    strip = F.grid_sample(grey[None, None], (places * 2 - 1)[None], align_corners=False)[0, 0].mean(1)
    return float(strip.diff().abs().max())
