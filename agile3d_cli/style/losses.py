"""What the stylized pictures say about the generator so far: the terms of a step of the transfer.

Compared are patches of pictures at the same latent and camera, by colour and by the differences between neighbouring
pixels. Changes of mean planes and details are kept smooth and small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from agile3d_cli.avatar.traced import WHOLE, colours
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import DETAILS, MEAN
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.bends import bends_of, read_bent, strain
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.surfaces import Head
from agile3d_cli.style.together import Together


class Guided(Protocol):
    """What a transfer asks, of ``mini`` and of imported generators."""

    @property
    def pairs(self) -> Pairs:
        """They guide."""
        ...

    def terms(self, rng: torch.Generator, together: Together) -> dict[str, Tensor]:
        """This process's share of each term of a step: their sum over all processes is the term."""
        ...

    def picture(self, number: int) -> Tensor:
        """A pair's head as it is drawn so far, before the usual grey, (3, S, S) in [-1, 1] on the CPU."""
        ...


@dataclass(frozen=True)
class Guidance:
    """A generator in learning, and the pairs that guide it."""

    generator: TriplaneGenerator
    pairs: Pairs
    heads: Sequence[Head]
    """Of the pairs, traced."""
    trained: Mapping[str, Tensor]
    """Parameters of ``generator``."""
    start: Mapping[str, Tensor]
    """The same before the first step."""
    bends: Tensor
    """(N, 2, G, G) of the pairs' pictures, see ``bends.py``."""
    config: TransferConfig

    def terms(self, rng: torch.Generator, together: Together) -> dict[str, Tensor]:
        """See ``Guided``."""
        c, size = self.config, self.pairs.stylized.shape[-1]
        picked = torch.randint(len(self.pairs), (c.batch,), generator=rng).tolist()
        # Every process draws the windows of all, so that chance is the same for any number of processes.
        windows = [_window(size, c.patch, rng) for _ in picked]
        mine = slice(together.number, None, together.count)
        bends = bends_of(self.bends, picked[mine])
        colour, edges = self._compared(picked[mine], windows[mine], bends)
        terms = {"colour": colour, "edges": c.edges * edges, "bent": c.bent * strain(bends)}
        changes = [self.trained[name] - self.start[name] for name in (MEAN, DETAILS) if name in self.trained]
        return {name: term / c.batch for name, term in terms.items()} | held_back(changes, c, together)

    @torch.no_grad()
    def picture(self, number: int) -> Tensor:
        """See ``Guided``."""
        size, head = self.pairs.stylized.shape[-1], self.heads[number]
        planes, palette = self._painted([head])
        seen = colours(self.generator, planes, head.traced, palette).T.reshape(3, size, size)
        alpha = head.traced.alpha.to(seen).reshape(size, size)
        return torch.lerp(torch.full_like(seen, BACKGROUND), 2 * seen - 1, alpha).cpu()

    def _compared(self, picked: Sequence[int], windows: Sequence[Tensor], bends: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over these pairs: mean differences of colours, and of neighbours, in their windows (P, P)."""
        heads = [self.heads[number] for number in picked]
        planes, palettes = self._painted(heads)
        colour, edges = planes.new_zeros(()), planes.new_zeros(())
        for k, (number, window) in enumerate(zip(picked, windows, strict=True)):
            found = heads[k].traced[window.reshape(-1)]
            alpha = (found.alpha.to(planes) * (found.alpha > WHOLE)).reshape(window.shape)
            palette = None if palettes is None else palettes[k : k + 1]
            seen = colours(self.generator, planes[k : k + 1], found, palette).reshape(*window.shape, 3)
            wanted = (read_bent(self.pairs.stylized[number].to(planes), bends[k], window) + 1) / 2
            total = alpha.sum().clamp(min=1)
            colour = colour + (alpha * (seen - wanted).abs().mean(-1)).sum() / total
            for d in (0, 1):
                both = torch.minimum(alpha.narrow(d, 1, len(window) - 1), alpha.narrow(d, 0, len(window) - 1))
                edges = edges + (both * (seen.diff(dim=d) - wanted.diff(dim=d)).abs().mean(-1)).sum() / total
        return colour, edges

    def _painted(self, heads: Sequence[Head]) -> tuple[Tensor, Tensor | None]:
        """Planes (N, 3, C, S, S) and palettes (N, parts, 3) of heads."""
        ws = torch.cat([head.ws for head in heads])
        features = zip(*(head.features for head in heads), strict=True)
        planes = self.generator.backbone.planes([torch.cat(x).to(ws) for x in features], ws)
        return planes, self.generator.colours_of_parts(ws)


def held_back(changes: Sequence[Tensor], config: TransferConfig, together: Together) -> dict[str, Tensor]:
    """The terms that keep changes of mean planes and details smooth and small."""
    if not changes:
        return {}
    slopes = torch.stack([change.diff(dim=d).square().mean() for change in changes for d in (-1, -2)]).sum()
    small = config.small * torch.stack([change.square().mean() for change in changes]).sum()
    return {"smooth": config.smooth * slopes / together.count, "small": small / together.count}


def _window(size: int, patch: int, rng: torch.Generator) -> Tensor:
    """Flat pixel numbers (patch, patch) of a random square, near the middle more often than not, at stride 1 or 2."""
    stride = 1 + int(torch.randint(2, (), generator=rng))
    stride = max(1, min(stride, size // patch))
    room = max(size - patch * stride, 0)
    corner = ((torch.randn(2, generator=rng) * 0.22 + 0.5).clamp(0, 1) * room).round().long()
    steps = torch.arange(patch) * stride
    rows, columns = (corner[0] + steps).clamp(max=size - 1), (corner[1] + steps).clamp(max=size - 1)
    return rows[:, None] * size + columns[None]
