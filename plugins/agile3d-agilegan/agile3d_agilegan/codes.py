"""Pictures -> normal distributions of codes: what the encoder says, and for exemplars a few descents more.

Source: Song et al., "AgileGAN" (SIGGRAPH 2021), section 4: hierarchical variational codes in Z+. Exemplars are often
drawings, which the encoder never saw; so their means descend towards redrawing the exemplar, near to where they were
and to the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.perceptual import unit_features

SMALL = 16
"""Edge at which the layouts of two pictures are compared, pixels."""
RATE = 0.08
FEATURES, LAYOUT, STAY, PRIOR = 0.15, 2.0, 0.02, 0.01
"""Rate of the descents; weights of Lite0 features, of the layout, and of both pulls."""
FEATURE_SIZE = 128


@dataclass(frozen=True)
class Codes:
    """Independent normal distributions in Z+."""

    mean: Tensor
    """(N, groups, w_dim)."""
    spread: Tensor
    """(N, groups, w_dim) standard deviations."""

    def __len__(self) -> int:
        return len(self.mean)

    def of(self, rows: Tensor) -> Codes:
        """Some of them."""
        return Codes(self.mean[rows], self.spread[rows])

    def drawn(self, rng: torch.Generator, share: float = 1.0) -> Tensor:
        """One code of each (N, groups, w_dim), with a share of the spread."""
        return self.mean + share * self.spread * torch.randn(self.mean.shape, generator=rng)


@torch.no_grad()
def told(prior: FlatPrior, images: Tensor) -> Codes:
    """What the encoder says of pictures (N, 3, S, S) in [-1, 1]."""
    mean, spread = prior.encoder(images)
    return Codes(mean, (spread / 2).exp())


def refined(prior: FlatPrior, images: Tensor, codes: Codes, steps: int) -> Codes:
    """The codes of pictures (N, 3, S, S), their means descended for a few steps."""
    wanted = resized(images, prior.generator.config.size)
    with torch.no_grad():
        aims = unit_features(_grown(wanted))
    mean = codes.mean.clone().requires_grad_(True)
    learner = torch.optim.Adam([mean], lr=RATE, betas=(0.9, 0.9))
    for _ in range(steps):
        drawn = prior.generator(prior.expected_styles(mean))
        found = unit_features(_grown(drawn))
        feature = torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in zip(found, aims, strict=True)]).sum(0)
        layout = (resized(drawn, SMALL) - resized(wanted, SMALL)).abs().mean((1, 2, 3))
        stay = ((mean - codes.mean) / codes.spread).square().mean((1, 2))
        loss = FEATURES * feature + LAYOUT * layout + STAY * stay + PRIOR * mean.square().mean((1, 2))
        learner.zero_grad()
        loss.sum().backward()
        learner.step()
    return Codes(mean.detach(), codes.spread)


def mixed(faces: Codes, count: int, rng: torch.Generator) -> Tensor:
    """Codes (count, groups, w_dim) of people who are not there: half of them drawn from the prior, half between and
    around realistic faces, whose codes are those that photos get."""
    groups, width = faces.mean.shape[1:]
    invented = torch.randn(count // 2, 1, width, generator=rng).expand(-1, groups, -1)
    rows = torch.randint(len(faces), (2, count - count // 2), generator=rng)
    share = 1.2 * torch.rand(count - count // 2, 1, 1, generator=rng) - 0.1
    between = torch.lerp(faces.of(rows[0]).drawn(rng), faces.mean[rows[1]], share)
    return torch.cat([invented, between])


def _grown(images: Tensor) -> Tensor:
    """At the size at which features are looked at."""
    return F.interpolate(images, (FEATURE_SIZE, FEATURE_SIZE), mode="bilinear", align_corners=False)
