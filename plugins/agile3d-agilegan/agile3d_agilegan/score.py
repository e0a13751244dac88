"""The measured score by which the training ends early: distance from the style, and how far layouts drifted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_agilegan.branches import Division
from agile3d_agilegan.codes import SMALL
from agile3d_agilegan.drawing import Drawing
from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.perceptual import style_features
from agile3d_cli.scores import style_distance

DRIFT = 1.0
"""How much a mean colour error of the layout, in [-1, 1], counts against the style distance."""
FACES = 12
"""Realistic faces that are drawn for a measurement."""


@dataclass(frozen=True)
class Score:
    """Of one state of the generator."""

    style: float
    """Style distance (``agile3d_cli.scores``) between drawn faces and the exemplars with their mirror images."""
    drift: float
    """Mean difference between how layouts differ from their mean in the style and how they differ unstylized."""

    @property
    def total(self) -> float:
        """Lower is better."""
        return self.style + DRIFT * self.drift


class StyleScore:
    """Draws the same realistic faces each time."""

    def __init__(self, prior: FlatPrior, exemplars: Tensor, faces: Tensor, division: Division):
        """``exemplars`` (M, 3, S, S); ``faces``: codes (K, groups, w_dim) of realistic faces."""
        chosen = faces[:FACES]
        self.styles, self.sides = prior.expected_styles(chosen), division.branch_of(chosen)
        self.wanted = style_features(torch.cat([exemplars, exemplars.flip(3)]))
        with torch.no_grad():
            self.before = resized(prior.generator(self.styles), SMALL)

    @torch.no_grad()
    def of(self, drawing: Drawing) -> Score:
        """The score of a generator."""
        drawn = [drawing(ws[None], int(side)).clamp(-1, 1) for ws, side in zip(self.styles, self.sides, strict=True)]
        features = torch.cat([style_features(picture) for picture in drawn])
        after = resized(torch.cat(drawn), SMALL)
        drift = ((after - after.mean(0)) - (self.before - self.before.mean(0))).abs().mean()
        return Score(style_distance(features, self.wanted, resamples=1).value, float(drift))
