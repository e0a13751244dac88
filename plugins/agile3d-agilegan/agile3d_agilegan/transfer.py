"""Exemplars with their codes, and random codes -> the stylized generator: inversion-consistent transfer learning.

Source: Song et al., "AgileGAN" (SIGGRAPH 2021), section 5. A copy of the prior's generator learns to redraw each
exemplar at codes drawn from the exemplar's own normal distribution, and to draw at all other codes what a critic takes
for the style. What keeps faces apart from each other stays as it was; see ``_layout``. Training ends early when the
measured score gets no better, and the best averaged weights are kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_agilegan.codes import SMALL, Codes
from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.drawing import Drawing, started_from
from agile3d_agilegan.score import Score, StyleScore
from agile3d_cli.models.augmentation import AdaptiveAugmentation, AugmentationConfig
from agile3d_cli.models.critic import Critic, certainty, critic_loss, drawing_loss
from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.moments import CrowdDistance
from agile3d_cli.models.perceptual import unit_features

LOOKED = 128
"""Edge of what networks look at, pixels: small pictures whole, large ones whole at this size or a square of them."""
FEATURES = 0.15
"""Of the Lite0 feature distance of a redrawn exemplar, against its mean colour error."""
DECAY = 0.98
"""Of the averaged weights."""
FOLLOW = 0.1
"""Share of a new batch in the running mean of layouts."""
BETAS = (0.0, 0.99)
LAST = 0.1
"""Share of the rate at the last step."""
AT_ONCE = 8
"""Pictures handled at a time where nothing is learnt."""
TELLING = 0.15
"""Mean colour difference of layouts up to which pictures of half the size tell what whole ones show."""
STRIDE = 7919
"""Sets the seeds of several critics apart."""


@dataclass(frozen=True)
class Material:
    """What is learnt from."""

    exemplars: Tensor
    """(M, 3, S, S) in [-1, 1], S twice the prior's size."""
    codes: Codes
    """Of the exemplars."""
    sides: Tensor
    """(M,) the exemplars' branches."""
    pool: Tensor
    """(P, groups, w_dim) codes of others."""
    pool_sides: Tensor
    """(P,) their branches."""


@dataclass(frozen=True)
class Outcome:
    """What the training ends with."""

    drawing: Drawing
    score: Score
    """Of the weights that are kept."""
    steps: int
    """That were taken."""


class Transfer:
    """One training. All chance comes from the seed."""

    def __init__(self, prior: FlatPrior, material: Material, score: StyleScore, config: AgileganConfig, seed: int):
        self.prior, self.material, self.score, self.config = prior, material, score, config
        self.count = int(material.sides.max()) + 1
        self.rng = torch.Generator().manual_seed(seed)
        self.drawing = started_from(prior.generator, self.count, seed)
        self.average = copy.deepcopy(self.drawing).eval().requires_grad_(False)
        self.start = {p: p.detach().clone() for p in self._learning()}
        self.learner = torch.optim.Adam(self._learning(), lr=config.rate, betas=BETAS)
        self.critics = [Critic(seed=seed + STRIDE * k) for k in range(self.count)]
        self.critic_learners = [
            torch.optim.Adam([p for p in critic.parameters() if p.requires_grad], lr=config.rate, betas=BETAS)
            for critic in self.critics
        ]
        self.augmentations = [
            AdaptiveAugmentation(AugmentationConfig(start=0.2), seed + STRIDE * k + 1) for k in range(self.count)
        ]
        self.crowds: dict[tuple[int, bool], CrowdDistance] = {}
        self.layouts = _layouts(prior, material.pool)
        self.middle = self.layouts.mean(0)
        self.styled_middle = self.middle.clone()

    def run(self, progress: Callable[[float], None]) -> Outcome:
        """Trains until the steps are taken or the score has long been no better."""
        c, best, since = self.config, None, 0
        halves = min(round(c.half_share * c.steps), c.steps - 1) if self._halves_tell() else 0
        for k in range(c.steps):
            if k == halves:
                self._divide()
            self._rates(0.5 * (1 + math.cos(math.pi * k / c.steps)) * (1 - LAST) + LAST)
            self._step(k, half=k < halves)
            progress((k + 1) / c.steps)
            last = k == c.steps - 1
            if k >= halves and ((k - halves + 1) % c.measure_every == 0 or last):
                found = self.score.of(self.average)
                since += 1
                if best is None or found.total < best.score.total:
                    best, since = Outcome(copy.deepcopy(self.average), found, k + 1), 0
                if since >= c.patience:
                    break
        assert best is not None, "the last step is measured"
        return best

    @torch.no_grad()
    def _halves_tell(self) -> bool:
        """Whether pictures of half the size show what whole ones show: the prior may have learnt them or not."""
        codes = self.material.pool[:AT_ONCE]
        size = self.prior.generator.config.size // 2
        half = resized(self.prior.generator(self.prior.expected_styles(codes), size=size), SMALL)
        return float((half - self.layouts[:AT_ONCE]).abs().mean()) < TELLING

    def _learning(self) -> list[torch.nn.Parameter]:
        return [p for name, p in self.drawing.named_parameters() if "mapping." not in name and p.dim()]

    def _rates(self, share: float) -> None:
        for learner in (self.learner, *self.critic_learners):
            for group in learner.param_groups:
                group["lr"] = self.config.rate * share

    def _divide(self) -> None:
        """From here on each branch learns on its own, from what was learnt together."""
        for network in (self.drawing, self.average):
            for branch in network.generator.branches[1:]:
                branch.load_state_dict(network.generator.branches[0].state_dict())
        for critic in self.critics[1:]:
            critic.load_state_dict(self.critics[0].state_dict())
        for augmentation in self.augmentations[1:]:
            augmentation.probability = self.augmentations[0].probability

    def _step(self, number: int, half: bool) -> None:
        c, material = self.config, self.material
        branch = 0 if half else number % self.count
        own = self._some(material.sides, None if half else branch, c.shown)
        others = self._some(material.pool_sides, None if half else branch, c.drawn)
        codes = torch.cat([material.codes.of(own).drawn(self.rng, c.jitter), material.pool[others]])
        pictures = self.drawing(self.prior.expected_styles(codes), branch, half)
        again, new = pictures[: len(own)], pictures[len(own) :]
        wanted = resized(material.exemplars[own], pictures.shape[-1])
        critic, augmentation = self.critics[branch], self.augmentations[branch]
        corner = self._corner(pictures.shape[-1])
        seen, shown = _looked_at(new, corner), _looked_at(wanted, corner)
        if number == 0:
            critic.settle(shown)
        critic.eval().requires_grad_(False)
        terms = [
            c.redraw_weight * _redrawing(again, wanted, corner),
            c.critic_weight * drawing_loss(critic(augmentation(seen))),
            c.crowd_weight * self._crowd(branch, half, pictures.shape[-1])(new),
            c.layout_weight * self._layout(new, others),
            c.near_weight * self._departed(branch, half),
        ]
        self.learner.zero_grad()
        torch.stack(terms).sum().backward()
        self.learner.step()
        self._judge(critic, self.critic_learners[branch], augmentation, shown, seen.detach())
        decay = min(DECAY, (number + 1) / (number + 10))
        with torch.no_grad():
            for kept, new_value in zip(self.average.parameters(), self.drawing.parameters(), strict=True):
                kept.lerp_(new_value, 1 - decay)

    def _crowd(self, branch: int, half: bool, size: int) -> CrowdDistance:
        """What pictures of one size are compared with as a crowd: all exemplars, or those of the branch."""
        if (branch, half) not in self.crowds:
            exemplars, sides = self.material.exemplars, self.material.sides
            self.crowds[branch, half] = CrowdDistance(resized(exemplars if half else exemplars[sides == branch], size))
        return self.crowds[branch, half]

    def _judge(
        self, critic: Critic, learner: torch.optim.Adam, augmentation: AdaptiveAugmentation, real: Tensor, drawn: Tensor
    ) -> None:
        """One step of the critic."""
        critic.train()
        for p in learner.param_groups[0]["params"]:
            p.requires_grad_(True)
        logits = critic(augmentation(real))
        learner.zero_grad()
        critic_loss(logits, critic(augmentation(drawn))).backward()
        learner.step()
        augmentation.follow(certainty(logits))

    def _layout(self, pictures: Tensor, rows: Tensor) -> Tensor:
        """How far pictures (N, 3, S, S) differ, at low frequencies, from the style's mean picture otherwise than the
        unstylized ones differ from theirs: place, pose and tones stay the sitter's, the mean is the style's."""
        found = resized(pictures, SMALL)
        with torch.no_grad():
            self.styled_middle.lerp_(found.mean(0) - self.layouts[rows].mean(0) + self.middle, FOLLOW)
        return ((found - self.styled_middle) - (self.layouts[rows] - self.middle)).abs().mean()

    def _departed(self, branch: int, half: bool) -> Tensor:
        """Mean squared distance of the layers in use from where they started, summed over them."""
        blocks = self.drawing.generator.blocks(branch)
        used = (p for block in (blocks[:-1] if half else blocks) for p in block.parameters() if p in self.start)
        return torch.stack([(p - self.start[p]).square().mean() for p in used]).sum()

    def _some(self, sides: Tensor, branch: int | None, count: int) -> Tensor:
        """Random rows, of one branch if there are any."""
        rows = torch.arange(len(sides)) if branch is None else (sides == branch).nonzero()[:, 0]
        rows = rows if len(rows) else torch.arange(len(sides))
        return rows[torch.randint(len(rows), (count,), generator=self.rng)]

    def _corner(self, size: int) -> tuple[int, int] | None:
        """Where the square that is looked at lies; None for the whole picture, every other time."""
        place = torch.randint(max(size - LOOKED, 0) + 1, (2,), generator=self.rng).tolist()
        whole = size <= LOOKED or float(torch.rand((), generator=self.rng)) < 0.5
        return None if whole else (place[0], place[1])


def _looked_at(pictures: Tensor, corner: tuple[int, int] | None) -> Tensor:
    """Pictures (N, 3, S, S) or a square of them, as (N, 3, LOOKED, LOOKED)."""
    if corner is None:
        return resized(pictures, LOOKED)
    return pictures[..., corner[0] : corner[0] + LOOKED, corner[1] : corner[1] + LOOKED]


def _redrawing(again: Tensor, wanted: Tensor, corner: tuple[int, int] | None) -> Tensor:
    """How far redrawn exemplars (N, 3, S, S) are from the exemplars: colours and Lite0 features."""
    found = unit_features(_looked_at(again, corner))
    with torch.no_grad():
        aims = unit_features(_looked_at(wanted, corner))
    feature = torch.stack([(a - b).square().sum(1).mean() for a, b in zip(found, aims, strict=True)]).sum()
    return F.l1_loss(again, wanted) + FEATURES * feature


@torch.no_grad()
def _layouts(prior: FlatPrior, codes: Tensor) -> Tensor:
    """Layouts (N, 3, SMALL, SMALL) of what the unstylized generator draws at codes."""
    return torch.cat([resized(prior.generator(prior.expected_styles(part)), SMALL) for part in codes.split(AT_ONCE)])
