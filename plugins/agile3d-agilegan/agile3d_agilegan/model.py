"""What fitting finds out, as one value, and how a face is drawn with it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from agile3d_agilegan.branches import Division
from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.drawing import Drawing, dialled
from agile3d_agilegan.official import Official
from agile3d_agilegan.score import Score
from agile3d_agilegan.trust import in_palette, layout_error, trust
from agile3d_cli.models.contrast import Contrast
from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class LearntStyle:
    """A style: the prior that it started from, and what became of its generator."""

    prior: FlatPrior
    drawing: Drawing | Official
    """Learnt from exemplars, or published."""
    contrast: Contrast | None
    """Brings what was learnt to the exemplars' colours and contrasts; None for a published style."""
    division: Division
    palette: Tensor
    """(2, 3) mean and deviation of the exemplars' channels."""
    error: float
    """Layout error of the worst realistic face, see ``trust.py``."""
    score: Score | None
    """None for a published style."""
    steps: int
    """Steps of the training after which it was best; 0 for a published style."""

    def rounded(self) -> LearntStyle:
        """As it comes back from its file."""
        prior = FlatPrior(_rounded(self.prior.generator), _rounded(self.prior.encoder))
        drawing, palette = _rounded(self.drawing), self.palette.float()
        return LearntStyle(prior, drawing, self.contrast, self.division, palette, self.error, self.score, self.steps)


class Painter:
    """Draws faces in a style under given dials."""

    def __init__(self, style: LearntStyle, config: AgileganConfig):
        self.style, self.config = style, config
        learnt = style.drawing
        self.drawing = (
            dialled(style.prior.generator, learnt, config)
            if isinstance(learnt, Drawing)
            else learnt.requires_grad_(False)
        )

    @torch.no_grad()
    def paint(self, image: Tensor) -> Tensor:
        """One picture (1, 3, S, S) in [-1, 1], the face in the style."""
        style = self.style
        code = style.prior.codes(image)
        sure = trust(float(layout_error(style.prior, image, code)), style.error)
        if not sure:
            return in_palette(image, style.palette)
        seen = image if isinstance(self.drawing, Official) else style.prior.expected_styles(code)
        drawn = self.drawing(seen, self.branch(code)).clamp(-1, 1)
        if style.contrast:
            drawn = style.contrast(drawn, min(self.config.fine, 1.0))
        drawn = at_size(drawn, image.shape[-1])
        return drawn if sure == 1 else torch.lerp(in_palette(image, style.palette), drawn, sure)

    def branch(self, code: Tensor) -> int:
        """The branch for a face's code (1, groups, w_dim)."""
        if self.config.branch >= 0:
            return min(self.config.branch, self.style.division.count - 1)
        return int(self.style.division.branch_of(code))


def at_size(images: Tensor, size: int) -> Tensor:
    """Pictures (N, 3, S, S) as (N, 3, size, size) in [-1, 1]."""
    if images.shape[-1] >= size:
        return resized(images, size)
    return nn.functional.interpolate(images, (size, size), mode="bicubic", align_corners=False).clamp(-1, 1)


def _rounded(network: M) -> M:
    """A copy whose numbers fit half precision."""
    made = copy.deepcopy(network)
    for value in (*made.parameters(), *made.buffers()):
        value.data.copy_(value.data.half().float())
    return made.eval().requires_grad_(False)
