"""When a transfer has learnt what it can: people as drawn so far, looked at from time to time.

The style distance decides, not the loss, which goes on falling while a style looks the same: a long transfer ends where
over a fifth of its planned steps its people have come nearer to the exemplars by no more than chance. Learning rates
then fall to their end within a tenth of the plan, as they would have at its end, for colours settle while they fall.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agile3d_cli.scores import style_gain
from agile3d_cli.style.losses import Guided
from agile3d_cli.style.score import head_features
from agile3d_cli.style.together import Together

PEOPLE = 16
"""Pairs' people that are looked at."""
LOOKS, LATELY, SETTLING = 20, 4, 0.1
"""Looks in the planned steps, how many of them a gain may take, and the share of the plan in which rates fall where
there was none."""
LAST = 0.05
"""Factor on the learning rates at the end."""


@dataclass(frozen=True)
class Watch:
    """What was seen of a transfer so far. It changes with every look, and is a part of the saved state."""

    steps: int
    """The plan."""
    wanted: Tensor | None = None
    """(M, D) style features of the exemplars; None: the plan is the length."""
    looks: Tensor | None = None
    """(L, PEOPLE, D) style features of people, oldest first."""
    stopped: int | None = None
    """Step from which on learning rates fall to their end."""

    @property
    def end(self) -> int:
        """Number of steps in all."""
        return self.steps if self.stopped is None else self.stopped + round(SETTLING * self.steps)

    def pace(self, step: int) -> float:
        """Factor on the learning rates: it rises over 20 steps, then falls in a line."""
        planned = 1 - (1 - LAST) * (step if self.stopped is None else self.stopped) / self.steps
        if self.stopped is not None:
            planned += (LAST - planned) * (step - self.stopped) / (self.end - self.stopped)
        return min(1.0, (step + 1) / 20) * planned

    def look(self, step: int, guidance: Guided, together: Together) -> Watch:
        """After so many steps: a look at people, if it is time for one."""
        if self.wanted is None or self.stopped is not None or step % max(1, self.steps // LOOKS):
            return self
        people = range(min(PEOPLE, len(guidance.pairs)))
        seen = head_features(torch.stack([guidance.picture(k) for k in people]))[None]
        looks = seen if self.looks is None else torch.cat([self.looks, seen])
        settled = len(looks) > LATELY and style_gain(looks[-1 - LATELY], looks[-1], self.wanted).low <= 0
        # All processes have to stop at the same step, whatever the last bits of their features.
        said = torch.tensor([float(settled and together.first)], device=together.device)
        together.add_up([said])
        late = step + round(SETTLING * self.steps) >= self.steps
        return replace(self, looks=looks, stopped=step if said.item() > 0 and not late else None)

    def tensors(self) -> dict[str, Tensor]:
        """The part that a saved state keeps."""
        kept = {} if self.looks is None else {"looks": self.looks}
        return kept if self.stopped is None else kept | {"stopped": torch.tensor(self.stopped)}

    def resumed(self, tensors: Mapping[str, Tensor]) -> Watch:
        """The same with what a saved state kept."""
        stopped = tensors.get("stopped")
        return replace(self, looks=tensors.get("looks"), stopped=None if stopped is None else int(stopped))
