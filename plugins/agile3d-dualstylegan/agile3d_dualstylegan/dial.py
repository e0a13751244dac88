"""What a user sets of DualStyleGAN: how much of the exemplar each layer takes, and whose colours are kept.

A dial is one weight for each style of the generator, 18 for 1024 pixels: 0 leaves the layer to the face, 1 gives it to
the exemplar. The first ``STRUCTURE`` weights bend shapes, the others set colours.
Source: Yang et al., "Pastiche Master" (CVPR 2022), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STRUCTURE = 7
"""Weights of a dial for structure: layers up to 32 pixels."""
STYLES = 18
"""Weights of a dial for 1024 pixels."""
SCRIPT_STRUCTURE, SCRIPT_COLOR = 0.75, 1.0
"""What the published scripts set unless they are told otherwise."""
SCRIPT_TRUNCATION = 0.75
"""By which the published scripts draw the face's styles towards zero (not towards their average)."""


def dial(structure: float = SCRIPT_STRUCTURE, color: float = SCRIPT_COLOR, styles: int = STYLES) -> tuple[float, ...]:
    """A dial with one weight for all structure and one for all colours."""
    return (structure,) * STRUCTURE + (color,) * (styles - STRUCTURE)


def fused(weights: Sequence[float], index: int) -> tuple[float, ...]:
    """A dial that takes the exemplar only up to style ``index``; 0 takes nothing of it, not even the first style."""
    return tuple(weight if index > 0 and style <= index else 0.0 for style, weight in enumerate(weights))


def keeping_color(exemplar: Tensor, face: Tensor) -> Tensor:
    """Exemplar codes (N or 1, styles, w_dim) with the face's in the rows of colours: its shapes, the face's colours.

    Codes of both are of one kind. The published scripts do this in Z+ where the encoder gives Z+, before mapping.
    """
    count = max(len(exemplar), len(face))
    rows = exemplar[:, :STRUCTURE], face[:, STRUCTURE:]
    return torch.cat([part.expand(count, -1, -1) for part in rows], 1)
