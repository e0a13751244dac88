"""A learnt style and its exemplars -> what pairs cannot teach, tried and kept where people then look more like them.

Tried are brows of one colour, where the exemplars' are (see ``brows.py``), and in styles that draw a line around heads
the same line along hair: it cannot be measured as one along the rim can, for among locks and shades nothing tells it
from them. Each is drawn on people of the generator, and kept where the style distance to the exemplars falls by more
than chance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.measure import SIZE
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.scores import style_gain
from agile3d_cli.style.brows import one_brow_colour
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.contours import contour_of
from agile3d_cli.style.exemplars import ExemplarSet, as_batch
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.people import people_in
from agile3d_cli.style.score import PEOPLE, head_features
from agile3d_cli.stylizer import Progress

STAGE = "finishing the style"
BROW = slice(3 * PARTS.index("brows"), 3 * PARTS.index("brows") + 3)
"""Rows of the palette."""


@torch.no_grad()
def finished(
    base: BaseModel, learnt: StyleDifference, exemplars: ExemplarSet, config: TransferConfig, progress: Progress
) -> StyleDifference:
    """The style with its exemplars' lines and brows, as far as ``config`` has them."""
    pictures = as_batch(exemplars, SIZE)
    style = replace(learnt, contour=contour_of(exemplars.images) if config.contour else None)
    if len(pictures) < 2 or not base.generator.config.parts:
        return style
    brows = one_brow_colour(list(pictures)) if config.brows else None
    tries: list[Callable[[StyleDifference], StyleDifference]] = []
    if brows is not None:
        tries.append(lambda style: with_brows(base.generator, style, brows))
    if style.contour is not None:
        tries.append(with_hairline)
    return _nearer(base, style, tries, head_features(pictures), progress) if tries else style


def _nearer(
    base: BaseModel,
    style: StyleDifference,
    tries: Sequence[Callable[[StyleDifference], StyleDifference]],
    wanted: Tensor,
    progress: Progress,
) -> StyleDifference:
    """The style with those changes after which its people are nearer to style features (M, D)."""
    before = _looks(base, style)
    for number, change in enumerate(tries):
        progress(STAGE, number / len(tries))
        changed = change(style)
        after = _looks(base, changed)
        if style_gain(before, after, wanted).low > 0:
            style, before = changed, after
    progress(STAGE, 1.0)
    return style


def with_brows(generator: TriplaneGenerator, style: StyleDifference, colour: Tensor) -> StyleDifference:
    """The style with all brows in one colour (3,) in [0, 1]; ``generator`` is the base."""
    layer, weights = generator.palette.layer, dict(style.weights)
    # The palette is affine in a person's traits, with a scaled bias.
    for name, before, aim in (("weight", layer.weight, 0.0), ("bias", layer.bias, colour.to(layer.bias) / layer.lr)):
        change = weights.get(f"palette.layer.{name}", torch.zeros_like(before)).clone()
        change[BROW] = aim - before[BROW]
        weights[f"palette.layer.{name}"] = change
    return replace(style, weights=weights)


def with_hairline(style: StyleDifference) -> StyleDifference:
    """The style with its line along hair too."""
    assert style.contour is not None, "a style without a line has none along hair"
    return replace(style, contour=replace(style.contour, hair=1.0))


def _looks(base: BaseModel, style: StyleDifference) -> Tensor:
    """Style features (PEOPLE, D) of people's fronts."""
    label = camera.portrait_label()[None]
    fronts = [styled.render(label, SIZE, BACKGROUND).image.cpu() for _, styled in people_in(base, style, PEOPLE)]
    return head_features(torch.cat(fronts))
