"""A learnt style and its exemplars -> the lines they draw, which follow the view and so cannot be learnt from pairs.

The line around heads is measured on the exemplars. The same line along hair cannot be, for among locks and shades
nothing tells it from them: it is drawn on people of the generator, and kept where the style distance to the exemplars
falls by more than chance.
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


@torch.no_grad()
def finished(
    base: BaseModel, learnt: StyleDifference, exemplars: ExemplarSet, config: TransferConfig, progress: Progress
) -> StyleDifference:
    """The style with its exemplars' lines, as far as ``config`` has them."""
    # An imported generator's views are shown as it makes them.
    lined = config.contour and not base.imported
    style = replace(learnt, contour=contour_of(exemplars.images) if lined else None)
    pictures = as_batch(exemplars, SIZE)
    if style.contour is None or len(pictures) < 2 or not base.generator.config.parts:
        return style
    progress(STAGE, 0.0)
    tried = with_hairline(style)
    before, after = _looks(base, style), _looks(base, tried)
    progress(STAGE, 1.0)
    return tried if style_gain(before, after, head_features(pictures)).low > 0 else style


def with_hairline(style: StyleDifference) -> StyleDifference:
    """The style with its line along hair too."""
    assert style.contour is not None, "a style without a line has none along hair"
    return replace(style, contour=replace(style.contour, hair=1.0))


def _looks(base: BaseModel, style: StyleDifference) -> Tensor:
    """Style features (PEOPLE, D) of people's fronts."""
    label = camera.portrait_label()[None]
    fronts = [styled.render(label, SIZE, BACKGROUND).image.cpu() for _, styled in people_in(base, style, PEOPLE)]
    return head_features(torch.cat(fronts))
