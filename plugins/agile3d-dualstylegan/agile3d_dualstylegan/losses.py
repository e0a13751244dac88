"""What pictures are told while they learn a style, all on frozen Lite0 features.

Source: contextual loss: Mechrez et al., "The Contextual Loss for Image Transformation with Non-Aligned Data" (ECCV
2018); matching of channel statistics: Huang and Belongie (ICCV 2017); self-similarity as what is left of a picture
without its style: Kolkin et al., "Style Transfer by Relaxed Optimal Transport and Self-Similarity" (CVPR 2019).
Written from the papers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BANDWIDTH = 0.4
"""Of the contextual loss: how much nearer the nearest feature has to be than others to count alone."""
PLACES = slice(2, 4)
"""Taps that are compared place by place: an eighth and a sixteenth of the size."""


def unit(features: Sequence[Tensor]) -> list[Tensor]:
    """Features of unit length over channels."""
    return [F.normalize(feature, dim=1, eps=1e-6) for feature in features]


def differing(drawn: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Lite0 feature distance (N,) of features of every tap, as ``perceptual_distance`` has it."""
    rows = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(unit(drawn), unit(wanted), strict=True)]
    return torch.stack(rows).sum(0)


def contextual(drawn: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """How far every feature of a wanted picture is from being found anywhere in the drawn one, (N,); taps summed."""
    rows = []
    for a, b in zip(drawn[PLACES], wanted[PLACES], strict=True):
        middle = b.mean((2, 3), keepdim=True)
        one, two = (F.normalize((x - middle).flatten(2), dim=1, eps=1e-6) for x in (a, b))
        # (N, P, Q): place p of the drawn picture, q of the wanted one.
        apart = 1 - one.transpose(1, 2) @ two
        near = torch.exp((1 - apart / (apart.amin(2, keepdim=True) + 1e-5)) / BANDWIDTH)
        share = near / near.sum(2, keepdim=True)
        rows.append(-share.amax(1).mean(1).clamp(min=1e-8).log())
    return torch.stack(rows).sum(0)


def unmatched(drawn: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """Difference of the channels' means and deviations, (N,): each tap's have unit length, and taps are summed."""
    rows = [(a - b).square().sum(1) for a, b in zip(_statistics(drawn), _statistics(wanted), strict=True)]
    return torch.stack(rows).sum(0)


def rearranged(drawn: Sequence[Tensor], source: Sequence[Tensor]) -> Tensor:
    """How differently pictures are laid out, (N,): which places resemble which, whatever they look like."""
    rows = [
        (_resemblance(a) - _resemblance(b)).abs().mean((1, 2))
        for a, b in zip(drawn[PLACES], source[PLACES], strict=True)
    ]
    return torch.stack(rows).sum(0)


def _statistics(features: Sequence[Tensor]) -> list[Tensor]:
    pairs = [(x.mean((2, 3)), (x.var((2, 3), unbiased=False) + 1e-8).sqrt()) for x in features]
    return [F.normalize(torch.cat(pair, 1), dim=1) for pair in pairs]


def _resemblance(feature: Tensor) -> Tensor:
    """Cosines (N, P, P) between all places of features (N, C, h, w), which are centred first."""
    flat = (feature - feature.mean((2, 3), keepdim=True)).flatten(2)
    flat = F.normalize(flat, dim=1, eps=1e-6)
    return flat.transpose(1, 2) @ flat
