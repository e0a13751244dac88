"""Where a drawn jaw really ends: the face mesh, made for people, stops short of the broad jaws of cartoons.

In: an exemplar and its landmarks. Out: the landmarks with cheeks, jaw and chin moved out to the edge of the skin.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from agile3d_linear.mesh import OVAL
from agile3d_linear.picture import blur, sample
from agile3d_linear.tone import to_lab

LOWER = tuple(OVAL[8:29])
"""The outline from one ear over the chin to the other."""
FURTHEST = 0.30
"""The edge is looked for up to this share of the way from the centre beyond the mesh."""
STEPS = 31
CHANGE = 22.0
"""Difference from the skin just inside that counts as the edge, Lab units."""
REACH = 0.35
"""How far into the face the outline takes its neighbours along, share of the face's half-width."""


def to_edge(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (468, 3) of a picture (S, S, 3), both as fractions, with the lower outline at the edge of the skin."""
    index = list(LOWER)
    middle = landmarks[list(OVAL), :2].mean(0)
    arms = landmarks[index, :2] - middle
    along = np.linspace(-0.06, FURTHEST, STEPS)
    places = landmarks[index, None, :2] + along[None, :, None] * arms[:, None]
    seen = to_lab(sample(blur(picture, len(picture) / 300), places.astype(np.float32), "bilinear"))
    inside = np.median(seen[:, :4], axis=1, keepdims=True)
    other = np.sqrt(((seen - inside) ** 2 * [0.7, 1, 1]).sum(-1)) > CHANGE
    first = np.where(other.any(1), other.argmax(1), 0)
    # No edge found means hair or neck of the skin's colour: nothing is known there.
    beyond = np.where(other.any(1), np.clip(along[first], 0, FURTHEST), np.nan)
    if np.isnan(beyond).mean() > 0.5:
        return landmarks
    beyond = np.where(np.isnan(beyond), np.nanmedian(beyond), beyond)
    beyond = ndimage.gaussian_filter1d(ndimage.median_filter(beyond, 5, mode="nearest"), 1.0, mode="nearest")
    # The ends hang on to the upper outline, which stays.
    beyond = beyond * np.clip(np.minimum(np.arange(len(index)), np.arange(len(index))[::-1]) / 3, 0, 1)
    move = beyond[:, None] * arms
    distance = np.linalg.norm(landmarks[:, None, :2] - landmarks[index, :2][None], axis=2)
    width = REACH * np.linalg.norm(arms, axis=1).mean()
    weight = np.exp(-((distance / (0.5 * width)) ** 2))
    field = weight @ move / (weight.sum(1, keepdims=True) + 1e-9)
    field = field * np.exp(-((distance.min(1, keepdims=True) / width) ** 2))
    field[index] = move
    moved = landmarks.copy()
    moved[:, :2] += field
    return moved
