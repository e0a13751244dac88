"""Model files <-> generators.

A model file holds the generator's own state under its own names, in half precision, and beside it what belongs to the
mean head: where the 468 landmarks lie in canonical space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.bundle import BaseReference, Model, read_model
from agile3d_cli.errors import ConfigError, RefusedError, UsageError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.encoder import Encoder, shipped_encoder
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.registry import find_file

KIND = "triplane-generator"
LANDMARKS, STARTS = "landmarks", "starts"
ENCODED = "mini"
"""The generator whose latents the shipped encoder guesses."""


@dataclass(frozen=True)
class BaseModel:
    """A generator ready for use, frozen, with what the flows need to know of it."""

    generator: TriplaneGenerator
    landmarks: Tensor | None
    """(468, 3) places of the face mesh on the mean head, world units; None for imported generators."""
    starts: Tensor | None
    """(A, z_dim) hair styles to start an inversion from, 0 where the photo decides; None for imported generators."""
    encoder: Encoder | None
    """Guesses latents from photos; None for all but the shipped generator."""
    reference: BaseReference
    licenses: tuple[LicenseNote, ...]

    @property
    def imported(self) -> bool:
        """Whether it is one of the EG3D family that was trained elsewhere: where its landmarks lie is not known."""
        return self.landmarks is None

    @property
    def framing(self) -> str:
        """Whose average face photos are framed by, see ``FaceConfig.template``: the heads this generator makes."""
        return "standard" if self.imported else "mini"


def generator_tensors(
    generator: TriplaneGenerator, landmarks: Tensor | None = None, starts: Tensor | None = None
) -> dict[str, Tensor]:
    """What a model file holds, half precision."""
    tensors = {name: value.detach().half() for name, value in generator.state_dict().items()}
    beside = {LANDMARKS: landmarks, STARTS: starts}
    return tensors | {name: value.float() for name, value in beside.items() if value is not None}


def architecture(config: GeneratorConfig) -> dict[str, object]:
    """The architecture entry of a model file."""
    return {"kind": KIND, **config.to_dict()}


def load_base(name_or_file: str, device: torch.device | str = "cpu") -> BaseModel:
    """Reads a generator.

    Raises:
        MissingError: no such model.
        RefusedError: the file is damaged, of another kind, or its tensors do not fit its architecture.
    """
    path = find_file(name_or_file, "model")
    model = read_model(path)
    generator, beside = build(model, path)
    encoder = shipped_encoder() if model.name == ENCODED else None
    return BaseModel(
        generator=generator.to(device),
        landmarks=beside[LANDMARKS].to(device) if LANDMARKS in beside else None,
        starts=beside[STARTS].to(device) if STARTS in beside else None,
        encoder=None if encoder is None else encoder.to(device),
        reference=model.reference,
        licenses=model.licenses,
    )


def for_portraits(base: BaseModel) -> BaseModel:
    """The same, if photos can be fitted with it.

    Raises:
        UsageError: it is an imported one.
    """
    if base.imported:
        raise UsageError(
            f"The generator {base.reference.name!r} is an imported one: where the landmarks of its heads lie is not "
            "known, by which photos are fitted. Use the generator 'mini', and styles that were learnt with it."
        )
    return base


def build(model: Model, path: Path) -> tuple[TriplaneGenerator, dict[str, Tensor]]:
    """The generator of a model in memory, frozen, in single precision, and what the file holds beside it."""
    fields = dict(model.architecture)
    if fields.pop("kind", None) != KIND:
        raise RefusedError(f"{path} holds a {model.architecture.get('kind')!r}, not a generator; choose another model.")
    try:
        generator = TriplaneGenerator(GeneratorConfig.from_dict(fields))
    except (ConfigError, KeyError, TypeError) as error:
        raise RefusedError(f"{path} is damaged: its architecture cannot be built ({error}).") from error
    tensors = {name: value.float() for name, value in model.tensors.items()}
    beside = {name: tensors.pop(name) for name in (LANDMARKS, STARTS) if name in tensors}
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:
        raise RefusedError(f"{path} is damaged: its tensors do not fit its architecture.") from error
    return generator.eval().requires_grad_(False), beside
