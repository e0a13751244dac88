"""A published style on the user's disk -> its networks and the codes of its exemplars. Nothing in the files is run.

Layout: a folder for each style with ``generator.pt``, exemplar codes and, for the older styles, ``sampler.pt``; the
``encoder.pt`` that all of them share lies beside these folders or in them. The files are others' work under a licence
that forbids commercial use, and neither come with this package nor are fetched by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models.foreign_files import read_checkpoint, read_exemplar_codes
from agile3d_cli.models.stylegan2 import StyleGAN2Config
from agile3d_dualstylegan.encoder import FaceEncoder, encoder_from
from agile3d_dualstylegan.network import DualStyleGAN, generator_from
from agile3d_dualstylegan.sampler import StyleSampler, sampler_from

GENERATOR, SAMPLER, ENCODER = "generator.pt", "sampler.pt", "encoder.pt"
CODES = ("refined_exstyle_code.npy", "exstyle_code.npy")
"""Either is enough; the first, fitted once more to the finished generator, is preferred."""


@dataclass(frozen=True)
class PublishedStyle:
    """A style with all that it takes to draw a face in it."""

    generator: DualStyleGAN
    codes: dict[str, Tensor]
    """Exemplar's file name -> its code (1, num_ws, w_dim) in Z+, in the order by which the published scripts count."""
    encoder: FaceEncoder
    """Gives Z+ codes."""
    sampler: StyleSampler | None
    """None for a style that was published without."""


def read_style(folder: Path) -> PublishedStyle:
    """A style's folder.

    Raises:
        MissingError: the folder or files in it are not there; the message names all that are missing.
        RefusedError: a file is unsafe, damaged, of another network, or does not fit the others.
    """
    if not folder.is_dir():
        raise MissingError(f"There is no folder {folder}; give the folder of one style, with {GENERATOR} in it.")
    codes = next((folder / name for name in CODES if (folder / name).is_file()), None)
    encoder = next((place / ENCODER for place in (folder, folder.parent) if (place / ENCODER).is_file()), None)
    lost = [] if (folder / GENERATOR).is_file() else [GENERATOR]
    lost += [] if codes else [" or ".join(CODES)]
    lost += [] if encoder else [f"{ENCODER} (there or in {folder.parent})"]
    if codes is None or encoder is None or lost:
        raise MissingError(
            f"The style in {folder} lacks {', '.join(lost)}. Put the files that DualStyleGAN's authors publish there; "
            "they are not part of agile3d."
        )
    generator = read_generator(folder / GENERATOR)
    found = read_encoder(encoder)
    sizes = generator.config.num_ws, generator.config.w_dim
    if (found.decoder.config.num_ws, found.decoder.config.w_dim) != sizes:
        raise RefusedError(f"{encoder} is of another size than {folder / GENERATOR}; take the two of one release.")
    sampler = read_sampler(folder / SAMPLER, generator.config) if (folder / SAMPLER).is_file() else None
    return PublishedStyle(generator, read_codes(codes, generator.config), found, sampler)


def read_generator(path: Path) -> DualStyleGAN:
    """The generator of a ``generator.pt``; snapshots of its training are read as well."""
    found = read_checkpoint(path)
    with _naming(path):
        return generator_from(_tensors(found, "g_ema"))


def read_encoder(path: Path) -> FaceEncoder:
    """The encoder of an ``encoder.pt`` (codes in Z+) or an ``encoder_wplus.pt`` (in W+)."""
    found = read_checkpoint(path)
    with _naming(path):
        tensors = _tensors(found, "state_dict")
        options, mean = found.get("opts"), found.get("latent_avg")
        if not isinstance(options, dict) or not (mean is None or isinstance(mean, Tensor)):
            raise RefusedError("It holds no options under 'opts', which say how the encoder is used.")
        return encoder_from(tensors, options, mean)


def read_sampler(path: Path, config: StyleGAN2Config) -> StyleSampler:
    """The sampler of a ``sampler.pt`` for a generator of that size."""
    found = read_checkpoint(path)
    with _naming(path):
        sampler = sampler_from(_tensors(found, "structure"), _tensors(found, "color"))
        if (sampler.styles, sampler.w_dim) != (config.num_ws, config.w_dim):
            raise RefusedError("It draws codes of another size than the generator takes.")
        return sampler


def read_codes(path: Path, config: StyleGAN2Config) -> dict[str, Tensor]:
    """Exemplar codes of an ``exstyle_code.npy`` or a ``refined_exstyle_code.npy`` for a generator of that size."""
    found = read_exemplar_codes(path)
    if not found:
        raise RefusedError(f"{path} holds no exemplar code; the file is not complete.")
    wanted = (1, config.num_ws, config.w_dim)
    for name, code in found.items():
        if tuple(code.shape) != wanted:
            raise RefusedError(f"{path}: the code of {name} is {tuple(code.shape)}, this generator takes {wanted}.")
        if not torch.isfinite(code).all():
            raise RefusedError(f"{path}: the code of {name} holds numbers that are not finite; the file is damaged.")
    return {name: code.float() for name, code in found.items()}


def _tensors(found: Any, key: str) -> dict[str, Tensor]:
    """Named tensors under a key of what a file holds."""
    tensors = found.get(key) if isinstance(found, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        raise RefusedError(f"It holds no tensors under '{key}'.")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not value.numel():
            raise RefusedError(f"What it holds under '{key}' as {name} is not a tensor with numbers in it.")
    return tensors


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Says in refusals which file it was."""
    try:
        yield
    except RefusedError as error:
        raise RefusedError(f"{path} is refused. {error}") from error
