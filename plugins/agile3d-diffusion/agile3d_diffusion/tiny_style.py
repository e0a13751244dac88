"""The tiny base at work: exemplars -> its LoRA and a colour map; faces -> drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_diffusion import adapter
from agile3d_diffusion.colours import colour_map, recoloured
from agile3d_diffusion.config import DiffusionConfig
from agile3d_diffusion.detail import enlarge, resized
from agile3d_diffusion.learn import learn, small
from agile3d_diffusion.redraw import redraw
from agile3d_diffusion.tiny import read_tiny

COLOURS, LORA = "colours", "lora."
"""Names in a style's file."""


class TinyStyle:
    """A style of the tiny base; ``fit`` or ``take`` comes first."""

    def __init__(self, config: DiffusionConfig) -> None:
        self.config = config
        self._base = read_tiny()
        self._colours = torch.eye(3, 4)
        adapter.attach(self._base, config.rank)

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int) -> dict[str, Tensor]:
        """What a file needs to hold of the style."""
        progress("looking at realistic faces", 0.0)
        real = faces.sample(self.config.faces, torch.Generator().manual_seed(seed)).images
        shown, known = small(exemplars, self._base.size), small(list(real), self._base.size)
        mapping = colour_map(list(known), list(shown))
        adapter.restart(self._base, seed)
        learn(
            self._base,
            shown,
            recoloured(known, mapping),
            steps=self.config.fit_steps,
            batch=self.config.batch,
            rate=self.config.rate,
            prior_weight=self.config.prior,
            seed=seed,
            told=lambda share: progress("learning the style", 0.05 + 0.95 * share),
        )
        # Rounded before they are used, so that a style from its file draws exactly the same.
        weights = {LORA + name: value.half() for name, value in adapter.learnt(self._base).items()}
        state = {COLOURS: mapping, **weights}
        self.take(state)
        return state

    def take(self, state: Mapping[str, Tensor]) -> None:
        """Takes on a style; RefusedError where its tensors do not fit."""
        if COLOURS not in state or state[COLOURS].shape != (3, 4):
            raise RefusedError("The colours of this style are missing; fit the style again.")
        own = {name.removeprefix(LORA): value.float() for name, value in state.items() if name.startswith(LORA)}
        if len(own) + 1 != len(state):
            raise RefusedError("This style holds more than the tiny base knows; fit the style again.")
        adapter.take(self._base, own)
        self._colours = state[COLOURS].float()

    def draw(self, face: Tensor) -> Tensor:
        """One face (3, S, S) in [-1, 1] in the style, same shape."""
        c, base = self.config, self._base.to(face.device)
        moved = recoloured(face[None].float(), self._colours, c.color)
        drawing = redraw(base, resized(moved, base.size), c.strength, c.steps, c.structure)
        return enlarge(drawing, moved, c.detail)[0]
