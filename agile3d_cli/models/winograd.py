"""3x3 convolutions of large pictures in tiles of 4x4 or 2x2 pixels, with a quarter or a half of the multiplications.

Tiles are small polynomials: their values at some points along each side, six or four, are multiplied channel by
channel, which are matrix products, and give the tile of the result back. Some rows of tiles are taken at a time, so
that all of it stays in a CPU's cache. ``F.conv2d`` is the plain twin: tiles of 4x4 differ by some 1e-6 of the values,
those of 2x2 are nearer to double precision than it is.
Source: Winograd 1980 and Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks" (CVPR 2016). The points
0, 1, -1, 1/2, -2 round best: Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution"
(ACM TOMS 2020), and so it was found here, with a third of the error of 0, 1, -1, 2, -2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}
"""Of each tile's side, and infinity."""
TOGETHER = 1 << 14
"""Tiles of 4x4 times channels that are taken at a time: with all their points some 2 MB."""


@dataclass(frozen=True)
class TiledWeight:
    """A 3x3 convolution at its points."""

    values: Tensor
    """((tile + 2)^2, inputs, outputs)."""
    tile: int
    """Pixels along a side."""


def tiled_weight(weight: Tensor, tile: int) -> TiledWeight:
    """Of a weight (outputs, inputs, 3, 3)."""
    outputs, inputs = weight.shape[:2]
    _, into, _ = _both_sides(tile)
    taps = weight.permute(2, 3, 1, 0).reshape(9, -1)
    return TiledWeight((into.to(weight) @ taps).view(-1, inputs, outputs), tile)


def tiled_conv(
    x: Tensor, weight: TiledWeight, bias: Tensor, noise: Tensor | None, slope: float, clamp: float
) -> Tensor:
    """(1, inputs, H, W), H and W multiples of the tile, in float32 and channels last, to (1, outputs, H, W) likewise.

    ``bias`` (outputs,), ``noise`` (1, 1, H, W), a leaky ReLU of ``slope`` and [-clamp, clamp] are applied while the
    tiles are in the cache.
    With as many outputs as inputs ``x`` is overwritten: new memory of this size would cost a tenth of the time.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    tile, points, outputs = weight.tile, len(weight.values), weight.values.shape[2]
    across, down = width // tile, height // tile
    rows = min(down, max(1, TOGETHER * 36 // (points * across * max(channels, outputs))))
    lines = x[0].permute(1, 2, 0)
    image = x
    if outputs != channels:
        image = torch.empty_like(x[:, :1].expand(1, outputs, height, width), memory_format=torch.channels_last)
    target = image[0].permute(1, 2, 0).view(down, tile, across, tile, outputs)
    if noise is not None:
        noise = noise.view(down, tile, across, tile).permute(1, 3, 0, 2)[..., None]
    framed = x.new_zeros(tile * rows + 2, width + 2, channels)
    there, _, back = (matrix.to(x) for matrix in _both_sides(tile))
    for start in range(0, down, rows):
        end = min(start + rows, down)
        tiles = _tiles(lines, framed, tile, start, end)
        values = (there @ tiles.reshape(points, -1)).view(points, -1, channels)
        products = torch.bmm(values, weight.values).view(points, -1)
        pixels = (back @ products).view(tile, tile, end - start, across, outputs)
        pixels += bias
        if noise is not None:
            pixels += noise[:, :, start:end]
        F.leaky_relu_(pixels, slope).clamp_(-clamp, clamp)
        target[start:end] = pixels.permute(2, 0, 3, 1, 4)
    return image


def _tiles(lines: Tensor, framed: Tensor, tile: int, start: int, end: int) -> Tensor:
    """Some rows of tiles of a picture (H, W, C), which overlap by two pixels: (tile + 2, tile + 2, rows, W / tile, C).

    ``framed`` (tile * rows + 2, W + 2, C) is where they lie, zeros on both sides.
    """
    # The line above was read with the rows before, and may have been overwritten since.
    framed[0] = framed[-2] if start else 0
    inside = lines[tile * start : tile * end + 1]
    framed[1 : 1 + len(inside), 1:-1] = inside
    framed[1 + len(inside) :] = 0
    row, column, _ = framed.stride()
    size = (tile + 2, tile + 2, end - start, lines.shape[1] // tile, lines.shape[2])
    return framed.as_strided(size, (row, column, tile * row, tile * column, 1))


@cache
def _transforms(tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """From pixels (side, side), from weights (side, 3) and to pixels (tile, side), along one side of tile + 2."""
    points, side = np.array(POINTS[tile]), tile + 2
    pixels, weights, result = np.zeros((side, side)), np.zeros((side, 3)), np.zeros((tile, side))
    for k, point in enumerate(points):
        others = np.delete(points, k)
        pixels[k, :-1] = np.poly(others)[::-1]
        weights[k] = point ** np.arange(3) / np.prod(point - others)
        result[:, k] = point ** np.arange(tile)
    pixels[-1], weights[-1, 2], result[-1, -1] = np.poly(points)[::-1], 1, 1
    return torch.from_numpy(pixels), torch.from_numpy(weights), torch.from_numpy(result)


@cache
def _both_sides(tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """The same along both sides at once: (side^2, side^2), (side^2, 9), (tile^2, side^2)."""
    pixels, weights, result = (torch.kron(matrix, matrix) for matrix in _transforms(tile))
    return pixels, weights, result
