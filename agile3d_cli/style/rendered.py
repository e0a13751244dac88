"""What the stylized pictures say about an imported generator so far: the terms of a step of its fine-tuning.

Its planes lie in the world and not in a mean head's space, so that a change of them moves surfaces as well: rays are
marched anew in every step, and their depths are held near the base's. Compared are pieces of pictures at the same
latent and camera, as rendered and as super-resolution enlarges them, by colour and by differences between neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.avatar.published_head import PublishedHead, sampled_styles, sized
from agile3d_cli.models.config import SuperresolutionConfig
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.published_plain import march_rays_plain
from agile3d_cli.models.published_rays import rays
from agile3d_cli.models.styled import MEAN
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.faces import TRUNCATION
from agile3d_cli.style.losses import held_back
from agile3d_cli.style.together import Together

PIECE, MARGIN = 0.25, 5
"""Edge of a piece, share of the rendered picture, and how many rendered pixels more are marched around it: there the
super-resolution sees the edge."""
PEOPLE = 4
"""Heads whose planes are looked at."""
SPREAD = 4.1
"""Standard deviation of ``mini``'s planes, to which the rate and the weights of mean planes are fitted; those of
imported generators may be of any size."""


@dataclass(frozen=True)
class RenderedGuidance:
    """An imported generator in learning, and the pairs that guide it."""

    generator: TriplaneGenerator
    base: TriplaneGenerator
    """As it was."""
    pairs: Pairs
    trained: Mapping[str, Tensor]
    """Parameters of ``generator``."""
    start: Mapping[str, Tensor]
    """The same before the first step."""
    config: TransferConfig
    scale: float
    """How large the planes are, see ``scale_of``."""

    def terms(self, rng: torch.Generator, together: Together) -> dict[str, Tensor]:
        """See ``losses.Guided``."""
        c = self.config
        picked = torch.randint(len(self.pairs), (c.batch,), generator=rng).tolist()
        # Every process draws the corners of all, so that chance is the same for any number of processes.
        corners = [_corner(self.generator.config.superresolution, rng) for _ in picked]
        mine = slice(together.number, None, together.count)
        seen = [self._compared(k, corner) for k, corner in zip(picked[mine], corners[mine], strict=True)]
        colour, edges, depth = torch.stack(seen).sum(0) / c.batch
        held = held_back([(self.trained[MEAN] - self.start[MEAN]) / self.scale], c, together)
        return {"colour": colour, "edges": c.edges * edges, "depth": c.depth * depth, **held}

    @torch.no_grad()
    def picture(self, number: int) -> Tensor:
        """See ``losses.Guided``."""
        ws, label = self._styles(number), self.pairs.labels[number]
        size = self.pairs.stylized.shape[-1]
        return PublishedHead(self.generator, ws).render(label[None], size, None).image[0].cpu()

    def _styles(self, number: int) -> Tensor:
        z = self.pairs.z[number : number + 1].to(next(self.generator.parameters()))
        return sampled_styles(self.generator, z, TRUNCATION)

    def _compared(self, number: int, corner: tuple[int, int]) -> Tensor:
        """Mean differences (3,) of colours, of neighbours' differences, and of depths, in one piece of a pair."""
        larger = self.generator.config.superresolution
        with torch.no_grad():
            ws = self._styles(number)
            features = list(self.generator.backbone.features(ws))
            before = self.base.backbone.planes(features, ws)
        planes = self.generator.backbone.planes(features, ws)
        label = self.pairs.labels[number : number + 1].to(ws)
        square = _edge(larger)
        inside = _square(corner, square, larger.rendered).to(ws.device)
        origin, direction = (each[:, inside] for each in rays(label, larger.rendered))
        rendered, weights, middle, _ = march_rays_plain(self.generator, planes, origin, direction)
        with torch.no_grad():
            usual = march_rays_plain(self.base, before, origin, direction)
        far = self.generator.config.far
        moved = _depth(weights, middle, far) - _depth(*usual[1:3], far)
        rendered = rendered.transpose(1, 2).unflatten(2, (square, square))
        picture = self.pairs.stylized[number][None].to(ws)
        seen = [(rendered[:, :3], larger.rendered)]
        if larger.sizes:
            entry = square * larger.entry // larger.rendered
            seen.append((self.generator.superresolution.piece(rendered, ws, entry), larger.sizes[-1]))
        terms = [_differences(piece, sized(picture, size), corner, square) for piece, size in seen]
        return torch.stack([*torch.stack(terms).mean(0), moved.abs().mean()])


@torch.no_grad()
def scale_of(generator: TriplaneGenerator, pairs: Pairs) -> float:
    """How large the planes of the first pairs' heads are, of 1 for ``mini``'s."""
    z = pairs.z[:PEOPLE].to(next(generator.parameters()))
    planes = [generator.backbone(sampled_styles(generator, one[None], TRUNCATION)) for one in z]
    return float(torch.cat(planes).std()) / SPREAD


def _depth(weights: Tensor, middle: Tensor, far: float) -> Tensor:
    """Mean depths (N, R) of rays' intervals (N, R, S), light that meets nothing ending at ``far``: unlike the depth of
    what was met it has a slope where next to nothing was."""
    return (weights * middle).sum(-1) + (1 - weights.sum(-1)) * far


def _grain(larger: SuperresolutionConfig) -> int:
    """Rendered pixels that make up whole ones at the super-resolution's entry."""
    return larger.rendered // math.gcd(larger.rendered, larger.entry)


def _edge(larger: SuperresolutionConfig) -> int:
    """Of what is marched for a piece, rendered pixels."""
    grain = _grain(larger)
    wanted = math.ceil((PIECE * larger.rendered + 2 * MARGIN) / grain) * grain
    return min(wanted, larger.rendered)


def _corner(larger: SuperresolutionConfig, rng: torch.Generator) -> tuple[int, int]:
    """Row and column of what is marched, rendered pixels, near the middle more often than not."""
    grain, room = _grain(larger), larger.rendered - _edge(larger)
    place = (torch.randn(2, generator=rng) * 0.22 + 0.5).clamp(0, 1) * room
    row, column = (grain * (place / grain).round().long()).tolist()
    return row, column


def _square(corner: tuple[int, int], edge: int, size: int) -> Tensor:
    """Flat pixel numbers of a square in a picture of ``size``."""
    steps = torch.arange(edge)
    return ((corner[0] + steps)[:, None] * size + corner[1] + steps).reshape(-1)


def _differences(piece: Tensor, picture: Tensor, corner: tuple[int, int], square: int) -> Tensor:
    """Mean differences (2,) of colours in [0, 1], and of neighbours, of a piece (1, 3, P, P) without its margin.

    Args:
        piece: of ``square`` rendered pixels each way, enlarged or not.
        picture: (1, 3, S, S) the whole that it should be a piece of.
        corner: its row and column, rendered pixels.
        square: see there.
    """
    row, column = (place * piece.shape[-1] // square for place in corner)
    wanted = picture[..., row : row + piece.shape[-2], column : column + piece.shape[-1]]
    margin = math.ceil(MARGIN * piece.shape[-1] / square)
    cut = slice(margin, -margin)
    seen, wanted = piece[..., cut, cut] / 2, wanted[..., cut, cut] / 2
    edges = [(seen.diff(dim=d) - wanted.diff(dim=d)).abs().mean() for d in (-1, -2)]
    return torch.stack([(seen - wanted).abs().mean(), torch.stack(edges).sum()])
