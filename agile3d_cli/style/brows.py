"""Pairs + exemplars -> pairs whose brows are of one colour, where the exemplars' are: inked ones are black.

A pale brow is hardly seen in a face, so no stylizer draws it black. Where brows are the base generator knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from skimage.draw import polygon2mask
from torch import Tensor

from agile3d_cli.avatar.traced import part_shares
from agile3d_cli.face.template import face_template
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.scores import style_gain
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.measure import landmarks
from agile3d_cli.style.score import head_features
from agile3d_cli.style.shards import Rows
from agile3d_cli.style.surfaces import Head

LEFT = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
"""Outline of the brow to the left of the picture, points of the face mesh."""
DARKEST = 0.4
"""Share of the pixels within these outlines that are brow."""
FEW = 3
"""Pictures with a face that tell."""
ONE_COLOUR = 0.01
"""Median distance from the median lightness, of 1, up to which brows are of one colour. Measured: inks 0.001, clay
0.03 to 0.05, flat and round cartoons 0.06 to 0.13."""
BROWS = PARTS.index("brows")
ROWS = slice(3 * BROWS, 3 * BROWS + 3)
"""Theirs of the palette."""
TRIED = 24
"""Pairs on which it is tried whether they look more like the exemplars."""


@dataclass(frozen=True)
class InkedRows:
    """Pictures whose brows are of one colour; what is kept in memory is where they are."""

    rows: Rows
    """(N, 3, S, S) in [-1, 1], without."""
    shares: Tensor
    """(N, 1, S, S) how much of each pixel is brow, half precision."""
    colour: Tensor
    """(3,) in [-1, 1]."""

    @property
    def shape(self) -> torch.Size:
        """As if all were one tensor."""
        return self.rows.shape

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, number: int) -> Tensor:
        row = self.rows[number]
        colour = self.colour[:, None, None].to(row).expand_as(row)
        return torch.lerp(row, colour, self.shares[number].to(row))


@torch.no_grad()
def with_inked_brows(
    pairs: Pairs, heads: Sequence[Head], generator: TriplaneGenerator, exemplars: Tensor
) -> tuple[Pairs, Tensor | None]:
    """The pairs as they are, or with brows of the exemplars' one colour (3,) in [0, 1], which is then told as well, if
    they look more like the exemplars for it.

    Args:
        pairs: stylized faces of ``generator``.
        heads: the pairs', traced.
        generator: the base, whose planes say where brows are.
        exemplars: (M, 3, S, S) in [-1, 1], as large as pictures are scored.
    """
    known = generator.config.parts == len(PARTS)
    colour = one_brow_colour(list(exemplars)) if known and len(pairs) > 1 else None
    if colour is None:
        return pairs, None
    size = pairs.stylized.shape[-1]
    shares = torch.stack([_brows_of(head, generator).reshape(1, size, size) for head in heads])
    inked = InkedRows(pairs.stylized, shares.half().cpu(), 2 * colour - 1)
    tried = range(min(TRIED, len(pairs)))
    before, after = (head_features(torch.stack([rows[k].float() for k in tried])) for rows in (pairs.stylized, inked))
    gain = style_gain(before, after, head_features(exemplars))
    # That brows are of one colour is measured; this guards against painting what is none.
    return (replace(pairs, stylized=inked), colour) if gain.value > 0 else (pairs, None)


def with_brows(generator: TriplaneGenerator, style: StyleDifference, colour: Tensor) -> StyleDifference:
    """The style with the palette's brows in one colour (3,) in [0, 1] on everybody; ``generator`` is the base."""
    layer, weights = generator.palette.layer, dict(style.weights)
    # The palette is affine in a person's traits, with a scaled bias.
    for name, before, aim in (("weight", layer.weight, 0.0), ("bias", layer.bias, colour.to(layer.bias) / layer.lr)):
        change = weights.get(f"palette.layer.{name}", torch.zeros_like(before)).clone()
        change[ROWS] = aim - before[ROWS]
        weights[f"palette.layer.{name}"] = change
    return replace(style, weights=weights)


def _brows_of(head: Head, generator: TriplaneGenerator) -> Tensor:
    """(P,) how much of each pixel of a head is brow."""
    planes = generator.backbone.planes([feature.to(head.ws) for feature in head.features], head.ws)
    found = part_shares(generator, planes, head.traced)[:, BROWS] * head.traced.alpha.to(head.ws)
    return found.clamp(0, 1)


def one_brow_colour(images: Sequence[Tensor]) -> Tensor | None:
    """The colour (3,) in [0, 1] of the brows of pictures (3, S, S) in [-1, 1]; None where they differ or are few."""
    found = [colour for image in images if (colour := brow_colour(image)) is not None]
    if len(found) < FEW:
        return None
    colours = torch.stack(found)
    light = colours.mean(1)
    apart = (light - light.median()).abs().median()
    return colours.median(0).values if float(apart) <= ONE_COLOUR else None


def brow_colour(image: Tensor) -> Tensor | None:
    """The colour (3,) in [0, 1] of the brows of one picture; None without a face."""
    points = landmarks(image)
    if points is None:
        return None
    size = image.shape[-1]
    inside = np.any([polygon2mask((size, size), outline[:, ::-1]) for outline in outlines(points, size)], 0)
    colours = (image[:, torch.from_numpy(inside)].T + 1) / 2
    if not len(colours):
        return None
    darkest = colours.mean(1).argsort()[: max(1, round(DARKEST * len(colours)))]
    return colours[darkest].mean(0)


def outlines(points: Tensor, size: int) -> list[np.ndarray]:
    """Both brows' outlines, (10, 2) pixels of a picture of ``size``, from landmarks (468, 2), fractions."""
    sides = np.array(LEFT), face_template().mirror[list(LEFT)]
    return [points.numpy()[side] * size - 0.5 for side in sides]
