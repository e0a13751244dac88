"""Everything but the face: hair, neck and background follow the face's change of form and lose their small detail.

In: the photo, where its landmarks lie and where they shall lie. Out: the picture onto which the face is laid.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.interpolate import RBFInterpolator
from skimage.draw import polygon2mask

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.matte import person_matte
from agile3d_cli.face.outlines import LEFT_EYE
from agile3d_linear.config import LinearConfig
from agile3d_linear.features import skin_likeness
from agile3d_linear.mesh import OVAL, mirrored
from agile3d_linear.picture import blur, ramp, resize, sample
from agile3d_linear.smooth import smooth
from agile3d_linear.tone import style_hair, to_lab, to_rgb

MATTE = 128
"""Side at which person and background are told apart, pixels."""
COARSE = 33
"""Points per side of the grid on which the change of form is computed."""
SHADE, NECK_SHADE = 0.6, 0.3
"""Share of light and shade that skin keeps, and that of the neck, on which the head throws its shadow."""
HAIR_DETAIL = 0.03
"""Detail of hair smaller than this share of the picture stays, however near hair comes to skin."""
UNDER_CHIN = 3.0
"""How many times deeper than on the face shadows of the neck are."""


def redraw(
    photo: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    skin: np.ndarray,
    styled_skin: np.ndarray,
    config: LinearConfig,
    hair_kept: float = 1.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The photo (S, S, 3) with its landmarks moved from ``source`` to ``target`` (468, 3), smoothed and retoned.

    Args:
        photo: [0, 1].
        source: fractions of the picture.
        target: fractions of the picture.
        skin: (3,) Lab, the sitter's skin.
        styled_skin: (3,) Lab, what it becomes.
        config: dials.
        hair_kept: share of the difference in lightness between hair (and clothes) and skin that stays.

    Returns:
        The picture, where it shows skin, and where the person: (S, S, 1) in [0, 1] each.
    """
    person = _person(photo, source)
    moved = warp(np.concatenate([photo, person], -1), source[:, :2], target[:, :2])
    calm, person = smooth(moved[..., :3], config.smoothing), moved[..., 3]
    lab = to_lab(calm)
    soft, (near, neck) = blur(lab, 1.0), _where_skin_is(target, len(photo))
    like = np.maximum(near * skin_likeness(soft, skin), neck * skin_likeness(soft, skin, UNDER_CHIN))
    like = ramp(like, 0.12, 0.5)
    # Where skin meets something else the mixture looks like skin, too, and would glow.
    like = blur(ndimage.grey_erosion(np.minimum(like, person), 3), 1.0)
    like = like[..., None]
    as_skin = styled_skin + (lab - skin) * (SHADE - (SHADE - NECK_SHADE) * neck[..., None])
    as_hair = style_hair(lab, config)
    if hair_kept < 1:
        broad = blur(as_hair[..., :1], HAIR_DETAIL * len(photo))
        as_hair[..., :1] -= (1 - hair_kept) * person[..., None] * (broad - styled_skin[0])
    return to_rgb(like * as_skin + (1 - like) * as_hair), like, person[..., None]


def _person(photo: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(S, S, 1) in [0, 1]: how much of each pixel is the person."""
    small = torch.from_numpy(resize(photo, MATTE).transpose(2, 0, 1).copy()) * 2 - 1
    matte = person_matte(small, landmarks[:, :2].mean(0), FaceConfig(threads=1))
    return resize(matte.permute(1, 2, 0).numpy(), len(photo))


def _where_skin_is(target: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) in [0, 1] each: face and ears, and neck; further out, skin's colour belongs to fair hair or a wall."""
    points = target[:, :2]
    outline = points[list(OVAL)]
    eyes = float(np.linalg.norm(points[list(LEFT_EYE)].mean(0) - points[list(mirrored(LEFT_EYE))].mean(0)))
    axis = (np.arange(size) + 0.5) / size
    v, u = np.meshgrid(axis, axis, indexing="ij")
    away = ndimage.distance_transform_edt(~polygon2mask((size, size), outline[:, ::-1] * size - 0.5)) / size
    eyes = max(eyes, 0.1)
    # Crowns may be bald.
    reach = np.where(v < points[list(LEFT_EYE), 1].mean(), 0.8, 0.45) * eyes
    near = ramp(reach - away, 0.0, 0.2 * eyes)
    middle, half = (outline[:, 0].min() + outline[:, 0].max()) / 2, np.ptp(outline[:, 0]) / 2
    neck = ramp(-np.abs(u - middle), -1.0 * half, -0.75 * half) * ramp(v - outline[:, 1].max(), -0.1, 0.02)
    return near, neck


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


def globally(photo: np.ndarray, palette: np.ndarray, config: LinearConfig) -> np.ndarray:
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
