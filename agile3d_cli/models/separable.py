"""Density of an imported subject at the nodes of an axis-aligned grid, a small fraction of the work of points at large.

Each plane sees two coordinates, so before its softplus the decoder's hidden layer at node (i, j, k) is a sum of entries
of tables over pairs of axes: A[i, j] + B[i, k] for the published axes. The tables are looked up and multiplied once; a
node then costs a sum, a softplus and a dot product. ``RayField`` at the points is the plain twin.
Source: EG3D (Chan et al., CVPR 2022), section 4.1, of which this is arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.layers import at_once, softplus
from agile3d_cli.models.precision import multiplied
from agile3d_cli.models.ray_field import RayField
from agile3d_cli.models.texels import summed, texels_along

NODES = 1 << 13
"""Nodes that a CPU is asked for at a time: their hidden layer stays in its cache."""


@dataclass(frozen=True)
class GridDensity:
    """Tables of one subject over the nodes of one grid."""

    pairs: tuple[tuple[int, int], ...]
    """The axes of each table."""
    tables: tuple[Tensor, ...]
    """(len * len, H) each, the node's number along the first axis of the pair times len, plus that along the second."""
    output: Tensor
    """(H, 1)."""
    bias: Tensor
    """(1,)."""
    nodes: int
    """Along each axis."""

    @torch.no_grad()
    def raw(self, where: Tensor) -> Tensor:
        """Raw density (P,) at nodes (3, P), their numbers along x, y and z, on the device of the tables."""
        found, together = self.output.new_empty(where.shape[1]), at_once(self.output, NODES)
        for start in range(0, where.shape[1], together):
            part = where[:, start : start + together]
            (first, second), *others = self.pairs
            hidden = self.tables[0].index_select(0, part[first] * self.nodes + part[second])
            for (first, second), table in zip(others, self.tables[1:], strict=True):
                hidden += table.index_select(0, part[first] * self.nodes + part[second])
            torch.mv(softplus(hidden), self.output, out=found[start : start + together])
        return found.add_(self.bias)


@torch.no_grad()
def grid_density(field: RayField, axis: Tensor) -> GridDensity:
    """Tables of a grid whose nodes lie at ``axis`` (len,), world units, along x, y and z, on the field's device."""
    line, count = axis.to(field.planes.table) * (2 / field.box), len(axis)
    pairs = field.planes.pairs
    tables = []
    for k, (along, across) in enumerate(pairs):
        places = line.new_zeros(count * count, 3)
        places[:, along] = line.repeat_interleave(count)
        places[:, across] = line.repeat(count)
        own = field.planes.table.unflatten(0, (len(pairs), -1))[k]
        features = summed(own, texels_along(places, field.planes.size, ((along, across),)))
        with multiplied(features.device):
            table = features @ field.decoder.hidden
        tables.append(table.add_(field.decoder.hidden_bias) if k == 0 else table)
    output, bias = field.decoder.output[:, 0].contiguous(), field.decoder.output_bias[:1]
    return GridDensity(pairs, tuple(tables), output, bias, count)
