"""Rays of one subject of an imported generator -> their colours and depths, on a CPU in parts that stay in its cache.

``published_plain.py`` is the plain twin, and ``native.py`` may do the same in compiled code.
Source: EG3D (Chan et al., CVPR 2022), section 4.1 and supplement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from agile3d_cli.models.layers import at_once, softplus
from agile3d_cli.models.merged import MergedPlanes, merged_planes
from agile3d_cli.models.published_rays import fine_depths, march
from agile3d_cli.models.triplane import Decoder
from agile3d_cli.models.volume import sample_shares

POINTS = 12288
"""Samples that a CPU takes at a time: what is known of them stays in its cache."""
DECODED = 2048
"""And of them, those whose hidden layer is made at a time."""


@dataclass(frozen=True)
class FoldedDecoder:
    """The decoder with its gains in the weights."""

    hidden: Tensor
    """(C, H)."""
    hidden_bias: Tensor
    """(H,)."""
    output: Tensor
    """(H, 1 + F)."""
    output_bias: Tensor
    """(1 + F,)."""

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (P, C) -> raw density (P,) and the sigmoid of the colours (P, F)."""
        if features.device.type != "cpu":
            return self._at_once(features)
        densities, colours = self.output[:, 0].contiguous(), self.output[:, 1:].contiguous()
        raw, shown = features.new_empty(len(features)), features.new_empty(len(features), colours.shape[1])
        for start in range(0, len(features), DECODED):
            part = slice(start, start + DECODED)
            # Adding a bias afterwards is quicker than ``addmm``, which writes it everywhere first.
            hidden = softplus((features[part] @ self.hidden).add_(self.hidden_bias))
            torch.mv(hidden, densities, out=raw[part])
            torch.mm(hidden, colours, out=shown[part]).add_(self.output_bias[1:]).sigmoid_()
        return raw.add_(self.output_bias[0]), shown

    def _at_once(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """In few steps; the density is one column of many."""
        hidden = softplus(torch.addmm(self.hidden_bias, features, self.hidden))
        outputs = torch.addmm(self.output_bias, hidden, self.output)
        return outputs[:, 0], outputs[:, 1:].sigmoid()


def folded_decoder(decoder: Decoder) -> FoldedDecoder:
    """Of a decoder with one hidden layer, as all imported ones have."""
    assert not decoder.more, "imported networks have one hidden layer"
    first, last = decoder.hidden, decoder.output
    return FoldedDecoder(
        (first.weight * first.gain).T.contiguous(),
        first.bias * first.lr,
        (last.weight * last.gain).T.contiguous(),
        last.bias * last.lr,
    )


@dataclass(frozen=True)
class RayField:
    """What rays are asked of."""

    planes: MergedPlanes
    decoder: FoldedDecoder
    box: float
    """Edge of the cube the planes cover, world units."""

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Raw density (P,) and the sigmoid of the colours (P, F) at world points (P, 3)."""
        return self.decoder(self.planes.features(points * (2 / self.box)))


class Marched(NamedTuple):
    """What R rays saw."""

    mix: Tensor
    """(R, F): sigmoids of the raw colours, by their shares."""
    seen: Tensor
    """(R,) sum of the shares."""
    depth: Tensor
    """(R,) world units, infinite where a ray met nothing."""
    nearest: Tensor
    """(R,) depth of the first sample."""
    farthest: Tensor
    """(R,) and of the last one."""


CLEAR = 1e-3
"""Share of its light that a ray has to meet for its depth to be one: of less, single bits are what is left."""


def apart(found: Marched, wanted: Marched) -> float:
    """The largest difference between what rays saw, depth where it is clear."""
    clear = wanted.seen >= CLEAR
    pairs = [(found.depth[clear], wanted.depth[clear])]
    pairs += [(getattr(found, name), getattr(wanted, name)) for name in Marched._fields if name != "depth"]
    return float(torch.cat([(one - other).abs().flatten() for one, other in pairs]).max())


March = Callable[[RayField, Tensor, Tensor, Tensor, Tensor | None, int], Marched]
"""As ``march_rays``."""


def march_rays(
    field: RayField, origin: Tensor, direction: Tensor, first: Tensor, draws: Tensor | None, fine: int
) -> Marched:
    """Marches rays (R, 3) with coarse depths (R, S) and fine ones by ``draws`` (R or 1, fine), or evenly spread."""
    return in_parts(_march_part, field, origin, direction, first, draws, fine)


def in_parts(
    march: March, field: RayField, origin: Tensor, direction: Tensor, first: Tensor, draws: Tensor | None, fine: int
) -> Marched:
    """Marches as many rays at a time as suit the device."""
    together = max(1, at_once(first, POINTS) // max(first.shape[1], fine))
    parts = []
    for start in range(0, len(first), together):
        part = slice(start, start + together)
        drawn = draws[part] if draws is not None and len(draws) > 1 else draws
        parts.append(march(field, origin[part], direction[part], first[part], drawn, fine))
    return Marched(*(torch.cat(found) for found in zip(*parts, strict=True)))


def _march_part(
    field: RayField, origin: Tensor, direction: Tensor, first: Tensor, draws: Tensor | None, fine: int
) -> Marched:
    """Colours stay where they were made: the samples are put in order by depth, and their shares are put back."""
    raw, colour = _ask(field, origin, direction, first)
    weights, _ = march(raw, first)
    second = fine_depths(first[None], weights[None], fine, draws)[0]
    raw_second, colour_second = _ask(field, origin, direction, second)
    depths, order = torch.sort(torch.cat([first, second], -1), -1)
    weights, middle = march(torch.cat([raw, raw_second], -1).gather(-1, order), depths)
    shares = torch.empty_like(depths).scatter_(-1, order, sample_shares(weights))
    samples = first.shape[-1]
    mix = torch.bmm(shares[:, None, :samples], colour) + torch.bmm(shares[:, None, samples:], colour_second)
    seen = weights.sum(-1)
    # Where a ray met nothing the quotient has no value.
    depth = ((weights * middle).sum(-1) / seen).nan_to_num(float("inf"))
    return Marched(mix[:, 0], seen, depth, depths[:, 0], depths[:, -1])


def _ask(field: RayField, origin: Tensor, direction: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Raw density (R, S) and the sigmoid of the colours (R, S, F) along rays (R, 3)."""
    points = (origin[:, None] + direction[:, None] * depths[..., None]).flatten(0, 1)
    raw, colours = field(points)
    return raw.view(depths.shape), colours.unflatten(0, tuple(depths.shape))


def trial_rays(
    features: int,
    hidden: int,
    outputs: int,
    axes: str = "xy_xz_zx",
    samples: tuple[int, int] = (21, 19),
    device: torch.device | None = None,
) -> tuple[RayField, Tensor, Tensor, Tensor, Tensor, int]:
    """Arguments of ``march_rays``: a small field of random numbers with matter in it, and rays from aside."""
    rng, (coarse, fine) = torch.Generator().manual_seed(0), samples

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    weights = (random(features, hidden), random(hidden), random(hidden, outputs) / 2, random(outputs))
    planes = random(3, features, 16, 16)
    origin = torch.tensor([0.3, 0.2, 2.7]) + 0.01 * random(150, 3)
    direction = torch.nn.functional.normalize(0.2 * random(150, 3) - origin, dim=-1)
    first = torch.linspace(2.25, 3.3, coarse) + 1 / max(20, coarse - 1) * torch.rand(150, coarse, generator=rng)
    draws = torch.rand(150, fine, generator=rng)
    field = RayField(merged_planes(planes.to(device), axes), FoldedDecoder(*(each.to(device) for each in weights)), 1.0)
    return field, origin.to(device), direction.to(device), first.to(device), draws.to(device), fine
