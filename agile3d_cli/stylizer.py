"""What a 2D stylizer is: the protocol that plugins fulfil and the light description by which they are listed.

A stylizer learns from about 20 exemplars how a real face looks in their style, and then redraws faces in it without
moving them: the head pose, and so the camera, stays. This file imports no torch, so listing stylizers is quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from agile3d_cli.errors import ConfigError
from agile3d_cli.licenses import LicenseNote

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Progress = Callable[[str, float], None]
"""Called as ``progress(stage, fraction)`` with a few words and a number in [0, 1]; may raise to stop the work."""


@dataclass(frozen=True)
class FaceBatch:
    """Realistic faces with what is known about them."""

    images: Tensor
    """(N, 3, H, W) in [-1, 1], at EG3D framing."""
    labels: Tensor
    """(N, 25) exact camera of each picture, see ``camera.py``."""
    landmarks: Tensor
    """(N, 468, 3) face mesh as fractions of the picture: u right, v down, z in the same unit, smaller is nearer."""


class FaceSampler(Protocol):
    """A source of realistic faces: the base generator at sampled cameras."""

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        """``count`` faces; the same state of ``generator`` gives the same faces."""
        ...


class Stylizer(Protocol):
    """Redraws faces in the style of its exemplars. Device and dtype follow the inputs."""

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the style.

        Args:
            exemplars: each (3, S, S) in [-1, 1], aligned at EG3D framing; sizes may differ. Usually 20 to 30,
                at least 1.
            faces: realistic faces to learn the real side from.
            progress: told how far the work is.
            seed: all chance comes from it; the same inputs and seed give the same stylizer on CPU.

        Raises:
            ConfigError: no exemplars, or pictures of a wrong shape.
        """
        ...

    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style.

        Args:
            images: (N, 3, H, W) in [-1, 1], at EG3D framing, any H = W from 64 up, N >= 0.

        Returns:
            Same shape, in [-1, 1]. The head pose is kept. Deterministic, and each picture's result is independent of
            the others in the batch.

        Raises:
            ConfigError: called before ``fit`` or ``load``, or with a wrong shape.
        """
        ...

    def save(self, path: Path) -> None:
        """Writes everything ``load`` needs into one safetensors file; the same state gives the same bytes."""
        ...


@runtime_checkable
class KnowsShape(Protocol):
    """A stylizer that also knows how its style moves a face; without it that is measured on what it draws."""

    @property
    def shape_shift(self) -> Tensor:
        """(468, 3) of each landmark, in eye distances, mirror-symmetric.

        Convention: the standard face's frame: x towards the picture's right, y up, z towards the viewer.
        """
        ...


@runtime_checkable
class DrawsFeatures(Protocol):
    """A stylizer whose styles may have eyes and mouths of their own making, the same for everybody."""

    @property
    def features_drawn(self) -> float:
        """How far these are drawn in place of the sitter's, 0 to 1."""
        ...


@dataclass(frozen=True)
class StylizerDescription:
    """What a plugin says about a stylizer before anything heavy is imported."""

    name: str
    """What users type after ``--stylizer``: lower-case letters, digits and dashes."""
    summary: str
    """One line."""
    config: type
    """Frozen dataclass of the stylizer's settings; every field has a default. Importing it must not import torch."""
    build: Callable[[Any], Stylizer]
    """Makes an unfitted stylizer from an instance of ``config``; heavy imports happen here."""
    load: Callable[[Path], Stylizer]
    """Reads what ``save`` wrote. Raises RefusedError for a file that is corrupt or not its own."""
    licenses: tuple[LicenseNote, ...]
    """Terms of the code and of every weight that the stylizer ships or expects."""
    origin: str = ""
    """The paper or project that it follows."""
    seconds: tuple[float, float] | None = None
    """About how long ``fit`` and one picture of 192 pixels take on two cores, as measured; for the plan that users ask
    for with ``--dry-run``. None where nobody measured it."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", self.name):
            raise ConfigError(f"Stylizer name {self.name!r}: use lower-case letters, digits and dashes.")
        if not (isinstance(self.config, type) and is_dataclass(self.config)):
            raise ConfigError(f"Stylizer {self.name}: config must be a dataclass, not {self.config!r}.")
        if not self.licenses:
            raise ConfigError(f"Stylizer {self.name}: licenses is empty; state the terms of its code and weights.")
