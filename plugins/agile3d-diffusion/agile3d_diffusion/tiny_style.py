"""The tiny base at work: exemplars -> its LoRA, a colour map and their cut-outs; faces -> drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_diffusion import adapter
from agile3d_diffusion.collage import Cast
from agile3d_diffusion.colours import colour_map, recoloured
from agile3d_diffusion.config import DiffusionConfig
from agile3d_diffusion.detail import enlarge, resized
from agile3d_diffusion.learn import learn, small
from agile3d_diffusion.proportions import landmarks_of
from agile3d_diffusion.redraw import redraw
from agile3d_diffusion.tiny import read_tiny

COLOURS, LORA = "colours", "lora."
"""Names in a style's file."""
HELD = 0.9
"""How far the collage stays as it is where exemplars show: there the style is right already."""


class TinyStyle:
    """A style of the tiny base; ``fit`` or ``take`` comes first."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        self._base = read_tiny()
        self._colours = torch.eye(3, 4)
        self._cast: Cast | None = None
        adapter.attach(self._base, config.rank)

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int) -> dict[str, Tensor]:
        """What a file needs to hold of the style."""
        progress("looking at realistic faces", 0.0)
        real = faces.sample(self.config.faces, torch.Generator().manual_seed(seed)).images
        shown, known = small(exemplars, self._base.size), small(list(real), self._base.size)
        mapping = colour_map(list(known), list(shown))
        moved = recoloured(real.float(), mapping, self.config.color)
        self._cast = Cast.of(exemplars, list(moved))
        progress("learning the style", 0.05)
        adapter.restart(self._base, seed)
        learn(
            self._base,
            shown,
            small([self._prepared(face, one)[0] for face, one in zip(real, moved, strict=True)], self._base.size),
            steps=self.config.fit_steps,
            batch=self.config.batch,
            rate=self.config.rate,
            prior_weight=self.config.prior,
            seed=seed,
            told=lambda share: progress("learning the style", 0.05 + 0.95 * share),
        )
        # Rounded before they are used, so that a style from its file draws exactly the same.
        weights = {LORA + name: value.half() for name, value in adapter.learnt(self._base).items()}
        state = {COLOURS: mapping, **weights, **(self._cast.state if self._cast else {})}
        self.take(state)
        return state

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Takes on a style; RefusedError where its tensors do not fit."""
        if COLOURS not in state or state[COLOURS].shape != (3, 4):
            raise RefusedError("The colours of this style are missing; fit the style again.")
        own = {name.removeprefix(LORA): value.float() for name, value in state.items() if name.startswith(LORA)}
        rest = {name: value for name, value in state.items() if name != COLOURS and not name.startswith(LORA)}
        try:
            self._cast = Cast.from_state(rest) if rest else None
        except ValueError as error:
            raise RefusedError(f"The cut-outs of this style do not fit: {error}; fit the style again.") from error
        adapter.take(self._base, own)
        self._colours = state[COLOURS].float()

    def draw(self, face: Tensor) -> Tensor:
        """One face (3, S, S) in [-1, 1] in the style, same shape."""
        c, base = self.config, self._base.to(face.device)
        moved = recoloured(face[None].float(), self._colours, c.color)
        picture, pasted = self._prepared(face, moved[0])
        small_picture, held = resized(picture[None], base.size), HELD * resized(pasted[None], base.size)
        drawing = redraw(base, small_picture, c.strength, c.steps, c.structure, held.clamp(0, 1))
        return enlarge(drawing, picture[None], c.detail)[0]

    def _prepared(self, face: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
        """The collage of a face in its own and in the style's colours (3, S, S); without landmarks the latter alone."""
        landmarks = landmarks_of(face) if self._cast else None
        if self._cast is None or landmarks is None:
            return moved, torch.zeros_like(moved[:1])
        return self._cast.collage(moved, landmarks, self.config.shape, self.config.features)
