"""Where the intrinsic path comes from: a flat prior, cut to the pictures' size.

In: a prior's file. Out: generator and encoder of no more than the wanted pixels. A StyleGAN2 with skip outputs draws
the same picture, smaller, with fewer blocks, so nothing is learnt anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.flat import FlatPrior, read_flat, shipped_flat
from agile3d_cli.models.flat_encoder import FlatEncoder
from agile3d_cli.models.stylegan2 import StyleGAN2
from agile3d_dualstylegan.dial import STRUCTURE


def open_prior(path: str, size: int) -> FlatPrior:
    """The prior of a file, or the shipped one, for pictures of at most ``size`` pixels.

    Raises:
        ConfigError: its pictures are smaller than the 32 pixels that DualStyleGAN needs.
        MissingError: there is no such file.
        RefusedError: the file is damaged or holds another kind of network.
    """
    prior = cut(read_flat(Path(path)) if path else shipped_flat(), size)
    if prior.generator.config.num_ws <= STRUCTURE:
        raise ConfigError(f"The prior {path} draws {prior.generator.config.size} pixels; take one of 32 or more.")
    return prior


def cut(prior: FlatPrior, size: int) -> FlatPrior:
    """The same prior for pictures of at most ``size`` pixels."""
    config = prior.generator.config
    if config.size <= size:
        return prior
    generator = StyleGAN2(replace(config, widths=config.widths[: config.resolutions.index(size) + 1]))
    known = prior.generator.state_dict()
    generator.load_state_dict({name: known[name] for name in generator.state_dict()})
    groups: list[int] = []
    for count in prior.encoder.config.groups:
        left = generator.config.num_ws - sum(groups)
        groups += [min(count, left)] if left else []
    encoder = FlatEncoder(replace(prior.encoder.config, groups=tuple(groups)))
    encoder.trunk.load_state_dict(prior.encoder.trunk.state_dict())
    for part in ("weight", "bias"):
        value = _first_groups(getattr(prior.encoder.output, part), prior.encoder, len(groups))
        setattr(encoder.output, part, nn.Parameter(value))
    return FlatPrior(generator.eval().requires_grad_(False), encoder.eval().requires_grad_(False))


def _first_groups(value: Tensor, encoder: FlatEncoder, count: int) -> Tensor:
    """Rows of the read-out (2 * groups * w_dim, ...) that belong to the first groups."""
    shaped = value.detach().reshape(2, len(encoder.config.groups), encoder.config.w_dim, *value.shape[1:])
    return shaped[:, :count].flatten(0, 2).clone()
