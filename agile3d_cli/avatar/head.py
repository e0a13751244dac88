"""The head: what every later stage may ask of an avatar, whoever provides it (a generator, or a formula in tests)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Rendering:
    """Pictures of a head with what lies behind them."""

    image: Tensor
    """(N, 3, H, W) in [-1, 1], already composited on a background."""
    alpha: Tensor
    """(N, 1, H, W) in [0, 1]."""
    depth: Tensor
    """(N, 1, H, W) world units along the ray, meaningless where alpha is 0."""


class Head(Protocol):
    """A head in the world of ``camera.py``. Inputs may lie on any device; results lie on the head's own."""

    def render(self, labels: Tensor, size: int, background: float = 1.0) -> Rendering:
        """Views at ``labels`` (N, 25), ``size`` pixels wide and high, on a ``background`` grey in [-1, 1]."""
        ...

    def field(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density (P,) >= 0 per world unit and sRGB colour (P, 3) in [0, 1] at ``points`` (P, 3) in world units."""
        ...

    @property
    def box(self) -> float:
        """Half-width of the cube around the origin that holds everything, world units."""
        ...
