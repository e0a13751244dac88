"""Pairs of codes: a face's (intrinsic) and an exemplar's (extrinsic), and which exemplars are asked for a face.

A flat prior's codes have a meaning: the last numbers say where the camera stands. The exemplar's are replaced by the
face's before mapping, so that no exemplar turns a head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agile3d_cli.models.flat import CAMERA_NUMBERS, FlatPrior, expected_style

SHARPNESS = 10.0
"""How much more the nearest exemplars count: e^SHARPNESS times one at the mean squared distance of two exemplars."""
ROUNDS, STEP = 200, 0.5
"""Of the balancing, and the share of the way that each goes."""


def intrinsic(prior: FlatPrior, images: Tensor) -> Tensor:
    """Z+ codes (N, num_ws, w_dim) of pictures (N, 3, H, W) in [-1, 1] at the portrait framing."""
    return prior.encoder.styles(prior.codes(images))


def nearness(faces: Tensor, exemplars: Tensor, favour: Tensor) -> Tensor:
    """Shares (N, E) of the exemplars for faces, codes (N and E, num_ws, w_dim); rows sum to 1.

    Where the camera stands does not count. The encoder draws what it cannot tell towards 0, so all else counts alike.

    Args:
        faces: codes.
        exemplars: codes of the faces behind the exemplars.
        favour: (E,) added to the logarithm of the exemplars' shares; see ``balance``.
    """
    one, two = (codes.mean(1)[:, :-CAMERA_NUMBERS] for codes in (faces, exemplars))
    apart = (one[:, None] - two[None]).square().mean(2)
    scale = 2 * two.var(0, unbiased=False).mean().clamp(min=1e-8)
    return torch.softmax(favour - SHARPNESS * apart / scale, 1)


def balance(faces: Tensor, exemplars: Tensor) -> Tensor:
    """The favour (E,) under which every exemplar has the same share in many realistic faces.

    Realistic faces and exemplars differ as groups: where most faces are darker than most exemplars, few exemplars would
    be nearest to all. Balanced, the lightest faces go to the lightest exemplars, and the style is drawn as a whole.
    Source: Cuturi, "Sinkhorn Distances" (NeurIPS 2013), for faces that each have one share to give.
    """
    favour = exemplars.new_zeros(len(exemplars))
    for _ in range(ROUNDS):
        given = nearness(faces, exemplars, favour).mean(0) * len(exemplars)
        favour = favour - STEP * given.clamp(min=1e-12).log()
    return favour - favour.mean()


def extrinsic(mapping: nn.Module, exemplars: Tensor, shares: Tensor, faces: Tensor) -> Tensor:
    """Styles (N, num_ws, w_dim): the exemplars' codes (E, num_ws, w_dim) seen by each face's camera, mapped, and mixed
    by shares (N, E)."""
    rows = []
    for face, share in zip(faces, shares, strict=True):
        asked = share.nonzero()[:, 0]
        camera = face[None, :, -CAMERA_NUMBERS:].expand(len(asked), -1, -1)
        styles = expected_style(mapping, torch.cat([exemplars[asked, :, :-CAMERA_NUMBERS], camera], 2))
        rows.append(torch.einsum("e,elw->lw", share[asked], styles))
    return torch.stack(rows) if rows else exemplars.new_zeros(0, *exemplars.shape[1:])
