"""Everything but the face: hair, neck and background follow the face's change of form and lose their small detail.

In: the photo, where its landmarks lie and where they shall lie. Out: the picture onto which the face is laid.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import RBFInterpolator

from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.features import skin_likeness
from agile3d_agilegan.mesh import OVAL
from agile3d_agilegan.picture import blur, ramp, sample
from agile3d_agilegan.smooth import smooth
from agile3d_agilegan.tone import style_hair, to_lab, to_rgb

COARSE = 33
"""Points per side of the grid on which the change of form is computed."""


def redraw(
    photo: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    skin: np.ndarray,
    styled_skin: np.ndarray,
    config: AgileganConfig,
) -> tuple[np.ndarray, np.ndarray]:
    """The photo (S, S, 3) with its landmarks moved from ``source`` to ``target`` (468, 3), smoothed and retoned.

    Args:
        photo: [0, 1].
        source: fractions of the picture.
        target: fractions of the picture.
        skin: (3,) Lab, the sitter's skin.
        styled_skin: (3,) Lab, what it becomes.
        config: dials.

    Returns:
        The picture, and where it shows skin: (S, S, 1) in [0, 1].
    """
    moved = warp(photo, source[:, :2], target[:, :2])
    calm = smooth(moved, config.smoothing)
    lab = to_lab(calm)
    like = blur(ramp(skin_likeness(blur(lab, 1.0), skin), 0.12, 0.5), 1.0)[..., None]
    as_skin = styled_skin + (lab - skin) * [0.6, 0.6, 0.6]
    as_hair = style_hair(lab, config)
    return to_rgb(like * as_skin + (1 - like) * as_hair), like


def warp(photo: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Moves landmarks (P, 2) from ``source`` to ``target``; the picture's edge stays."""
    some = sorted({*range(0, len(source), 4), *OVAL})
    edge = np.linspace(0, 1, 9)
    frame = np.array([(u, v) for u in edge for v in edge if u in (0, 1) or v in (0, 1)])
    places = np.concatenate([target[some], frame])
    # Where the turned face folds over itself, near points may ask for different moves: smoothing settles it.
    moves = np.concatenate([source[some] - target[some], np.zeros_like(frame)])
    grid = np.linspace(0, 1, COARSE)
    v, u = np.meshgrid(grid, grid, indexing="ij")
    bend = RBFInterpolator(places, moves, smoothing=1e-4, kernel="thin_plate_spline")
    coarse = bend(np.stack([u.ravel(), v.ravel()], -1)).reshape(COARSE, COARSE, 2)
    size = photo.shape[0]
    shift = F.interpolate(
        torch.from_numpy(coarse).permute(2, 0, 1)[None].float(), (size, size), mode="bicubic", align_corners=True
    )[0]
    axis = (np.arange(size) + 0.5) / size
    v, u = np.meshgrid(axis, axis, indexing="ij")
    return sample(photo, np.stack([u, v], -1) + shift.permute(1, 2, 0).numpy())


def globally(photo: np.ndarray, palette: np.ndarray, config: AgileganConfig) -> np.ndarray:
    """A picture without a found face: smoothed, and its lightness and colours moved towards the exemplars' spread.

    Args:
        photo: (S, S, 3) in [0, 1].
        palette: (2, 3) mean and standard deviation of the exemplars' pixels, Lab.
        config: dials.
    """
    lab = to_lab(smooth(photo, config.smoothing))
    mean, deviation = lab.mean((0, 1)), lab.std((0, 1)) + 1.0
    matched = (lab - mean) / deviation * (0.5 * deviation + 0.5 * palette[1]) + 0.5 * mean + 0.5 * palette[0]
    return to_rgb(lab + 0.5 * config.color * (matched - lab))
