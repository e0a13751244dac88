"""Adaptive augmentation: real and drawn pictures are disturbed alike before a critic sees them, so that few exemplars
are not learnt by heart; how often follows how certain the critic is of the exemplars.

Source: Karras et al., "Training Generative Adversarial Networks with Limited Data" (NeurIPS 2020), sections 2 and 3: a
pipeline of invertible disturbances, each applied with one probability that is steered by the sign of the exemplars'
logits. Cut-outs after their appendix. Written from the paper; the spreads are our own, small enough for aligned faces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.errors import ConfigError


@dataclass(frozen=True)
class AugmentationConfig:
    """How pictures are disturbed, and how the probability follows the critic."""

    target: float = 0.6
    """Certainty of the critic that is aimed at, see ``critic.certainty``."""
    speed: float = 0.01
    """By how much the probability moves at each step."""
    start: float = 0.0
    """Probability at the first step."""
    most: float = 0.8
    """Largest probability; above it disturbances start to be drawn."""
    zoom: float = 0.1
    """Spread of the size's logarithm."""
    shift: float = 0.06
    """Spread of the place, as a share of the picture."""
    turn: float = 0.12
    """Spread of the turn in the picture's plane, radians."""
    light: float = 0.2
    """Spread of the brightness, pictures lie in [-1, 1]."""
    contrast: float = 0.2
    saturation: float = 0.4
    """Spreads of the logarithms."""
    cut: float = 0.4
    """Edge of the square that is cut out, as a share of the picture."""

    def __post_init__(self) -> None:
        for name in ("target", "speed", "start", "most", "cut"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"AugmentationConfig.{name} is {getattr(self, name)}; it lies between 0 and 1.")


class AdaptiveAugmentation:
    """Disturbs pictures, on the device where they lie, with chance drawn on the CPU from one seed."""

    def __init__(self, config: AugmentationConfig | None = None, seed: int = 0):
        self.config = config or AugmentationConfig()
        self.probability = self.config.start
        self._rng = torch.Generator().manual_seed(seed)

    def follow(self, certainty: float) -> None:
        """Moves the probability: up where the critic is more certain of the exemplars than it should be."""
        step = math.copysign(self.config.speed, certainty - self.config.target)
        self.probability = min(max(self.probability + step, 0.0), self.config.most)

    def __call__(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, H, W) in about [-1, 1], disturbed; gradients pass through.

        Mirroring needs no probability, as a mirrored face is a face; it happens to every other picture.
        """
        return self._cut(self._coloured(self._moved(images)))

    def _moved(self, images: Tensor) -> Tensor:
        count, c = len(images), self.config
        mirror = torch.where(torch.rand(count, generator=self._rng) < 0.5, -1.0, 1.0)
        zoom, turn = torch.exp(c.zoom * self._some(count)), c.turn * self._some(count)
        along, across = zoom * turn.cos(), zoom * turn.sin()
        right, down = 2 * c.shift * self._some(count), 2 * c.shift * self._some(count)
        move = torch.stack([along * mirror, -across, right, across * mirror, along, down], 1).reshape(count, 2, 3)
        grid = F.affine_grid(move.to(images), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _coloured(self, images: Tensor) -> Tensor:
        count, c = len(images), self.config
        light, contrast, saturation = (
            values[:, None, None, None].to(images)
            for values in (
                c.light * self._some(count),
                torch.exp(c.contrast * self._some(count)),
                torch.exp(c.saturation * self._some(count)),
            )
        )
        grey = images.mean(1, keepdim=True)
        return (grey + saturation * (images - grey)) * contrast + light

    def _cut(self, images: Tensor) -> Tensor:
        count = len(images)
        applied = torch.rand(count, generator=self._rng) < self.probability
        centre = torch.rand(count, 2, generator=self._rng)
        lines = [(torch.arange(edge) + 0.5) / edge for edge in images.shape[-2:]]
        inside = [(line - centre[:, k, None]).abs() < self.config.cut / 2 for k, line in enumerate(lines)]
        gone = applied[:, None, None] & inside[0][:, :, None] & inside[1][:, None, :]
        return images * (~gone[:, None]).to(images)

    def _some(self, count: int) -> Tensor:
        """Normal numbers (count,), each replaced by 0 where the disturbance is not applied."""
        applied = torch.rand(count, generator=self._rng) < self.probability
        return torch.randn(count, generator=self._rng) * applied
