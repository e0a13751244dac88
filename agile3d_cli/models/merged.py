"""Planes of one subject as a table of texels in which planes that see the same two coordinates are one.

The published axes look up (x, y), (x, z) and (z, x). Looking up is linear and the three are averaged, so the second
plane and the transposed third one are summed beforehand: two look-ups of four texels each instead of three.
``triplane.plane_features_plain`` is the plain twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.texels import AXES, Texels, summed, texels_along


@dataclass(frozen=True)
class MergedPlanes:
    """Two planes, or three where no two see the same."""

    pairs: tuple[tuple[int, int], ...]
    """Which coordinates run along each plane's columns and rows."""
    table: Tensor
    """(K (S + 2) (S + 2), C), see ``texels.table_of``; the planes' sum is what is looked up, the mean's third in it."""
    size: tuple[int, int]
    """Rows and columns of a plane."""

    def texels(self, normalised: Tensor) -> Texels:
        """What points (P, 3) in [-1, 1] read."""
        return texels_along(normalised, self.size, self.pairs)

    def features(self, normalised: Tensor) -> Tensor:
        """Features (P, C) at points (P, 3) in [-1, 1]; zero outside."""
        return summed(self.table, self.texels(normalised))


def merged_planes(planes: Tensor, axes: str) -> MergedPlanes:
    """Of planes (3, C, S, S) along ``axes``, a key of ``texels.AXES``."""
    pairs, parts = list[tuple[int, int]](), list[list[Tensor]]()
    for pair, plane in zip(AXES[axes], planes.permute(0, 2, 3, 1), strict=True):
        if pair[::-1] in pairs:
            parts[pairs.index(pair[::-1])].append(plane.transpose(0, 1))
        else:
            pairs.append(pair)
            parts.append([plane])
    _, channels, height, width = planes.shape
    table = planes.new_zeros(len(pairs), height + 2, width + 2, channels)
    for inside, (first, *others) in zip(table[:, 1:-1, 1:-1], parts, strict=True):
        torch.mul(first, 1 / len(planes), out=inside)
        for other in others:
            inside.add_(other, alpha=1 / len(planes))
    return MergedPlanes(tuple(pairs), table.flatten(0, 2), (height, width))
