"""How unlike the others each picture of a set is."""

from __future__ import annotations

import torch
from torch import Tensor

KIN = 3
"""Pictures that a picture of the set should resemble."""
ENOUGH = 6
"""Fewer pictures do not show what is usual."""


def strangeness(features: Tensor) -> Tensor | None:
    """Distance of each picture's style features (N, D) to its kin over the median of the set's, (N,).

    One stranger, or up to ``KIN`` of one kind, stand out; half a set of another kind does not. None for a set of fewer
    than ``ENOUGH``.
    """
    if len(features) < ENOUGH:
        return None
    distance = torch.cdist(features, features).fill_diagonal_(torch.inf)
    kin = distance.topk(KIN, largest=False).values.mean(1)
    return kin / kin.median().clamp(min=1e-6)
