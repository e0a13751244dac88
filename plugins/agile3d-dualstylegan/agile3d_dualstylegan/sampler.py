"""DualStyleGAN's sampler: Gaussian noise -> exemplar codes that no exemplar had.

Two small networks draw the rows of structure and those of colour, each from noise of its own. Modules are named as in
the published files. Source: Yang et al. (CVPR 2022), section 3; Hoshen et al., "Non-Adversarial Image Synthesis with
Generative Latent Nearest Neighbors" (CVPR 2019). Written from the papers and checked against recorded tensors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.foreign_stylegan import fill
from agile3d_dualstylegan.dial import STRUCTURE, STYLES

WIDTH = 128
"""Numbers of noise, and of a hidden layer."""


class RowSampler(nn.Module):
    """Noise (N, width) to some rows (N, rows, w_dim) of codes in Z+."""

    def __init__(self, rows: int, w_dim: int = 512, width: int = WIDTH):
        super().__init__()
        self.rows, self.w_dim, self.width = rows, w_dim, width
        self.lin1, self.bn1 = nn.Linear(width, width, bias=False), nn.BatchNorm1d(width)
        self.lin2, self.bn2 = nn.Linear(width, width, bias=False), nn.BatchNorm1d(width)
        self.lin_out = nn.Linear(width, rows * w_dim, bias=False)

    def forward(self, noise: Tensor, of_batch: bool = False) -> Tensor:
        """``of_batch`` as in ``StyleSampler``."""
        x = F.relu(_normed(self.bn1, self.lin1(noise), of_batch))
        x = F.relu(_normed(self.bn2, self.lin2(x), of_batch))
        codes: Tensor = self.lin_out(x)
        return codes.reshape(-1, self.rows, self.w_dim)


class StyleSampler(nn.Module):
    """Codes (N, styles, w_dim) in Z+; ``generator.mapping`` makes the exemplar's styles of them.

    A quirk of the published script: it never leaves training, so batch norm takes the statistics of the codes that are
    drawn together, a code depends on its neighbours, and one alone cannot be drawn. ``of_batch`` does the same. Without
    it the statistics are those learnt in training, and a code depends on its own noise alone.
    """

    def __init__(self, styles: int = STYLES, w_dim: int = 512, width: int = WIDTH):
        super().__init__()
        self.styles, self.w_dim = styles, w_dim
        self.structure = RowSampler(STRUCTURE, w_dim, width)
        self.color = RowSampler(styles - STRUCTURE, w_dim, width)

    def forward(self, structure: Tensor, color: Tensor, of_batch: bool = False) -> Tensor:
        """Codes of two noises (N, width) each.

        Raises:
            ConfigError: one code alone has no statistics of its batch.
        """
        if of_batch and len(structure) < 2:
            raise ConfigError("One style code alone cannot be drawn by the statistics of its batch; draw two or more.")
        return torch.cat([self.structure(structure, of_batch), self.color(color, of_batch)], 1)

    def draw(self, count: int, rng: torch.Generator, of_batch: bool = False) -> Tensor:
        """``count`` new codes, their noise drawn on the CPU."""
        like = self.structure.lin1.weight
        noises = [torch.randn(count, self.structure.width, generator=rng).to(like) for _ in range(2)]
        found: Tensor = self(*noises, of_batch)
        return found


def _normed(norm: nn.BatchNorm1d, x: Tensor, of_batch: bool) -> Tensor:
    mean, variance = (None, None) if of_batch else (norm.running_mean, norm.running_var)
    return F.batch_norm(x, mean, variance, norm.weight, norm.bias, training=of_batch, eps=norm.eps)


def sampler_from(structure: Mapping[str, Tensor], color: Mapping[str, Tensor]) -> StyleSampler:
    """The sampler of what a published ``sampler.pt`` holds under these two names.

    Raises:
        RefusedError: tensors are missing, unknown, of a wrong shape or not finite.
    """
    try:
        outputs, width = structure["lin_out.weight"].shape
        w_dim = outputs // STRUCTURE
        rows = color["lin_out.weight"].shape[0] // w_dim
        if rows < 1 or width < 1:
            raise ValueError(rows)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise RefusedError("The checkpoint is not a DualStyleGAN sampler: its rows cannot be counted.") from error
    with torch.device("meta"):
        network = StyleSampler(STRUCTURE + rows, w_dim, width)
    given = {
        f"{part}.{name}": value
        for part, found in (("structure", structure), ("color", color))
        for name, value in found.items()
    }
    fill(network, given, {name: name for name in network.state_dict()}, "a DualStyleGAN sampler")
    return network
