"""Pairs -> the style's map from a person's traits to the colours of the head's parts, solved and not trained.

What a style makes of a part's colour is seen on every head that shows the part: there the median of the stylized
picture stands against the median of the base's. One affine map of colours fits all of them, and each part's own map is
drawn towards it by how little of the part was seen. So clothes and headwear, which portraits hardly show, follow what
became of skin and hair. Colours that neither of these has, such as green, keep as much of their purity as those do:
little in clay, all in a cartoon.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agile3d_cli.avatar.traced import Traced, colours, part_shares
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.surfaces import Head

SURE = 0.9
"""Share of a part, and of the head, from which on a pixel shows the part."""
STRIDE = 2
"""Pixels between two that are looked at."""
LEAST, ENOUGH = 12, 100
"""Pixels that a part needs on a head to be seen, and from which on the head counts fully."""
TOGETHER, ALONE = 1.0, 5.0
"""Heads for which it counts that unseen colours do as usual, and that a part does as the others do."""
SLIGHT, MOST = 1e-4, 1.5
"""Variance of colours that tells nothing of what becomes of them, and the largest slope."""
DARK, BRIGHT = 0.02, 0.98
"""Bounds of colours before they are compared as logits."""


@torch.no_grad()
def take_tones(generator: TriplaneGenerator, pairs: Pairs, heads: Sequence[Head]) -> dict[str, Tensor]:
    """Gives the generator's palette the style's tones, and returns by how much its parameters changed."""
    known, seen, weight = _observed(generator, pairs, heads)
    maps = part_maps(known, seen, weight)
    layer = generator.palette.layer
    turn, shift = maps[:, :, :3], maps[:, :, 3]
    before = layer.weight.clone(), layer.bias.clone()
    layer.weight.copy_((turn @ layer.weight.unflatten(0, (-1, 3))).flatten(0, 1))
    bias = (layer.bias * layer.lr).unflatten(0, (-1, 3))
    layer.bias.copy_(((turn @ bias[..., None])[..., 0] + shift).flatten() / layer.lr)
    return {"palette.layer.weight": layer.weight - before[0], "palette.layer.bias": layer.bias - before[1]}


def part_maps(known: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """The affine map of each part's colours, (parts, 3, 4): turn, and shift in the last column.

    Args:
        known: (heads, parts, 3) colours without the style.
        seen: (heads, parts, 3) in it.
        weight: (heads, parts) how well they were seen, 0 to 1.
    """
    parts = range(known.shape[1])
    everything = known.flatten(0, 1), seen.flatten(0, 1), weight.flatten()
    together = _ridge(*everything, _usual(*everything), TOGETHER)
    return torch.stack([_ridge(known[:, k], seen[:, k], weight[:, k], together, ALONE) for k in parts])


def _usual(known: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
    """The affine map (3, 4) that changes lightness by one slope, purity by another, and adds a colour."""
    if not bool(weight.any()):
        return torch.eye(3, 4).to(known)
    share = (weight / weight.sum())[:, None]
    middle, aim = (known * share).sum(0), (seen * share).sum(0)
    grey = torch.full((3, 3), 1 / 3).to(known)
    turn = torch.zeros_like(grey)
    for part in (grey, torch.eye(3).to(known) - grey):
        own, became = (known - middle) @ part, (seen - aim) @ part
        slope = ((share * own * became).sum() + SLIGHT) / ((share * own * own).sum() + SLIGHT)
        turn = turn + slope.clamp(0, MOST) * part
    return torch.cat([turn, (aim - turn @ middle)[:, None]], 1)


def _ridge(known: Tensor, seen: Tensor, weight: Tensor, towards: Tensor, strength: float) -> Tensor:
    """The affine map (3, 4) that takes colours (n, 3) to others with weights (n,), drawn towards another map."""
    x = torch.cat([known, torch.ones_like(known[:, :1])], 1)
    heavy = x * weight[:, None]
    off = seen - x @ towards.T
    change = torch.linalg.solve(heavy.T @ x + strength * torch.eye(4).to(x), heavy.T @ off)
    return towards + change.T


def _observed(generator: TriplaneGenerator, pairs: Pairs, heads: Sequence[Head]) -> tuple[Tensor, Tensor, Tensor]:
    """``known``, ``seen`` and ``weight`` of ``part_maps``; the palette's colours are moved by what pictures show."""
    size = pairs.stylized.shape[-1]
    places = torch.arange(0, size, STRIDE)
    grid = (places[:, None] * size + places[None]).flatten()
    known, seen, weight = [], [], []
    for number, head in enumerate(heads):
        like = head.ws
        palette = generator.palette(head.ws)
        planes = generator.backbone.planes([x.to(like) for x in head.features], head.ws)
        found = head.traced[grid.to(like.device)]
        met = found.alpha.to(like) > SURE
        found = Traced(found.points[met].to(like), found.shares[met].to(like), found.alpha[met].to(like), None)
        plain = colours(generator, planes, found, palette)
        styled = (pairs.stylized[number].reshape(3, -1)[:, grid].to(like).T[met] + 1) / 2
        of_part = part_shares(generator, planes, found) > SURE
        rows = [_moved(plain[where], styled[where], tone) for where, tone in zip(of_part.T, palette[0], strict=True)]
        count = of_part.sum(0)
        known.append(palette[0])
        seen.append(torch.stack(rows))
        weight.append(torch.where(count < LEAST, 0, (count / ENOUGH).clamp(max=1)).to(like))
    return torch.stack(known), torch.stack(seen), torch.stack(weight)


def _moved(plain: Tensor, styled: Tensor, tone: Tensor) -> Tensor:
    """A part's colour (3,) moved by what its pixels (P, 3) became, as logits: as light and shade act on it."""
    if not len(plain):
        return tone
    way = _logit(styled.median(0).values) - _logit(plain.median(0).values)
    return torch.sigmoid(_logit(tone) + way)


def _logit(colour: Tensor) -> Tensor:
    return torch.logit(colour.clamp(DARK, BRIGHT))
