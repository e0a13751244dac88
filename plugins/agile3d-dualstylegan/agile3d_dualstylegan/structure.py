"""Stage 2 of the fit, structure transfer: the extrinsic path learns to carry coarse styles from one face to another.

In: the network as it starts, which is stage 1, colour transfer: its residuals add nothing and its colour transforms
change nothing, so it mixes styles as a StyleGAN2 does, exactly and without training. Out: residuals that do for the
coarse layers what style mixing does, shown on the prior's own faces.
Source: Yang et al. (CVPR 2022), section 3.3. Its critic is left out here: targets are the prior's own pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli.models.flat import CAMERA_NUMBERS
from agile3d_cli.models.perceptual import features
from agile3d_cli.stylizer import Progress
from agile3d_dualstylegan.dial import dial
from agile3d_dualstylegan.losses import differing
from agile3d_dualstylegan.network import DualStyleGAN

SIZE = 64
"""Edge of the pictures, pixels: structure ends at 32."""
RATE = 2e-3
MOST, LEAST = 7, 5
"""The mixed picture takes the face's styles up to the first of these at the start and to the second at the end: more
and more has to come from the exemplar."""
FEATURES_WEIGHT, RESIDUAL_WEIGHT = 0.3, 1e-3
"""Of Lite0 feature distance against mean colour error; of the residuals' squared weights, which begin near zero."""


def learn_structure(
    network: DualStyleGAN, steps: int, batch: int, rng: torch.Generator, progress: Progress
) -> None:  # fmt: skip
    """Teaches residuals, structure transform and colour transforms in place; the intrinsic path stays."""
    config = network.config
    size, weights = min(SIZE, config.size), dial(1.0, 1.0, config.num_ws)
    learnt = [network.residuals, network.transform, network.colors]
    network.requires_grad_(False)
    for part in learnt:
        part.requires_grad_(True)
    adam = torch.optim.Adam([p for part in learnt for p in part.parameters()], RATE, (0.9, 0.99))
    mapping = network.generator.mapping
    for step in range(steps):
        progress("learning to carry structure", step / steps)
        face, other = torch.randn(2, batch, config.w_dim, generator=rng).to(network.generator.const)
        other = torch.cat([other[:, :-CAMERA_NUMBERS], face[:, -CAMERA_NUMBERS:]], 1)
        own, taken = (mapping(codes)[:, None].expand(-1, config.num_ws, -1) for codes in (face, other))
        until = round(MOST + (LEAST - MOST) * step / max(1, steps - 1))
        with torch.no_grad():
            wanted = network.generator(torch.cat([own[:, :until], taken[:, until:]], 1), size=size)
            aims = features(wanted)
        drawn = drawn_until(network, own, taken, weights, size)
        loss = (drawn - wanted).abs().mean() + FEATURES_WEIGHT * differing(features(drawn), aims).mean()
        loss = loss + RESIDUAL_WEIGHT * residual_weight(network)
        adam.zero_grad()
        loss.backward()
        adam.step()


def drawn_until(
    network: DualStyleGAN, ws: Tensor, extrinsic: Tensor, weights: tuple[float, ...], size: int
) -> Tensor:  # fmt: skip
    """``network.forward`` up to ``size`` pixels: (N, 3, size, size)."""
    for _, image in network.steps(ws, extrinsic, weights):
        if image.shape[-1] == size:
            return image
    raise AssertionError("the size is one of the network's resolutions")


def residual_weight(network: DualStyleGAN) -> Tensor:
    """Mean square of the residuals' last convolutions, averaged over layers."""
    parts = [dict(block.named_parameters())["conv1.weight"].square().mean() for block in network.residuals]
    return torch.stack(parts).mean()
