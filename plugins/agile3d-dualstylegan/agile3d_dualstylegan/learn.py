"""Exemplars and realistic faces -> a learnt style: the stages of the fit, called in order, nothing else.

Source: Yang et al. (CVPR 2022), section 3: destylization, then progressive fine-tuning by colour transfer, structure
transfer and style transfer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from agile3d_cli.models.contrast import Contrast, contrast_between
from agile3d_cli.models.flat import FlatPrior
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.destyle import destylize
from agile3d_dualstylegan.enlarge import brought_to
from agile3d_dualstylegan.imagine import learn_sampler
from agile3d_dualstylegan.network import DualStyleGAN
from agile3d_dualstylegan.prior import open_prior
from agile3d_dualstylegan.register import registered
from agile3d_dualstylegan.sampler import StyleSampler
from agile3d_dualstylegan.structure import learn_structure
from agile3d_dualstylegan.transfer import drawings, learn_style, look_at


@dataclass(frozen=True)
class LearntStyle:
    """All that a fit leaves, frozen."""

    prior: FlatPrior
    """Where it started: its generator is the intrinsic path, its encoder tells the codes."""
    network: DualStyleGAN
    extrinsic: Tensor
    """(E, num_ws, w_dim) Z+ codes of the exemplars."""
    intrinsic: Tensor
    """(E, num_ws, w_dim) Z+ codes of the realistic faces behind them."""
    favour: Tensor
    """(E,) by which all exemplars are asked for alike; see ``pairs.balance``."""
    sampler: StyleSampler
    contrast: Contrast
    """Brings drawings of twice the prior's size to the exemplars' colours and contrasts."""

    def modules(self) -> dict[str, nn.Module]:
        """By the names that a file has for them."""
        return {
            "generator": self.prior.generator,
            "encoder": self.prior.encoder,
            "network": self.network,
            "sampler": self.sampler,
        }


def learn(
    exemplars: Sequence[Tensor], faces: FaceSampler, config: DualstyleganConfig, seed: int, progress: Progress
) -> LearntStyle:  # fmt: skip
    """Learns the style of exemplars, each (3, S, S) in [-1, 1]; rounded to what a file holds."""
    rng = torch.Generator().manual_seed(seed)
    prior = open_prior(config.prior, config.size)
    size = prior.generator.config.size
    progress("drawing realistic faces", 0.0)
    count = max(config.faces, config.crowd)
    batch = faces.sample(count, torch.Generator().manual_seed(seed))
    crowd = batch.images.float().cpu()
    large = torch.cat([resized(one.detach().float().cpu()[None], 2 * size) for one in exemplars])
    wanted = resized(registered(large, batch.landmarks[: config.faces]), size)
    pairs = destylize(prior, wanted, config.destyle_steps, progress)
    network = started(prior, seed)
    learn_structure(network, config.structure_steps, config.batch, rng, progress)
    known = look_at(prior, crowd[: config.faces], pairs)
    network = learn_style(network, prior, pairs, wanted, known, config, seed, progress)
    sampler = learn_sampler(pairs.extrinsic, seed, progress)
    many = replace(look_at(prior, crowd[: config.crowd], pairs), favour=known.favour)
    drawn = brought_to(drawings(network.eval(), pairs, many), (2 * size, 2 * size))
    # What was registered has lost contrast of its own.
    contrast = contrast_between(drawn, large)
    style = LearntStyle(prior, network, pairs.extrinsic, pairs.intrinsic, known.favour, sampler, contrast)
    progress("done", 1.0)
    return rounded(style)


def started(prior: FlatPrior, seed: int) -> DualStyleGAN:
    """The network of stage 1: the prior with an extrinsic path that changes nothing yet but colours, by mixing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DualStyleGAN(prior.generator.config)
    network.generator.load_state_dict(prior.generator.state_dict())
    return network


@torch.no_grad()
def rounded(style: LearntStyle) -> LearntStyle:
    """The same in half precision's numbers, so that a saved style draws what the learnt one does."""
    for module in style.modules().values():
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    extrinsic, intrinsic, favour = (each.half().float() for each in (style.extrinsic, style.intrinsic, style.favour))
    contrast = Contrast(style.contrast.gains.half().float(), style.contrast.colours.half().float())
    return LearntStyle(style.prior, style.network, extrinsic, intrinsic, favour, style.sampler, contrast)
