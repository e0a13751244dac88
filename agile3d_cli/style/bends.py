"""Stylized pictures bent a little, so that what each draws lies where the others have it on the head.

A stylizer sets an eye a pixel higher in one picture than in the next, and what is learnt from all of them would be the
blur of all. How each picture is bent is learnt with the style, and forgotten: on the average no place is moved.
Source: own; the idea is congealing (Learned-Miller, "Data driven image models through continuous joint alignment",
PAMI 2006).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NODES = 6
"""Nodes per axis of a bend."""
UNEVEN = 4.0
"""How much more the differences between neighbouring nodes count than the moves themselves."""


def no_bends(count: int, like: Tensor) -> Tensor:
    """(count, 2, NODES, NODES): how far right and down of its place each picture is read at the nodes, picture widths,
    zero."""
    return like.new_zeros(count, 2, NODES, NODES)


def bends_of(bends: Tensor, picked: list[int]) -> Tensor:
    """Those of some pictures, without what all have in common: that is the style's."""
    return bends[picked] - bends.mean(0, keepdim=True)


def read_bent(picture: Tensor, bend: Tensor, window: Tensor) -> Tensor:
    """Pixels (P, P, 3) of a picture (3, S, S), bent by (2, NODES, NODES), at flat pixel numbers (P, P)."""
    size = picture.shape[-1]
    place = torch.stack([window % size, window // size], -1).to(bend) + 0.5
    place = (place * (2 / size) - 1)[None]
    moved = F.grid_sample(bend[None], place, align_corners=True)[0].permute(1, 2, 0)
    read = F.grid_sample(picture[None].to(bend), place + 2 * moved, padding_mode="border", align_corners=False)
    return read[0].permute(1, 2, 0)


def strain(bends: Tensor) -> Tensor:
    """How far and how unevenly pictures are bent, summed over bends (N, 2, NODES, NODES)."""
    uneven = torch.stack([bends.diff(dim=d).square().mean((1, 2, 3)) for d in (-1, -2)]).sum(0)
    return (bends.square().mean((1, 2, 3)) + UNEVEN * uneven).sum()
