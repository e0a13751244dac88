"""Exemplars -> the realistic faces behind them: facial destylization, the first stage of the fit.

In: exemplars and the prior. Out: for each an extrinsic code, which holds all of the exemplar that the prior can draw,
the face that it draws, and that face's intrinsic code.
Source: Yang et al. (CVPR 2022), section 3.1. There the code is also followed by a generator that was fine-tuned to the
style; here by the prior alone, whose codes are named, so that few steps near what the encoder tells are enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.perceptual import features
from agile3d_cli.stylizer import Progress
from agile3d_dualstylegan.losses import differing
from agile3d_dualstylegan.pairs import intrinsic

SIZE = 64
"""Edge of the pictures that are compared, pixels."""
RATE = 0.08
"""Adam's, in standard deviations of a code."""
COLOUR_WEIGHT, FEATURES_WEIGHT, TOLD_WEIGHT, SPREAD_WEIGHT = 1.0, 0.3, 0.05, 0.05
"""Of mean colour error, of Lite0 feature distance, of the squared way from what the encoder tells, and of the spread
of a code over its rows, by which the paper keeps codes near those of whole faces."""


@dataclass(frozen=True)
class Destylized:
    """Exemplars taken apart; E exemplars."""

    extrinsic: Tensor
    """(E, num_ws, w_dim) Z+."""
    faces: Tensor
    """(E, 3, size, size) in [-1, 1]: what the prior draws of them."""
    intrinsic: Tensor
    """(E, num_ws, w_dim) Z+, of the faces."""


def destylize(prior: FlatPrior, exemplars: Tensor, steps: int, progress: Progress) -> Destylized:
    """Destylizes exemplars (E, 3, S, S) in [-1, 1], all at once, by Adam."""
    generator, encoder = prior.generator, prior.encoder
    size = min(SIZE, generator.config.size)
    told = prior.codes(exemplars)
    wanted = resized(exemplars, size)
    aims = features(wanted)
    codes = told.clone().requires_grad_(True)
    adam = torch.optim.Adam([codes], RATE, (0.9, 0.99))
    for step in range(steps):
        progress("looking for the faces behind the exemplars", step / steps)
        drawn = generator(prior.expected_styles(codes), size=size)
        # Sums over exemplars: none waits for the others.
        loss = COLOUR_WEIGHT * (drawn - wanted).abs().mean((1, 2, 3)).sum()
        loss = loss + FEATURES_WEIGHT * differing(features(drawn), aims).sum()
        loss = loss + TOLD_WEIGHT * (codes - told).square().mean((1, 2)).sum()
        loss = loss + SPREAD_WEIGHT * (codes - codes.mean(1, keepdim=True)).square().mean((1, 2)).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        faces = generator(prior.expected_styles(codes)).clamp(-1, 1)
        return Destylized(encoder.styles(codes.detach()), faces, intrinsic(prior, faces))
