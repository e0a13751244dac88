"""Photo -> first guess of the latent, and how sure it is: where an inversion starts and what it is held to.

Two experts look at one photo, one at the crop and one at the wider picture with the hair. Each tells a mean and a
deviation for every coordinate of z beyond the shape, which landmarks give more exactly, and for every trait (colours
and amounts), which is seen more directly than the coordinates that it follows from. Their guesses are combined as
independent evidence under the standard normal prior, so any number of photos of one person could be; then the latent is
taken that agrees best with both kinds of guess.

Source: the experts read features of EfficientNet-Lite0 (``perceptual``), colours and the person mask; products of
Gaussian experts after Hinton, "Products of Experts" (1999). AgileGAN3D (arXiv 2303.14297) trains its encoder from
pictures with known cameras too. Made by ``prior/encode.py``; a deeper network on the same evidence was no better.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from agile3d_cli.models.backbone import Mapping
from agile3d_cli.models.perceptual import features

SIZE = 144
"""Edge of the pictures that are looked at, pixels."""
TAPS = (2, 3)
"""Of ``perceptual.features``: 40 and 112 channels."""
CELLS = 4
"""Features are averaged over so many cells along each side."""
COLOURS = 12
"""Colours and mask over so many."""
EVIDENCE = (40 + 112) * CELLS**2 + 4 * COLOURS**2
VIEWS = ("crop", "wide")
AGREEING = 40
"""Steps of the search for the latent that agrees with coordinates and traits."""


@dataclass(frozen=True)
class Guess:
    """A normal distribution over numbers that are standard normal by themselves."""

    mean: Tensor
    """(N, D)."""
    deviation: Tensor
    """(N, D), at most about 1, which is knowing nothing."""

    def split(self, count: int) -> tuple[Guess, Guess]:
        """The first ``count`` numbers, and the others."""
        means, deviations = self.mean.split([count, self.mean.shape[1] - count], 1), self.deviation
        return Guess(means[0], deviations[:, :count]), Guess(means[1], deviations[:, count:])


def evidence(picture: Tensor, matte: Tensor) -> Tensor:
    """What the experts look at, (N, EVIDENCE).

    Args:
        picture: (N, 3, H, W) in [-1, 1].
        matte: (N, 1, H, W) in [0, 1], the person; everything else becomes grey.
    """
    shown = F.interpolate(picture * matte, (SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
    found = features(shown)
    parts = [F.adaptive_avg_pool2d(found[tap], CELLS) for tap in TAPS]
    parts += [F.interpolate(x, (COLOURS, COLOURS), mode="area") for x in (shown, matte)]
    return torch.cat([part.flatten(1) for part in parts], 1)


class Expert(nn.Module):
    """Evidence (N, EVIDENCE) of one kind of picture to a guess, linearly; how sure it is was measured once."""

    mean: Tensor
    deviation: Tensor
    sure: Tensor

    def __init__(self, outputs: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(EVIDENCE))
        self.register_buffer("deviation", torch.ones(EVIDENCE))
        self.register_buffer("sure", torch.ones(outputs))
        self.layer = nn.Linear(EVIDENCE, outputs).requires_grad_(False)

    def standard(self, seen: Tensor) -> Tensor:
        """Evidence in units of its spread in training."""
        return ((seen - self.mean) / self.deviation).clamp(-4, 4)

    def forward(self, seen: Tensor) -> Guess:
        mean: Tensor = self.layer(self.standard(seen))
        return Guess(mean, self.sure.expand_as(mean))


class Encoder(nn.Module):
    """An expert for each of ``VIEWS``."""

    def __init__(self, outputs: int):
        super().__init__()
        self.experts = nn.ModuleDict({view: Expert(outputs) for view in VIEWS})

    def forward(self, **pictures: tuple[Tensor, Tensor]) -> Guess:
        """``crop=(picture, matte), wide=(picture, matte)`` of the same N people, either or both, to one guess."""
        return combined([self.experts[view](evidence(*shown)) for view, shown in pictures.items()])


def combined(guesses: list[Guess]) -> Guess:
    """Independent guesses under a standard normal prior, of which each has used the prior once."""
    precision = sum((g.deviation**-2 - 1).clamp(min=0) for g in guesses) + torch.ones_like(guesses[0].mean)
    mean = sum(g.mean * g.deviation**-2 for g in guesses) / precision.clamp(min=1)
    return Guess(mean, precision**-0.5)


def agreed(guess: Guess, lead: Tensor, mapping: Mapping) -> Guess:
    """The coordinates of z beyond the shape that agree with what was guessed of them and of the traits.

    Args:
        guess: (N, D + traits), in this order.
        lead: (N, components) the coordinates of the shape, on which traits such as age depend, too.
        mapping: of the generator.

    Returns:
        (N, D), as sure of each coordinate as the guess.
    """
    own, traits = guess.split(mapping.config.z_dim - lead.shape[1])
    z = own.mean.clone().requires_grad_(True)
    with torch.enable_grad():
        optimizer = torch.optim.LBFGS([z], max_iter=AGREEING, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            said = mapping.traits(mapping.entry(torch.cat([lead, z], 1))[0])
            away = ((z - own.mean) / own.deviation).square().sum()
            loss = away + ((said - traits.mean) / traits.deviation).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    return Guess(z.detach(), own.deviation)


@cache
def shipped_encoder() -> Encoder:
    """The encoder of the shipped generator ``mini``."""
    with as_file(files("agile3d_cli") / "assets" / "mini_encoder.safetensors") as path:
        stored = {name: values.float() for name, values in load_file(path).items()}
    encoder = Encoder(len(stored[f"experts.{VIEWS[0]}.sure"]))
    encoder.load_state_dict(stored)
    return encoder.eval().requires_grad_(False)
