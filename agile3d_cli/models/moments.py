"""Drawn pictures -> how far they are, as a crowd, from the exemplars: a loss without an opponent.

The squared maximum mean discrepancy of style features, the measure that styles are scored by, estimated with the
features of pictures that were drawn shortly before: a few pictures a step say what a crowd lacks.
Source: Li et al., "Generative Moment Matching Networks" (ICML 2015), with the kernel of Binkowski et al.,
"Demystifying MMD GANs" (ICLR 2018), on frozen Lite0 features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli.models.perceptual import TAPS, style_features

REMEMBERED = 48
"""Pictures drawn before that stand for the crowd."""
FEWEST = 6
"""With fewer there is no crowd yet, and nothing is asked for."""


class CrowdDistance:
    """The loss; one for each size of pictures, as small ones have other features."""

    def __init__(self, exemplars: Tensor):
        """``exemplars`` (M, 3, S, S) in [-1, 1]; their mirror images count too."""
        with torch.no_grad():
            self._wanted = _of(torch.cat([exemplars, exemplars.flip(3)]))
        self._before = self._wanted[:0]

    def __call__(self, drawn: Tensor) -> Tensor:
        """Loss of pictures (N, 3, S, S), a number about twice their share in the discrepancy; they are remembered."""
        found = torch.cat([style_features(picture[None]) for picture in drawn])
        before = self._before
        self._before = torch.cat([before, found.detach()])[-REMEMBERED:]
        if len(before) < FEWEST:
            return 0 * found.sum()
        return 2 * (kernel(found, before).mean() - kernel(found, self._wanted).mean())


def kernel(one: Tensor, two: Tensor) -> Tensor:
    """(N, M) likeness of style features (N, D) and (M, D), as in ``scores.style_distance``: all taps have length 1."""
    return (one @ two.T / len(TAPS) + 1) ** 3


def _of(pictures: Tensor) -> Tensor:
    return torch.cat([style_features(picture[None]) for picture in pictures])
