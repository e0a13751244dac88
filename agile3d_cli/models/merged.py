"""Planes of one subject as a table of texels in which planes that see the same two coordinates are one.

The published axes look up (x, y), (x, z) and (z, x). Looking up is linear and the three are averaged, so the second
plane and the transposed third one are summed beforehand: two look-ups of four texels each instead of three.
``triplane.plane_features_plain`` is the plain twin.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.texels import AXES, Texels, summed, table_of, texels_along


@dataclass(frozen=True)
class MergedPlanes:
    """Two planes, or three where no two see the same."""

    pairs: tuple[tuple[int, int], ...]
    """Which coordinates run along each plane's columns and rows."""
    planes: Tensor
    """(K, C, S, S), their sum is what is looked up: the mean's third is in them."""
    table: Tensor
    """The same for ``texels.summed``."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of a plane."""
        return self.planes.shape[-2], self.planes.shape[-1]

    def texels(self, normalised: Tensor) -> Texels:
        """What points (P, 3) in [-1, 1] read."""
        return texels_along(normalised, self.size, self.pairs)

    def features(self, normalised: Tensor) -> Tensor:
        """Features (P, C) at points (P, 3) in [-1, 1]; zero outside."""
        return summed(self.table, self.texels(normalised))


def merged_planes(planes: Tensor, axes: str) -> MergedPlanes:
    """Of planes (3, C, S, S) along ``axes``, a key of ``texels.AXES``."""
    found: dict[tuple[int, int], Tensor] = {}
    for pair, plane in zip(AXES[axes], planes / len(planes), strict=True):
        turned = pair[::-1]
        if turned in found:
            found[turned] = found[turned] + plane.transpose(-1, -2)
        else:
            found[pair] = plane
    merged = torch.stack(list(found.values()))
    return MergedPlanes(tuple(found), merged, table_of(merged))
