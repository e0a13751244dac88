"""Drawings of a style -> the same with the exemplars' colours and contrasts, fine and coarse: the last touch.

A small generator that was taught for minutes draws softer and paler than its exemplars. How much, in each band of
detail, is known from what it draws of many faces; gains for each band, of light and shade and of what is beside them,
make up for it, the same for every face. One gain for both would give soft drawings fringes of colours that nothing has.
Source: the statistics of bands after Heeger and Bergen, "Pyramid-Based Texture Analysis/Synthesis" (SIGGRAPH 1995),
with the pyramid of Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code" (1983).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BANDS = 4
"""Halvings, each of which sets a band of detail apart."""
LEAST, MOST = (0.8, 0.2), (2.5, 1.5)
"""Bounds of a band's gains, of its lightness and of its colour: fine colour is mostly noise of the generator's."""
FLATTEST, STRONGEST = 0.7, 1.5
"""Bounds of the gains of what is left below the bands."""
MIDDLE, RADII = (0.5, 0.45), (0.33, 0.38)
"""The head's region in the portrait framing, u and v: an ellipse within nearly every head and above the neck."""


@dataclass(frozen=True)
class Contrast:
    """What is done to every picture."""

    gains: Tensor
    """(2, BANDS + 1) of the bands, finest first, and of what is left below: of lightness, and of colour beside it."""
    colours: Tensor
    """(2, 3) mean colour of drawings and of exemplars, [-1, 1]."""

    def __call__(self, images: Tensor, share: float = 1.0) -> Tensor:
        """Pictures (N, 3, S, S) in [-1, 1], S a multiple of 2 ** BANDS, changed by a share from 0 to 1."""
        bands, gains = _bands(images), torch.lerp(torch.ones_like(self.gains), self.gains, share)
        before = self.colours[0]
        after = torch.lerp(before, self.colours[1], share)
        x = _gained(bands[-1] - before[:, None, None], gains[:, -1]) + after[:, None, None]
        for band, gain in zip(reversed(bands[:-1]), reversed(gains[:, :-1].unbind(1)), strict=True):
            x = _doubled(x) + _gained(band, gain)
        return x.clamp(-1, 1)


@torch.no_grad()
def contrast_between(drawn: Tensor, exemplars: Tensor) -> Contrast:
    """What brings drawings (N, 3, S, S) of many faces, as a crowd, to the exemplars (M, 3, S, S)."""
    (own, mean), (theirs, wanted) = _statistics(drawn), _statistics(exemplars)
    gains = theirs / own.clamp(min=1e-4)
    least, most = gains.new_tensor(LEAST)[:, None], gains.new_tensor(MOST)[:, None]
    bounded = [gains[:, :-1].clamp(least, most), gains[:, -1:].clamp(FLATTEST, STRONGEST)]
    return Contrast(torch.cat(bounded, 1), torch.stack([mean, wanted]))


def head_region(height: int, width: int) -> Tensor:
    """(1, 1, height, width): 1 in the head's region of a portrait, 0 elsewhere."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    away = ((u - MIDDLE[0]) / RADII[0]).square() + ((v - MIDDLE[1]) / RADII[1]).square()
    return (away < 1).float()[None, None]


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations (2, BANDS + 1) of lightness and of colour in each band, and mean colour (3,), in the head's region."""
    found, mean = [], images.new_zeros(3)
    for band in _bands(images):
        pixels = band.movedim(1, 0)[:, :, head_region(*band.shape[-2:])[0, 0] > 0].flatten(1)
        mean = pixels.mean(1)
        off = pixels - mean[:, None]
        light = off.mean(0)
        found.append(torch.stack([each.square().mean().sqrt() for each in (light, off - light)]))
    return torch.stack(found, 1), mean


def _bands(images: Tensor) -> list[Tensor]:
    """The bands of pictures, finest first, each half the size of the one before, and what is left below."""
    found = []
    for _ in range(BANDS):
        half = F.avg_pool2d(images, 2)
        found.append(images - _doubled(half))
        images = half
    return [*found, images]


def _gained(band: Tensor, gains: Tensor) -> Tensor:
    """A band (N, 3, H, W) with gains (2,) on its lightness and on its colour beside that."""
    light = band.mean(1, keepdim=True)
    return gains[0] * light + gains[1] * (band - light)


def _doubled(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
