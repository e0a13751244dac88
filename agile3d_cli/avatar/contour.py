"""Views of a head -> the same with a style's line around the head, where one part of it hides another, and along hair.

A line that follows the view cannot lie in the head's own colours: seen from elsewhere it would be a smear on a cheek.
So it is found anew in each picture, from what is covered and how deep it lies. It is drawn on the nearer side.
Hair lies on skin without hiding much: the line there runs along the border of the two.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, gaussian_filter, label
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.models.contour import Contour

JUMP, STEEP = 0.02, 10.0
"""World units by which depth jumps where one part hides another, beyond what a surface of this slope falls away from a
pixel to the next."""
HALF = 0.5
"""Share from which on a pixel belongs to the head, or to hair."""
SHORTEST = 0.015
"""Share of the picture's edge: where less than that hides something, among locks of hair, no pen would set a line; nor
around a lock or a gap in hair of less than its square."""
BESIDE = 2.0
"""Widths of the line within which colours beside it are compared."""
ALIKE, DIFFERENT = 0.25, 0.5
"""Difference of these, over the usual one along the line, up to which nothing is drawn, and from which on all is."""
FINER = 2
"""Parts along a pixel's edge for which the line is found, so that it has no steps."""


def with_contour(seen: Rendering, contour: Contour, background: float, hair: Tensor | None = None) -> Rendering:
    """The views with the line on them.

    Args:
        seen: the views.
        contour: the line.
        background: the grey, in [-1, 1], that they stand on.
        hair: (N, 1, H, W) how much of each pixel is hair, where that gets a line.
    """
    drawn = _coverage(seen.alpha, seen.depth, contour.width)
    if hair is not None:
        drawn = torch.maximum(drawn, contour.hair * _along(seen, hair, contour.width))
    share = contour.opacity * drawn.to(seen.image)
    ink = 2 * seen.image.new_tensor(contour.colour)[:, None, None] - 1
    # A pixel at the rim shows the line over as much of it as is covered.
    line = seen.alpha * ink + (1 - seen.alpha) * background
    return replace(seen, image=torch.lerp(seen.image, line, share))


def _coverage(alpha: Tensor, depth: Tensor, width: float) -> Tensor:
    """How much of each pixel the line takes, (N, 1, H, W) from 0 to 1: the mean over ``FINER`` squared parts of it."""
    least = JUMP + STEEP * camera.RADIUS / (camera.FOCAL * alpha.shape[-1])
    alpha = F.interpolate(alpha.cpu(), scale_factor=FINER, mode="bilinear", align_corners=False)
    depth = F.interpolate(depth.cpu(), scale_factor=FINER, mode="nearest")
    pairs = zip(alpha[:, 0].numpy(), depth[:, 0].numpy(), strict=True)
    drawn = [_line(a >= HALF, d, width * alpha.shape[-1], least) for a, d in pairs]
    return F.avg_pool2d(torch.from_numpy(np.stack(drawn))[:, None], FINER)


def _along(seen: Rendering, hair: Tensor, width: float) -> Tensor:
    """How much of each pixel a line along the border of hair takes, (N, 1, H, W): half of it lies on either side."""
    fine = F.interpolate(hair.cpu(), scale_factor=FINER, mode="bilinear", align_corners=False)
    drawn = [_border(whole[0].numpy() >= HALF, width * fine.shape[-1]) for whole in fine]
    line = F.avg_pool2d(torch.from_numpy(np.stack(drawn))[:, None], FINER)
    views = zip(seen.image.cpu(), (seen.alpha - hair).clamp(min=0).cpu(), hair.cpu(), line, strict=True)
    return torch.stack([line * _told_apart(image, skin, own, line, width) for image, skin, own, line in views])


def _told_apart(image: Tensor, skin: Tensor, hair: Tensor, line: Tensor, width: float) -> Tensor:
    """How far hair differs in colour from what is beside it, (1, H, W) from 0 to 1, against how far it does along most
    of the line: a photo may have painted hair on skin, and where it did, nothing ends."""
    reach = BESIDE * width * image.shape[-1]
    one, other = (_around(image, share, reach) for share in (hair, skin))
    apart = (one - other).abs().mean(0, keepdim=True)
    there = apart[line > HALF]
    usual = float(there.median()) if len(there) else 0.0
    return ((apart / max(usual, 1e-3) - ALIKE) / (DIFFERENT - ALIKE)).clamp(0, 1)


def _around(image: Tensor, share: Tensor, reach: float) -> Tensor:
    """The mean colour (3, H, W) within some ``reach``, pixels, of what has a share (1, H, W) in the picture."""
    weighted = torch.cat([image * share, share]).numpy()
    blurred = torch.from_numpy(gaussian_filter(weighted, (0, reach, reach)))
    return blurred[:3] / (blurred[3:] + 1e-4)


def _border(hair: np.ndarray, width: float) -> np.ndarray:
    """A line of ``width`` pixels along the border of hair (H, W)."""
    least = (SHORTEST * len(hair)) ** 2
    hair = _large(hair, least)
    hair = ~_large(~hair, least)
    if hair.all() or not hair.any():
        return np.zeros(hair.shape, np.float32)
    away = distance_transform_edt(hair) + distance_transform_edt(~hair) - 0.5
    return np.clip(width / 2 - away + 0.5, 0, 1).astype(np.float32)


def _line(solid: np.ndarray, depth: np.ndarray, width: float, least: float) -> np.ndarray:
    """The line on pixels (H, W), ``width`` pixels wide, where depth jumps by ``least`` or a solid ends; all of what is
    not solid counts as line, for nothing else is seen of it than the little that it covers."""
    deep = np.where(solid, depth, np.inf)
    hidden = ~solid | _large(_behind(deep, least), round(SHORTEST * len(deep)))
    if not hidden.any():
        return np.zeros(solid.shape, np.float32)
    away, (row, column) = distance_transform_edt(~hidden, return_indices=True)
    # The pixels beyond a jump are hidden from; the line is drawn on what hides them.
    nearer = solid & (deep[row, column] - np.where(solid, deep, 0) > least)
    reach = np.clip(width + 1 - away, 0, 1) * nearer
    return np.where(solid, reach, 1).astype(np.float32)


def _large(found: np.ndarray, least: float) -> np.ndarray:
    """Connected pixels (H, W) where there are more than ``least`` of them."""
    parts, _ = label(found, np.ones((3, 3)))
    counts = np.bincount(parts.ravel())
    counts[0] = 0
    return np.asarray((counts > least)[parts])


def _behind(deep: np.ndarray, least: float) -> np.ndarray:
    """Which pixels (H, W) lie beyond one of their four neighbours by more than ``least``."""
    found = np.zeros(deep.shape, bool)
    for axis in (0, 1):
        step = np.diff(np.where(np.isinf(deep), 1e3, deep), axis=axis)
        one, two = (slice(None),) * axis, (slice(None),) * (1 - axis)
        found[(*one, slice(1, None), *two)] |= step > least
        found[(*one, slice(None, -1), *two)] |= step < -least
    return found
