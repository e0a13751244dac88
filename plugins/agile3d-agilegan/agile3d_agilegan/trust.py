"""Whether a picture shows a face that the prior can draw: how far its layout is from what its own code draws.

What the prior cannot draw is no portrait, and gets the style's colours only instead of a stranger's face.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_agilegan.codes import SMALL
from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized

SURE, LOST = 2.0, 3.0
"""Errors, in units of the worst realistic face's, up to which a face is trusted and from which on it is none."""
LEAST_ERROR = 0.1
"""The unit is at least this."""


@torch.no_grad()
def layout_error(prior: FlatPrior, images: Tensor, codes: Tensor) -> Tensor:
    """(N,) mean colour error of layouts between pictures and what the prior draws at codes (N, groups, w_dim)."""
    drawn = prior.generator(prior.expected_styles(codes))
    return (resized(drawn, SMALL) - resized(images, SMALL)).abs().mean((1, 2, 3))


def known_error(prior: FlatPrior, faces: Tensor, codes: Tensor) -> float:
    """The unit: the worst error of realistic faces (N, 3, S, S) with their codes."""
    errors = [layout_error(prior, faces[k : k + 1], codes[k : k + 1]) for k in range(len(faces))]
    return max(LEAST_ERROR, float(torch.cat(errors).max()))


def trust(error: float, unit: float) -> float:
    """1 for a face, 0 for anything else, and a slope in between."""
    return min(max((LOST - error / unit) / (LOST - SURE), 0.0), 1.0)


def palette_of(pictures: Tensor) -> Tensor:
    """Mean and deviation of each channel (2, 3) of pictures (N, 3, S, S)."""
    return torch.stack([pictures.mean((0, 2, 3)), pictures.std((0, 2, 3))])


def in_palette(image: Tensor, palette: Tensor) -> Tensor:
    """A picture (1, 3, S, S) with its channels' mean and deviation moved to the palette's."""
    mean, spread = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True) + 1e-3
    wanted_mean, wanted_spread = palette[:, None, :, None, None]
    return ((image - mean) / spread * wanted_spread + wanted_mean).clamp(-1, 1)
