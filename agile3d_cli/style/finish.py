"""A learnt style and its exemplars -> lines, which follow the view and so cannot be learnt from pairs, and light.

The line around heads is measured on the exemplars. The same line along hair cannot be, for among locks and shades
nothing tells it from them: it is drawn on people of the generator, and kept where the style distance to the exemplars
falls by more than chance. So is the light that models heads: exemplars are lit from here and there, and what is learnt
from all of them is flat.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.measure import SIZE
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.scores import style_gain
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.contours import contour_of
from agile3d_cli.style.exemplars import ExemplarSet, as_batch
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.people import people_in
from agile3d_cli.style.score import PEOPLE, head_features
from agile3d_cli.stylizer import Progress

STAGE = "finishing the style"
LIGHTS = 0.2, 0.4
"""Strengths of light that are tried: light costs likeness, so no more is taken than looks clearly more like the
exemplars."""


@torch.no_grad()
def finished(
    base: BaseModel, learnt: StyleDifference, exemplars: ExemplarSet, config: TransferConfig, progress: Progress
) -> StyleDifference:
    """The style with its exemplars' lines and light, as far as ``config`` has them."""
    # An imported generator's views are shown as it makes them.
    if base.imported:
        return learnt
    style = replace(learnt, contour=contour_of(exemplars.images) if config.contour else None)
    hair = style.contour is not None and base.generator.config.parts > 0
    pictures = as_batch(exemplars, SIZE)
    if len(pictures) < 2 or not (hair or config.light):
        return style
    progress(STAGE, 0.0)
    wanted, looks = head_features(pictures), _looks(base, style)
    if hair:
        style, looks = _nearest(base, style, looks, [with_hairline(style)], wanted)
    progress(STAGE, 0.5)
    if config.light:
        style, _ = _nearest(base, style, looks, [replace(style, light=light) for light in LIGHTS], wanted)
    progress(STAGE, 1.0)
    return style


def _nearest(
    base: BaseModel, style: StyleDifference, looks: Tensor, tries: list[StyleDifference], wanted: Tensor
) -> tuple[StyleDifference, Tensor]:
    """The last of ``tries`` up to which each is nearer to the look ``wanted`` (M, D) than the one before by more than
    chance, and how it looks; ``style`` itself, which looks as ``looks`` says, where the first is not."""
    for tried in tries:
        seen = _looks(base, tried)
        if style_gain(looks, seen, wanted).low <= 0:
            break
        style, looks = tried, seen
    return style, looks


def with_hairline(style: StyleDifference) -> StyleDifference:
    """The style with its line along hair too."""
    assert style.contour is not None, "a style without a line has none along hair"
    return replace(style, contour=replace(style.contour, hair=1.0))


def _looks(base: BaseModel, style: StyleDifference) -> Tensor:
    """Style features (PEOPLE, D) of people's fronts."""
    label = camera.portrait_label()[None]
    fronts = [styled.render(label, SIZE, BACKGROUND).image.cpu() for _, styled in people_in(base, style, PEOPLE)]
    return head_features(torch.cat(fronts))
