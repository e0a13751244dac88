"""Stage 3 of the fit, style transfer: both paths draw the exemplars, and other faces as the exemplars are drawn.

In: the network after stage 2, exemplars with their pairs of codes, realistic faces with theirs. Out: the averaged
network that measured best. An exemplar is drawn again from its own pair; a realistic face with the exemplars most like
it gets their strokes and colours while its layout, and what the encoder tells of it, stay.
Source: Yang et al. (CVPR 2022), section 3.3, stage 3. In place of its ArcFace identity: the encoder's code and the
self-similarity of features; in place of its StyleGAN2 critic: one on frozen features.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.augmentation import AdaptiveAugmentation
from agile3d_cli.models.critic import Critic, certainty, critic_loss, drawing_loss
from agile3d_cli.models.flat import FlatPrior, expected_style
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.moments import CrowdDistance
from agile3d_cli.models.perceptual import features, style_features
from agile3d_cli.scores import style_distance
from agile3d_cli.stylizer import Progress
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.destyle import Destylized
from agile3d_dualstylegan.dial import dial
from agile3d_dualstylegan.losses import contextual, differing, rearranged, unmatched
from agile3d_dualstylegan.network import DualStyleGAN
from agile3d_dualstylegan.pairs import balance, extrinsic, nearness
from agile3d_dualstylegan.strokes import fine_blocks
from agile3d_dualstylegan.structure import drawn_until, residual_weight

RATE, CRITIC_RATE = 3e-3, 2e-3
"""Adam's; the first rises over ``WARMUP`` steps and falls along a cosine."""
WARMUP = 10
HALF_SHARE = 0.4
"""Of the steps: pictures of half the size, which cost a half, where that leaves ``LEAST_SIZE``."""
LEAST_SIZE = 64
CRITIC_FROM = 0.25
"""Share of the steps after which the critic speaks."""
LEAST_VARIANCE = -2.0
"""Of the encoder's log-variance: what it is surer of counts no more."""
AVERAGE = 0.97
"""Decay of the averaged network."""
MEASURED = 12
"""Faces that the style is measured on."""
MOVED_WEIGHT = 0.1
"""Of a changed layout against style distance, in what is measured."""


@dataclass(frozen=True)
class Weights:
    """Of the terms."""

    colour: float = 1.0
    """Mean colour error of exemplars drawn again."""
    features: float = 0.3
    """Lite0 feature distance of exemplars drawn again."""
    contextual: float = 0.1
    matched: float = 3.0
    layout: float = 1.0
    told: float = 0.015
    """What the encoder tells of a drawn face, by its own variance, against what it told of the real one."""
    critic: float = 0.15
    crowd: float = 0.5
    """How far drawn faces are, as a crowd, from the exemplars."""
    residual: float = 1e-3


@dataclass(frozen=True)
class KnownFaces:
    """Realistic faces and what the encoder tells of them; N faces."""

    images: Tensor
    """(N, 3, size, size) in [-1, 1]."""
    codes: Tensor
    """(N, num_ws, w_dim) Z+."""
    means: Tensor
    """(N, groups, w_dim)."""
    spreads: Tensor
    """(N, groups, w_dim) log-variances."""
    favour: Tensor
    """(E,) by which all exemplars are asked for alike; see ``pairs.balance``."""


@torch.no_grad()
def look_at(prior: FlatPrior, images: Tensor, pairs: Destylized) -> KnownFaces:
    """What there is to know of faces (N, 3, H, W) in [-1, 1]."""
    means, spreads = prior.encoder(images)
    codes = prior.encoder.styles(means)
    favour = balance(codes, pairs.intrinsic)
    return KnownFaces(resized(images, prior.generator.config.size), codes, means, spreads, favour)


def learn_style(
    network: DualStyleGAN, prior: FlatPrior, pairs: Destylized, exemplars: Tensor, faces: KnownFaces,
    config: DualstyleganConfig, seed: int, progress: Progress, weights: Weights = Weights(),
) -> DualStyleGAN:  # fmt: skip
    """Learns the style of exemplars (E, 3, size, size); ``network`` is changed, the best average is returned."""
    rng = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(_learning(network), RATE, (0.9, 0.99))
    critic, augmentation = Critic(seed=seed), AdaptiveAugmentation(seed=seed)
    critic.settle(exemplars)
    critic_adam = torch.optim.Adam(critic.heads.parameters(), CRITIC_RATE, (0.5, 0.99))
    average = copy.deepcopy(network).requires_grad_(False)
    best, least, stale = copy.deepcopy(average), math.inf, 0
    style = style_of(exemplars)
    crowds: dict[int, CrowdDistance] = {}
    for step in range(config.style_steps):
        share = step / config.style_steps
        progress("learning the style", share)
        half = share < HALF_SHARE and exemplars.shape[-1] // 2 >= LEAST_SIZE
        size = exemplars.shape[-1] // (2 if half else 1)
        drawn, wanted, rows = _draw(network, pairs, exemplars, faces, config.batch, size, rng)
        loss = _loss(prior, drawn, wanted, faces, rows, weights) + weights.residual * residual_weight(network)
        if size not in crowds:
            crowds[size] = CrowdDistance(resized(exemplars, size))
        loss = loss + weights.crowd * crowds[size](drawn[len(drawn) - len(rows) :])
        if share >= CRITIC_FROM and exemplars.shape[-1] >= LEAST_SIZE:
            _teach(critic, critic_adam, augmentation, wanted, drawn.detach())
            critic.requires_grad_(False)
            loss = loss + weights.critic * drawing_loss(critic(augmentation(drawn)))
            critic.heads.requires_grad_(True)
        adam.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * share))
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            decay = min(AVERAGE, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
        if (step + 1) % config.check_steps == 0 or step + 1 == config.style_steps:
            score = measured(average, pairs, style, faces)
            stale += 1
            if score < least:
                best, least, stale = copy.deepcopy(average), score, 0
            if stale >= config.patience:
                break
    return best


@torch.no_grad()
def measured(network: DualStyleGAN, pairs: Destylized, style: Tensor, faces: KnownFaces) -> float:
    """How far faces drawn in the style are from it, features (E, D), and how much their layout has changed; lower is
    better."""
    drawn = drawings(network, pairs, faces, MEASURED)
    moved = float(rearranged(features(drawn), features(faces.images[: len(drawn)])).mean())
    found = style_of(drawn)
    if min(len(found), len(style)) < 2:
        return float((found.mean(0) - style.mean(0)).square().sum()) + MOVED_WEIGHT * moved
    return style_distance(found, style, resamples=2).value + MOVED_WEIGHT * moved


@torch.no_grad()
def drawings(network: DualStyleGAN, pairs: Destylized, faces: KnownFaces, most: int | None = None) -> Tensor:
    """The faces, or the first ``most`` of them, in the style: (N, 3, size, size) in [-1, 1]."""
    codes, size = faces.codes[:most], faces.images.shape[-1]
    shares = nearness(codes, pairs.intrinsic, faces.favour)
    rows = [_drawn(network, pairs, codes[k : k + 1], shares[k : k + 1], size) for k in range(len(codes))]
    return torch.cat(rows).clamp(-1, 1)


@torch.no_grad()
def style_of(images: Tensor) -> Tensor:
    """Style features (N, D) of pictures, one at a time."""
    return torch.cat([style_features(image[None]) for image in images])


def _learning(network: DualStyleGAN) -> list[Tensor]:
    """The extrinsic path and the fine layers; all else is frozen."""
    network.requires_grad_(False)
    parts = [network.residuals, network.transform, network.colors, *fine_blocks(network.generator).values()]
    for part in parts:
        part.requires_grad_(True)
    return [p for part in parts for p in part.parameters()]


def _drawn(network: DualStyleGAN, pairs: Destylized, codes: Tensor, shares: Tensor, size: int) -> Tensor:
    """Faces (N, num_ws, w_dim) with a full dial and with shares (N, E) of the exemplars."""
    mapping = network.generator.mapping
    taken = extrinsic(mapping, pairs.extrinsic, shares, codes)
    return drawn_until(network, expected_style(mapping, codes), taken, dial(1.0, 1.0, network.config.num_ws), size)


def _draw(
    network: DualStyleGAN, pairs: Destylized, exemplars: Tensor, faces: KnownFaces, batch: int, size: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Exemplars from their own pairs and then faces with exemplars like them: pictures (batch, 3, size, size), the
    exemplars that belong to them, and the numbers of the faces (batch - batch // 2,)."""
    own = torch.randint(len(exemplars), (batch // 2,), generator=rng)
    rows = torch.randint(len(faces.codes), (batch - batch // 2,), generator=rng)
    near = nearness(faces.codes[rows], pairs.intrinsic, faces.favour)
    chosen = torch.multinomial(near.cpu(), 1, generator=rng)[:, 0]
    # Half of the faces see the mixture that they will be drawn with, half a single exemplar of it.
    alone = torch.rand(len(rows), 1, generator=rng) < 0.5
    shares = torch.where(alone.to(near.device), torch.eye(len(exemplars)).to(near)[chosen], near)
    shares = torch.cat([torch.eye(len(exemplars)).to(near)[own], shares])
    codes = torch.cat([pairs.intrinsic[own], faces.codes[rows]])
    drawn = _drawn(network, pairs, codes, shares, size)
    return drawn, resized(exemplars[torch.cat([own, chosen])], size), rows


def _loss(
    prior: FlatPrior, drawn: Tensor, wanted: Tensor, faces: KnownFaces, rows: Tensor, weights: Weights
) -> Tensor:  # fmt: skip
    """All terms without the critic's."""
    count = len(drawn) - len(rows)
    found, aims = features(drawn), features(wanted)
    again = weights.colour * (drawn[:count] - wanted[:count]).abs().mean()
    again = again + weights.features * differing([x[:count] for x in found], [x[:count] for x in aims]).mean()
    styled, style = [x[count:] for x in found], [x[count:] for x in aims]
    loss = again + weights.contextual * contextual(styled, style).mean()
    loss = loss + weights.matched * unmatched(styled, style).mean()
    source = features(resized(faces.images[rows], drawn.shape[-1]))
    loss = loss + weights.layout * rearranged(styled, source).mean()
    told, _ = prior.encoder(drawn[count:])
    sure = torch.exp(-faces.spreads[rows].clamp(min=LEAST_VARIANCE))
    return loss + weights.told * (sure * (told - faces.means[rows]).square()).mean()


def _teach(
    critic: Critic, adam: torch.optim.Adam, augmentation: AdaptiveAugmentation, real: Tensor, drawn: Tensor
) -> None:  # fmt: skip
    """One step of the critic, and of how much pictures are disturbed."""
    logits = critic(augmentation(real))
    loss = critic_loss(logits, critic(augmentation(drawn)))
    adam.zero_grad()
    loss.backward()
    adam.step()
    augmentation.follow(certainty(logits))
