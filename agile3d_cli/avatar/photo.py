"""Aligned face -> pixels with rays: what the inversion compares renderings with.

In: crop and wide picture with their camera and matte. Out: ``Pixels``, both pictures at the resolution that the planes
can hold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.face.align import AlignedFace

WIDE_SIZE, CROP_SIZE = 192, 256
CLOTHES_FROM, CLOTHES_WEIGHT = 0.8, 0.3
"""Below this row of the wide picture clothes begin, which are no strength of a head generator."""


@dataclass(frozen=True)
class Pixels:
    """P pixels of a photo."""

    origin: Tensor
    """(P, 3) of the rays, world units."""
    direction: Tensor
    """(P, 3) unit vectors."""
    colour: Tensor
    """(P, 3) in [0, 1]."""
    alpha: Tensor
    """(P,) person mask."""
    weight: Tensor
    """(P,) how much a pixel counts; 0 outside the photo."""


def photo_pixels(face: AlignedFace, wide: float, like: Tensor) -> Pixels:
    """Pixels of the wide picture, then of the crop.

    Args:
        face: the aligned face.
        wide: focal length of ``face.wide`` over the crop's.
        like: a tensor of the wanted device and dtype.
    """
    beyond = camera.with_focal(face.label, camera.FOCAL * wide)
    inside = torch.ones_like(face.valid)
    rows = (torch.arange(WIDE_SIZE)[:, None] / WIDE_SIZE).expand(WIDE_SIZE, WIDE_SIZE)
    clothes = torch.where(rows > CLOTHES_FROM, CLOTHES_WEIGHT, 1.0)
    parts = [
        _pixels(face.wide, face.matte, face.valid, beyond, WIDE_SIZE, clothes),
        _pixels(face.image, zoomed(face.matte, wide), inside, face.label, CROP_SIZE, torch.ones(())),
    ]
    columns = [torch.cat(column).to(like) for column in zip(*parts, strict=True)]
    return Pixels(*columns)


def _pixels(
    picture: Tensor, matte: Tensor, valid: Tensor, label: Tensor, size: int, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    shown, mask, known = (F.interpolate(part[None], (size, size), mode="area")[0] for part in (picture, matte, valid))
    origin, direction = camera.rays(label[None], size, size)
    colour = (shown.reshape(3, -1).T + 1) / 2
    return origin[0], direction[0], colour, mask.reshape(-1), (known[0] * weight).reshape(-1)


def zoomed(matte: Tensor, wide: float) -> Tensor:
    """The wide picture's matte (1, S, S) cut to the crop's framing."""
    size = matte.shape[-1]
    part = round(size * wide)
    start = (size - part) // 2
    cut = matte[:, start : start + part, start : start + part]
    return F.interpolate(cut[None], (size, size), mode="bilinear", align_corners=False)[0]
