"""The stylizer: exemplars -> LoRA of a diffusion model; face -> noise and back -> the same face in the style.

The base is the tiny one of this package, or a large one of the user's; each has its own file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_diffusion.config import TINY, DiffusionConfig

SMALLEST = 16
"""Least width of an exemplar, pixels."""


class Style(Protocol):
    """A style on one kind of base."""

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int) -> dict[str, Tensor]:
        """Learns from checked exemplars; what a file needs to hold."""
        ...

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Takes on what ``fit`` gave back once."""
        ...

    def draw(self, face: Tensor) -> Tensor:
        """One face (3, S, S) in [-1, 1] in the style, same shape."""
        ...


class DiffusionStylizer:
    """Redraws faces in the style of its exemplars; see ``agile3d_cli.stylizer.Stylizer`` for the contract."""

    def __init__(self, config: DiffusionConfig | None = None, state: dict[str, Tensor] | None = None) -> None:
        self.config = config or DiffusionConfig()
        self._state, self._style = state, None if state is None else self._open(fetch=False)
        if self._style is not None and state is not None:
            self._style.take(state)

    @property
    def licenses(self) -> tuple[LicenseNote, ...]:
        """Terms of the code, and of the base and the further models that the settings name."""
        from agile3d_diffusion import CODE, TINY_TERMS

        if self.config.base == TINY:
            return (CODE, TINY_TERMS)
        from agile3d_diffusion.terms import terms_of

        return (CODE, *terms_of(self.config))

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the style. Exemplars are aligned by the caller (``agile3d_cli.face.align``)."""
        if not exemplars:
            raise ConfigError("The diffusion stylizer was given no exemplars; give about 20 pictures of one style.")
        for picture in exemplars:
            if picture.ndim != 3 or picture.shape[0] != 3 or not picture.shape[1] == picture.shape[2] >= SMALLEST:
                raise ConfigError(f"An exemplar is (3, S, S) with S of {SMALLEST} or more, not {tuple(picture.shape)}.")
        style = self._open(fetch=True)
        self._state = style.fit([picture.detach().float() for picture in exemplars], faces, progress, seed)
        self._style = style
        progress("done", 1.0)

    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style; each picture on its own."""
        if self._style is None:
            raise ConfigError("The diffusion stylizer has learnt no style yet; call fit or load first.")
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ConfigError(f"stylize takes pictures (N, 3, S, S), not {tuple(images.shape)}.")
        if not len(images):
            return torch.zeros_like(images)
        with torch.no_grad():
            return torch.stack([self._style.draw(image.detach()) for image in images]).clamp(-1, 1).to(images)

    def save(self, path: Path) -> None:
        """Writes the style; see ``state.py``."""
        from agile3d_diffusion.state import write_stylizer

        if self._state is None:
            raise ConfigError("The diffusion stylizer has learnt no style yet; call fit or load first.")
        write_stylizer(path, self.config, self.licenses, self._state)

    def _open(self, fetch: bool) -> Style:
        """The base that the settings name; ``fetch`` allows the hub, for a user who has named it now."""
        if self.config.base == TINY:
            from agile3d_diffusion.tiny_style import TinyStyle

            return TinyStyle(self.config)
        from agile3d_diffusion.large_style import LargeStyle

        return LargeStyle(self.config, fetch)
