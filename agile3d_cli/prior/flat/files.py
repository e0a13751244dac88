"""Files of the flat prior: generator and encoder in half precision, with their sizes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config
from agile3d_cli.prior.flat.config import FlatConfig

GENERATOR, ENCODER, STATE = "flat.safetensors", "flat_encoder.safetensors", "state.safetensors"
NOISE = "noise_const"
"""Noise maps are never used and not stored."""
ENTRY = "agile3d"


def write(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, object]) -> None:
    """Writes tensors with a JSON entry under another name, then puts the file in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    save_file(whole, temporary, {ENTRY: json.dumps(about)})
    os.replace(temporary, path)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors on the CPU, and the JSON entry."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()[ENTRY])  # noqa: SIM118


def save_generator(path: Path, student: StyleGAN2, config: FlatConfig) -> None:
    """The generator without its noise maps."""
    tensors = {name: value.half() for name, value in student.state_dict().items() if NOISE not in name}
    write(path, tensors, {"kind": "flat", "sizes": asdict(student.config), "training": asdict(config)})


def load_generator(path: Path) -> tuple[StyleGAN2, float]:
    """The generator, frozen, in single precision, and the ``spread`` that ``flat_code`` needs."""
    tensors, about = read(path)
    sizes, training = about["sizes"], about["training"]
    assert isinstance(sizes, dict) and isinstance(training, dict)
    student = StyleGAN2(StyleGAN2Config(**sizes | {"widths": tuple(sizes["widths"])}))
    maps = {name: torch.zeros_like(value) for name, value in student.state_dict().items() if NOISE in name}
    student.load_state_dict(maps | {name: value.float() for name, value in tensors.items()})
    return student.eval().requires_grad_(False), float(training["spread"])


def save_encoder(path: Path, encoder: FlatEncoder) -> None:
    """The encoder."""
    tensors = {name: value.half() for name, value in encoder.state_dict().items()}
    write(path, tensors, {"kind": "flat-encoder", "sizes": asdict(encoder.config)})


def load_encoder(path: Path) -> FlatEncoder:
    """The encoder, frozen, in single precision."""
    tensors, about = read(path)
    sizes = about["sizes"]
    assert isinstance(sizes, dict)
    lists = {name: tuple(sizes[name]) for name in ("groups", "widths")}
    encoder = FlatEncoder(FlatEncoderConfig(**sizes | lists))
    encoder.load_state_dict({name: value.float() for name, value in tensors.items()})
    return encoder.eval().requires_grad_(False)
