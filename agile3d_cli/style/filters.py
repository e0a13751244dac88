"""Pairs -> those worth learning from: what the stylizer moved, made another person of, or drew unlike the rest is left.

Shifts and looks are compared with the usual ones of the whole set, since a style has proportions and a look of its own;
so pairs are judged only when all are there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from agile3d_cli.style.config import FilterConfig
from agile3d_cli.style.kin import ENOUGH, strangeness


def judge(moved: Tensor, identity: Tensor, look: Tensor, config: FilterConfig) -> dict[str, Tensor]:
    """For each reason to leave pairs out, whether it holds for each pair, (N,) bool.

    Args:
        moved: (N, 468, 2) shifts of the landmarks, crop fractions.
        identity: (N,) distances of the embeddings.
        look: (N, D) style features.
        config: the thresholds.
    """
    strange, other = strangeness(look), identity > config.identity
    if strange is None or len(moved) < ENOUGH:
        none = torch.zeros(len(moved), dtype=torch.bool)
        return {"drift": none, "identity": other, "look": none}
    return {"drift": drift(moved) > config.drift, "identity": other, "look": strange > config.look}


def drift(moved: Tensor) -> Tensor:
    """Root mean square distance of each pair's shifts (N, 468, 2) from the usual shift, crop fractions, (N,)."""
    usual = moved.median(0).values
    return (moved - usual).square().sum(2).mean(1).sqrt()


def counts(reasons: Mapping[str, Tensor]) -> dict[str, int]:
    """How many pairs each reason leaves out; one with several counts under the first."""
    left: Tensor | None = None
    found = {}
    for reason, holds in reasons.items():
        found[reason] = int((holds if left is None else holds & ~left).sum())
        left = holds if left is None else left | holds
    return found
