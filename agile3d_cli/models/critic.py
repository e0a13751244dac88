"""Pictures -> how much they look like the exemplars: small heads on frozen Lite0 features, quick on a processor.

Source: Sauer et al., "Projected GANs Converge Faster" (NeurIPS 2021): a discriminator for each scale of a frozen
network's features, which are mixed at random over channels and, from coarse to fine, over scales. Spectral norm after
Miyato et al. 2018. Heads judge patches and never a whole picture, so that twenty exemplars are not learnt by heart
(after Ojha et al., "Few-shot Image Generation via Cross-domain Correspondence", CVPR 2021). Written from the papers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.perceptual import BLOCKS, TAPS, features

SLOPE = 0.2
"""Of the heads' leaky ReLU."""


@dataclass(frozen=True)
class CriticConfig:
    """Sizes of a critic."""

    width: int = 48
    """Channels of each scale after mixing, and of its head."""
    scales: tuple[int, ...] = (0, 1, 2, 3)
    """Taps of the features that are judged, finest first: 0 has a half of the picture's size, 3 a sixteenth."""

    def __post_init__(self) -> None:
        known = range(len(TAPS))
        if self.width < 1 or not self.scales or list(self.scales) != sorted(set(self.scales) & set(known)):
            raise ConfigError(
                f"A critic has a width of at least 1 and rising scales from 0 to {len(TAPS) - 1}, not {self.width} "
                f"and {self.scales}."
            )


class Critic(nn.Module):
    """Pictures (N, 3, H, W) in [-1, 1], H and W of 64 or more, to logits (N, patches) for each scale.

    Only the heads are learnt. The same configuration and seed give the same critic. In evaluation mode it stays as it
    is from call to call.
    """

    def __init__(self, config: CriticConfig | None = None, seed: int = 0):
        super().__init__()
        self.config = config or CriticConfig()
        channels, width = [BLOCKS[TAPS[k]][4] for k in self.config.scales], self.config.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mixers = nn.ModuleList(_mixing(count, width, 1) for count in channels)
            self.joiners = nn.ModuleList(_mixing(width, width, 3) for _ in channels)
            self.heads = nn.ModuleList(_head(width) for _ in channels)
        for k, count in enumerate(channels):
            self.register_buffer(f"mean{k}", torch.zeros(1, count, 1, 1))
            self.register_buffer(f"spread{k}", torch.ones(1, count, 1, 1))

    @torch.no_grad()
    def settle(self, images: Tensor) -> None:
        """Scales the features so that those of ``images`` have mean 0 and deviation 1 in each channel."""
        for k, feature in enumerate(self._taken(images)):
            self.get_buffer(f"mean{k}").copy_(feature.mean((0, 2, 3), keepdim=True))
            self.get_buffer(f"spread{k}").copy_(feature.std((0, 2, 3), keepdim=True) + 1e-3)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits; gradients reach the pictures."""
        found: list[Tensor] = []
        coarse: Tensor | None = None
        taken = list(enumerate(self._taken(images)))
        for k, feature in reversed(taken):
            own = self.mixers[k]((feature - self.get_buffer(f"mean{k}")) / self.get_buffer(f"spread{k}"))
            if coarse is not None:
                own = (own + F.interpolate(coarse, own.shape[-2:], mode="bilinear")) * math.sqrt(0.5)
            coarse = self.joiners[k](own)
            found.insert(0, self.heads[k](coarse).flatten(1))
        return found

    def _taken(self, images: Tensor) -> list[Tensor]:
        found = features(images)
        return [found[k] for k in self.config.scales]


def critic_loss(real: Sequence[Tensor], drawn: Sequence[Tensor]) -> Tensor:
    """Hinge loss of a critic that gave these logits to exemplars and to drawn pictures; scales count alike."""
    return torch.stack([F.relu(1 - r).mean() + F.relu(1 + d).mean() for r, d in zip(real, drawn, strict=True)]).mean()


def drawing_loss(drawn: Sequence[Tensor]) -> Tensor:
    """What drawn pictures with these logits lack; scales count alike."""
    return -torch.stack([logits.mean() for logits in drawn]).mean()


def certainty(real: Sequence[Tensor]) -> float:
    """Mean sign of the exemplars' logits, [-1, 1]: near 1 where the critic has learnt them by heart.

    Source: Karras et al., "Training Generative Adversarial Networks with Limited Data" (NeurIPS 2020), equation 1.
    """
    return float(torch.stack([logits.detach().sign().mean() for logits in real]).mean())


def _mixing(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A random convolution that keeps the deviation and is never learnt."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False).requires_grad_(False)
    nn.init.normal_(conv.weight, std=1 / math.sqrt(inputs * kernel * kernel))
    return conv


def _head(width: int) -> nn.Sequential:
    """Features (N, width, h, w) to logits (N, 1, h / 2, w / 2)."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(width, width, 3, 2, 1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )
