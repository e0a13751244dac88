"""A published style folder -> faces redrawn by its own networks: nothing is learnt but whose code fits the exemplars.

The files are others' work, stay where the user has put them, and keep their terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.stylegan2 import truncated
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.dial import SCRIPT_TRUNCATION, STRUCTURE
from agile3d_dualstylegan.dial import dial as even_dial
from agile3d_dualstylegan.published import PublishedStyle, read_style

SEEN = 256
"""Edge of the pictures that the published encoder looks at."""
SAMPLES = 2
"""Codes that the published sampler draws together, of which the first is taken: one alone it cannot draw."""


@dataclass(frozen=True)
class FolderStyle:
    """A published style and whose code is taken."""

    published: PublishedStyle
    code: Tensor
    """(1, num_ws, w_dim) Z+."""
    chosen: str
    """File name of the exemplar; empty for the mean of all, or a drawn code."""

    @torch.no_grad()
    def draw(self, images: Tensor, weights: Sequence[float]) -> Tensor:
        """Pictures (N, 3, size, size) of faces (N, 3, H, W) in [-1, 1]."""
        generator = self.published.generator
        mapping = generator.generator.mapping
        faces = mapping(self.published.encoder.codes(resized(images, SEEN)))
        return generator(truncated(faces, 0 * faces, SCRIPT_TRUNCATION), mapping(self.code), weights)


def open_folder(config: DualstyleganConfig, chosen: str = "") -> FolderStyle:
    """The style in ``config.folder`` with the code of one exemplar, or by ``config.choice``.

    Raises:
        ConfigError: there is no such exemplar, or no sampler to draw from.
        MissingError: the folder or files in it are not there.
        RefusedError: a file is unsafe, damaged, or does not fit the others.
    """
    published = read_style(Path(config.folder))
    names = list(published.codes)
    if config.exemplar:
        if config.exemplar > len(names):
            raise ConfigError(f"The style in {config.folder} has {len(names)} exemplars, not {config.exemplar}.")
        chosen = names[config.exemplar - 1]
    if chosen:
        if chosen not in published.codes:
            raise ConfigError(f"The style in {config.folder} has no exemplar {chosen}; fit it again.")
        return FolderStyle(published, published.codes[chosen], chosen)
    if config.choice == "sampled":
        if published.sampler is None:
            raise ConfigError(f"The style in {config.folder} has no sampler; choose another way to choose its style.")
        drawn = published.sampler.draw(SAMPLES, torch.Generator().manual_seed(config.sample), of_batch=True)
        return FolderStyle(published, drawn[:1].detach(), "")
    return FolderStyle(published, torch.cat(list(published.codes.values())).mean(0, keepdim=True), "")


@torch.no_grad()
def fitting_exemplar(style: FolderStyle, exemplars: Sequence[Tensor]) -> str:
    """File name of the published exemplar whose code is nearest to those of pictures (3, S, S), by colour and shape."""
    codes = torch.cat(
        [style.published.encoder.codes(resized(one.detach().float().cpu()[None], SEEN)) for one in exemplars]
    )
    names = list(style.published.codes)
    known = torch.cat([style.published.codes[name] for name in names])
    apart = torch.cdist(codes.flatten(1), known.flatten(1)).square()
    return names[int(apart.mean(0).argmin())]


def dial_of(config: DualstyleganConfig, styles: int) -> tuple[float, ...]:
    """The dial that settings ask of a generator with so many styles.

    Raises:
        ConfigError: it has another number of weights.
    """
    if config.dial and len(config.dial) != styles:
        raise ConfigError(f"DualstyleganConfig.dial has {len(config.dial)} weights; this generator takes {styles}.")
    assert styles > STRUCTURE
    return config.dial or even_dial(config.structure, config.color, styles)
