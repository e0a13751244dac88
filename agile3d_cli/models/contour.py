"""The line that a style draws around things: what is stored of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

NUMBERS, EARLIER = 6, 5
"""Numbers that a bundle stores of a contour, and that earlier ones did, which know no line along hair."""


@dataclass(frozen=True)
class Contour:
    """A line of one width and colour, drawn where a head ends, where one part of it hides another, and
    where hair ends on skin."""

    width: float
    """Share of the picture's edge, as a camera at the usual distance sees it."""
    opacity: float
    """0 to 1."""
    colour: tuple[float, float, float]
    """sRGB, each 0 to 1."""
    hair: float = 0.0
    """The same line where hair or headwear ends on a face: how opaque it is beside the other, 0 to 1."""

    def faded(self, share: float) -> Contour:
        """The same line, less opaque."""
        return replace(self, opacity=share * self.opacity)

    def tensor(self) -> Tensor:
        """(NUMBERS,) width, opacity, colour and hair."""
        return torch.tensor([self.width, self.opacity, *self.colour, self.hair])


def read_contour(numbers: Tensor) -> Contour | None:
    """A contour from ``Contour.tensor``; None where no line could have these numbers."""
    if numbers.shape not in ((NUMBERS,), (EARLIER,)) or not bool(((numbers >= 0) & (numbers <= 1)).all()):
        return None
    width, opacity, red, green, blue, *hair = numbers.tolist()
    return Contour(width, opacity, (red, green, blue), *hair)


def contour_between(first: Contour | None, second: Contour | None, weight: float) -> Contour | None:
    """The line that is ``weight`` of the way from one style's to another's; a style without one fades the other's."""
    if first is None or second is None:
        only = first or second
        return only and only.faded(weight if first is None else 1 - weight)
    return read_contour(torch.lerp(first.tensor(), second.tensor(), weight).clamp(0, 1))
