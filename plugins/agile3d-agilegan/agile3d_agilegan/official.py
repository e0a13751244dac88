"""A published style on the user's disk -> its networks, and faces drawn with them. Nothing in the files is run.

``encoder.pt`` holds the hierarchical variational encoder and the mapping that its codes go through; ``<style>.pt`` the
attribute-aware generator. The files are others' work under terms of their own; they neither come with this package nor
are fetched by it. Source: Song et al., "AgileGAN" (SIGGRAPH 2021).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agile3d_agilegan.network import BranchedGenerator, generator_from
from agile3d_cli.camera import portrait_label, project
from agile3d_cli.errors import RefusedError
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.face.template import face_template
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.models.foreign import renamed
from agile3d_cli.models.foreign_files import read_checkpoint
from agile3d_cli.models.foreign_stylegan import mapping_names
from agile3d_cli.models.irse import UNITS, EncoderConfig, VariationalEncoder
from agile3d_cli.models.stylegan2 import Mapping as MappingNetwork

SEEN = 256
"""Edge of the pictures that the encoder takes, pixels."""
EYES_FACTOR, MOUTH_FACTOR, LOWERED = 2.0, 1.8, 0.1
"""The FFHQ square: half its side is the larger of twice the eyes' distance and 1.8 times that from eyes to mouth; its
centre lies a tenth of the way from the eyes to the mouth. Source: Karras et al. 2019, appendix on FFHQ's alignment, as
the published data set uses it."""
COUNTERS = "num_batches_tracked"


class Official(nn.Module):
    """Both networks, frozen."""

    def __init__(self, encoder: VariationalEncoder, mapping: MappingNetwork, generator: BranchedGenerator):
        super().__init__()
        self.encoder, self.mapping, self.generator = encoder, mapping, generator

    @torch.no_grad()
    def forward(self, images: Tensor, branch: int) -> Tensor:
        """Portraits (N, 3, S, S) in [-1, 1], redrawn in their own framing at the size that the generator makes."""
        mean, _ = self.encoder(resized(framed(images, SEEN), SEEN))
        drawn = self.generator(self.mapping(mean), branch).clamp(-1, 1)
        return unframed(drawn)


def read_official(encoder: Path, generator: Path) -> Official:
    """Reads both files.

    Raises:
        MissingError: one is not there.
        RefusedError: one is unsafe, damaged, of another network, or does not fit the other.
    """
    codes, mapping = read_encoder(encoder)
    drawing = read_generator(generator)
    counts = len(codes.styles), codes.fc_mu.out_features
    if counts != (drawing.config.num_ws, drawing.config.w_dim):
        raise RefusedError(f"{encoder} is of another size than {generator}; take the two of one release.")
    return Official(codes, mapping, drawing)


def read_encoder(path: Path) -> tuple[VariationalEncoder, MappingNetwork]:
    """The encoder of an ``encoder.pt``, and the mapping of the decoder inside it."""
    tensors = _tensors(read_checkpoint(path), "state_dict", path)
    own = _part(tensors, "encoder.")
    config = _encoder_config(own, path)
    layers = sum(name.startswith("decoder.style.") and name.endswith(".weight") for name in tensors)
    with torch.device("meta"):
        encoder, mapping = VariationalEncoder(config), MappingNetwork(config.widths[-1], layers)
    try:
        state, stages = encoder.state_dict(), mapping.state_dict()
        numbers = {name: value for name, value in own.items() if not name.endswith(COUNTERS)}
        names = {name: name for name in state if not name.endswith(COUNTERS)}
        found = renamed(numbers, names, state, "an AgileGAN encoder")
        found |= {name: torch.zeros((), dtype=torch.long) for name in state if name.endswith(COUNTERS)}
        encoder.load_state_dict(found, assign=True)
        styles = {name: value for name, value in _part(tensors, "decoder.").items() if name.startswith("style.")}
        mapping.load_state_dict(renamed(styles, mapping_names(layers, "layers"), stages, "a mapping"), assign=True)
    except RefusedError as error:
        raise RefusedError(f"{path} is refused. {error}") from error
    return encoder.eval().requires_grad_(False), mapping.eval().requires_grad_(False)


def read_generator(path: Path) -> BranchedGenerator:
    """The generator of a ``<style>.pt``."""
    tensors = _tensors(read_checkpoint(path), "g_ema", path)
    try:
        return generator_from(tensors)
    except RefusedError as error:
        raise RefusedError(f"{path} is refused. {error}") from error


def framed(images: Tensor, size: int) -> Tensor:
    """Portraits (N, 3, S, S) as FFHQ frames them (N, 3, size, size); the edge continues outside."""
    centre, half = ffhq_square()
    return _cut(images, (2 * centre[0] - 1, 2 * centre[1] - 1), 2 * half, size)


def unframed(images: Tensor) -> Tensor:
    """Pictures in FFHQ's framing as portraits again, of the same size."""
    centre, half = ffhq_square()
    place = (0.5 - centre[0]) / half, (0.5 - centre[1]) / half
    return _cut(images, place, 0.5 / half, images.shape[-1])


@cache
def ffhq_square() -> tuple[tuple[float, float], float]:
    """Centre (u, v) and half the side, portrait fractions, of the square that FFHQ cuts around the average face."""
    points = torch.from_numpy(face_template().points)[None]
    five = five_of(project(portrait_label().double()[None], points)[0].numpy()[:, :2])
    eyes, mouth = five[:2].mean(0), five[3:].mean(0)
    half = max(EYES_FACTOR * np.linalg.norm(five[1] - five[0]), MOUTH_FACTOR * np.linalg.norm(mouth - eyes))
    centre = eyes + LOWERED * (mouth - eyes)
    return (float(centre[0]), float(centre[1])), float(half)


def _cut(images: Tensor, centre: tuple[float, float], scale: float, size: int) -> Tensor:
    """A square of pictures; its centre in [-1, 1] and its side in units of the picture's."""
    move = images.new_tensor([[scale, 0, centre[0]], [0, scale, centre[1]]]).expand(len(images), 2, 3)
    fine = size if scale * images.shape[-1] <= size else int(scale * images.shape[-1])
    grid = F.affine_grid(move, [len(images), 3, fine, fine], align_corners=False)
    return resized(F.grid_sample(images, grid, padding_mode="border", align_corners=False), size)


def _encoder_config(tensors: Mapping[str, Tensor], path: Path) -> EncoderConfig:
    """Sizes of a published encoder from the shapes of its tensors."""
    try:
        first = [sum(UNITS[:k]) for k in range(len(UNITS))]
        widths = tuple(tensors[f"body.{k}.res_layer.1.weight"].shape[0] for k in first)
        reduction = widths[-1] // tensors[f"body.{first[-1]}.res_layer.5.fc1.weight"].shape[0]
        codes = sum(name.startswith("styles.") and name.endswith("linear.weight") for name in tensors)
        return EncoderConfig((widths[0], widths[1], widths[2], widths[3]), codes, reduction)
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise RefusedError(f"{path} holds no AgileGAN encoder: its layers cannot be counted.") from error


def _tensors(found: Any, key: str, path: Path) -> dict[str, Tensor]:
    """Named tensors under a key of what a file holds."""
    tensors = found.get(key) if isinstance(found, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        raise RefusedError(f"{path} holds no tensors under {key!r}; give the file that AgileGAN's authors publish.")
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise RefusedError(f"{path} holds something under {key!r} as {name} that is no tensor; it is damaged.")
    return tensors


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
