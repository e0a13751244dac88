"""Drawings of a style -> the same with the exemplars' colours and contrasts, fine and coarse: the last touch.

A small generator that was taught for minutes draws softer and paler than its exemplars. How much, in each band of
detail, is known from what it draws of many faces; one gain for each band makes up for it, the same for every face.
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
LEAST, MOST = 0.8, 2.5
"""Bounds of a band's gain."""
FLATTEST, STRONGEST = 0.7, 1.5
"""Bounds of the gain of what is left below the bands: light, shade and colour."""
MIDDLE, RADII = (0.5, 0.45), (0.33, 0.38)
"""The head's region in the portrait framing, u and v: an ellipse within nearly every head and above the neck."""


@dataclass(frozen=True)
class Contrast:
    """What is done to every picture."""

    gains: Tensor
    """(BANDS + 1,) of the bands, finest first, and of what is left below."""
    colours: Tensor
    """(2, 3) mean colour of drawings and of exemplars, [-1, 1]."""

    def __call__(self, images: Tensor, share: float = 1.0) -> Tensor:
        """Pictures (N, 3, S, S) in [-1, 1], S a multiple of 2 ** BANDS, changed by a share from 0 to 1."""
        bands, gains = _bands(images), torch.lerp(torch.ones_like(self.gains), self.gains, share)
        before = self.colours[0]
        after = torch.lerp(before, self.colours[1], share)
        x = (bands[-1] - before[:, None, None]) * gains[-1] + after[:, None, None]
        for band, gain in zip(reversed(bands[:-1]), reversed(gains[:-1].unbind()), strict=True):
            x = _doubled(x) + gain * band
        return x.clamp(-1, 1)


@torch.no_grad()
def contrast_between(drawn: Tensor, exemplars: Tensor) -> Contrast:
    """What brings drawings (N, 3, S, S) of many faces, as a crowd, to the exemplars (M, 3, S, S)."""
    (own, mean), (theirs, wanted) = _statistics(drawn), _statistics(exemplars)
    gains = theirs / own.clamp(min=1e-4)
    bounded = [gains[:-1].clamp(LEAST, MOST), gains[-1:].clamp(FLATTEST, STRONGEST)]
    return Contrast(torch.cat(bounded), torch.stack([mean, wanted]))


def head_region(height: int, width: int) -> Tensor:
    """(1, 1, height, width): 1 in the head's region of a portrait, 0 elsewhere."""
    rows, columns = (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    away = ((u - MIDDLE[0]) / RADII[0]).square() + ((v - MIDDLE[1]) / RADII[1]).square()
    return (away < 1).float()[None, None]


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Deviation (BANDS + 1,) of each band, and mean colour (3,), in the head's region."""
    found, mean = [], images.new_zeros(3)
    for band in _bands(images):
        pixels = band.movedim(1, 0)[:, :, head_region(*band.shape[-2:])[0, 0] > 0].flatten(1)
        mean = pixels.mean(1)
        found.append((pixels - mean[:, None]).square().mean().sqrt())
    return torch.stack(found), mean


def _bands(images: Tensor) -> list[Tensor]:
    """The bands of pictures, finest first, each half the size of the one before, and what is left below."""
    found = []
    for _ in range(BANDS):
        half = F.avg_pool2d(images, 2)
        found.append(images - _doubled(half))
        images = half
    return [*found, images]


def _doubled(images: Tensor) -> Tensor:
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
