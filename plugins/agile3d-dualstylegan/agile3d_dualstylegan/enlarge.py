"""Drawn pictures -> the size that was given, with edges made as steep as a larger picture's.

In: pictures of the generator's size. Out: larger or smaller ones. Enlarging alone leaves a drawing's outlines soft; a
shock filter lets each side of an edge grow to its middle, and leaves plain areas as they are.
Source: Osher and Rudin, "Feature-Oriented Image Enhancement Using Shock Filters" (1990), in the form of Kramer and
Bruckner (1975): each pixel becomes the lightest or the darkest near it, whichever is nearer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

STEEPER = 0.6
"""Share of the way to the steepened picture."""
REACH = 3
"""Edge of the square that is looked at for each doubling, pixels."""


def brought_to(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures (N, 3, h, w) as (N, 3, H, W)."""
    if images.shape[-2:] == size:
        return images
    if min(size) < min(images.shape[-2:]):
        return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    found = F.interpolate(images, size, mode="bicubic", align_corners=False)
    for _ in range(max(1, round(size[0] / images.shape[-2]) - 1)):
        found = torch.lerp(found, _steepened(found), STEEPER)
    return found


def _steepened(images: Tensor) -> Tensor:
    """Every pixel in the colour of the lightest or the darkest pixel near it, whichever its own lightness is nearer to;
    midway between them it stays."""
    pad = REACH // 2
    near = F.unfold(F.pad(images, (pad,) * 4, mode="replicate"), REACH)
    near = near.reshape(len(images), 3, REACH * REACH, *images.shape[-2:])
    light = near.mean(1)
    darkest, lightest = light.argmin(1, keepdim=True), light.argmax(1, keepdim=True)
    low, high = (light.gather(1, which) for which in (darkest, lightest))
    own = images.mean(1, keepdim=True)
    share = (own - low) / (high - low).clamp(min=1e-4)
    one, two = (near.gather(2, which[:, None].expand(-1, 3, -1, -1, -1))[:, :, 0] for which in (darkest, lightest))
    # Smooth, so that what lies midway does not flicker.
    pulled = (share - 0.5).mul(2).clamp(-1, 1)
    return torch.where(pulled > 0, images + pulled * (two - images), images - pulled * (one - images))
