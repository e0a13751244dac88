"""The canonical deformation: where a point of a subject lies in the mean head's space.

Stored is the forward displacement, mean head -> subject, as one grid per shape component; it is linear in the
weights, so a style's or a photo's own displacement is simply added. Points need the opposite direction, which is
found once per subject on a regular grid: p = x - d(p), iterated (converges while the field is a contraction).

Source: own work; the idea of a canonical space with a latent-driven warp follows 3DAvatarGAN and HyperNeRF-type models.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.models.config import FocusConfig, GeneratorConfig

EXPRESSION_SLOPE = 1.6
"""Steepness of the expression coordinates' sigmoid."""


class Focus:
    """The fixed map between world units and normalised coordinates in [-1, 1], denser at the face."""

    def __init__(self, config: FocusConfig, half_width: float):
        self.strength, self.half_width = config.strength, half_width
        centre = torch.tensor(config.centre) / half_width
        self.centre = centre
        if self.strength:
            low = torch.asinh(self.strength * (-1 - centre))
            high = torch.asinh(self.strength * (1 - centre))
            self.middle, self.scale = (low + high) / 2, (high - low) / 2

    def forward(self, points: Tensor) -> Tensor:
        """World (..., 3) to normalised (..., 3); the box maps to [-1, 1]^3."""
        t = points / self.half_width
        if not self.strength:
            return t
        t = self.strength * (t - self.centre.to(t))
        # asinh by its logarithm, several times faster than torch.asinh on a CPU
        away = torch.log(t.abs() + torch.sqrt(t * t + 1)) * t.sign()
        return (away - self.middle.to(t)) / self.scale.to(t)

    def inverse(self, normalised: Tensor) -> Tensor:
        """Normalised (..., 3) to world (..., 3)."""
        if not self.strength:
            return normalised * self.half_width
        t = torch.sinh(normalised * self.scale.to(normalised) + self.middle.to(normalised)) / self.strength
        return (t + self.centre.to(t)) * self.half_width

    def nodes(self, size: int) -> Tensor:
        """World positions of a grid's nodes, (size, size, size, 3), indexed [z, y, x]."""
        line = torch.linspace(-1, 1, size)
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        return self.inverse(torch.stack([x, y, z], -1))


def look_up(grid: Tensor, normalised: Tensor) -> Tensor:
    """Trilinear look-up: grid (N, C, D, H, W) over [-1, 1]^3, points (N, P, 3) -> (N, P, C)."""
    found = F.grid_sample(grid, normalised[:, :, None, None], align_corners=True, padding_mode="border")
    return found[..., 0, 0].transpose(1, 2)


class Deformation(nn.Module):
    """Latent -> displacement of the mean head, and its inverse."""

    basis: Tensor

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config, g = config.deformation, config.deformation.grid
        self.focus = Focus(config.focus, config.box / 2)
        self.register_buffer("basis", torch.zeros(self.config.components, 3, g, g, g))

    def weights(self, z: Tensor) -> Tensor:
        """Shape and expression weights (N, components) of z (N, z_dim)."""
        c = self.config
        parts = [z[:, : c.shapes]]
        if c.expressions:
            strength, bias = torch.tensor(c.expressions, dtype=z.dtype, device=z.device).T
            g = z[:, c.shapes : c.components]
            parts.append(strength * torch.sigmoid(EXPRESSION_SLOPE * g + bias))
        return torch.cat(parts, 1)

    def displacement(self, weights: Tensor) -> Tensor:
        """Forward field (N, 3, G, G, G) in world units."""
        return torch.einsum("nk,kczyx->nczyx", weights, self.basis.to(weights.dtype))

    def invert(self, displacement: Tensor) -> Tensor:
        """Backward field (N, 3, I, I, I): what to add to a subject's point to reach the mean head's space."""
        nodes = self.focus.nodes(self.config.inverse_grid).to(displacement).reshape(1, -1, 3)
        nodes = nodes.expand(displacement.shape[0], -1, -1)
        canonical = nodes
        for _ in range(self.config.rounds):
            canonical = nodes - look_up(displacement, self.focus.forward(canonical))
        size = self.config.inverse_grid
        return (canonical - nodes).transpose(1, 2).reshape(-1, 3, size, size, size)

    def to_canonical(self, points: Tensor, backward: Tensor) -> Tensor:
        """World points (N, P, 3) of the subject to the mean head's space."""
        return points + look_up(backward, self.focus.forward(points))
