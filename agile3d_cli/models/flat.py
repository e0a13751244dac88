"""The flat prior: a small StyleGAN2 that draws heads of the base generator, and a variational encoder of pictures.

2D stylizers start from it where the user has no larger weights; ``prior/flat`` makes it.
Source: AgileGAN (Song et al., SIGGRAPH 2021), sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agile3d_cli.bundle import read_model
from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config

KIND = "flat-prior"
FILE = "flat.safetensors"
CAMERA_NUMBERS = 2
"""Last numbers of a code, which say where the camera stands: for its yaw and for its pitch."""
DRAWS = 16
"""Half of the codes that stand for what a code leaves open."""
NOISE = "noise_const"
"""Noise maps are never used and not stored."""


@dataclass(frozen=True)
class FlatPrior:
    """Both networks, frozen, in single precision, on the CPU."""

    generator: StyleGAN2
    encoder: FlatEncoder

    @torch.no_grad()
    def codes(self, images: Tensor) -> Tensor:
        """Mean codes (N, groups, w_dim), about standard normal, of pictures (N, 3, H, W) in [-1, 1] at the portrait
        framing."""
        mean: Tensor = self.encoder(images)[0]
        return mean

    def styles(self, codes: Tensor) -> Tensor:
        """Codes (N, groups, w_dim) to the generator's styles (N, num_ws, w_dim)."""
        styles: Tensor = self.generator.mapping(self.encoder.styles(codes))
        return styles

    def expected_styles(self, codes: Tensor) -> Tensor:
        """``styles`` of codes that leave something open, see ``expected_style``."""
        return self.encoder.styles(expected_style(self.generator.mapping, codes))


def expected_style(mapping: nn.Module, codes: Tensor) -> Tensor:
    """Styles of codes (..., w_dim), of which those shorter than usual stand for all that they leave open.

    The mapping looks at a code's direction alone, so the mean of what is possible, which is short, would be taken for a
    rare extreme; its style is the mean over codes of usual length around it. Told faces are redrawn at 20.6 instead of
    16.0 dB with it.
    """
    missing = (1 - codes.square().mean(-1, keepdim=True)).clamp(min=0).sqrt()
    chance = torch.randn(DRAWS, codes.shape[-1], generator=torch.Generator().manual_seed(0)).to(codes)
    drawn = codes[..., None, :] + missing[..., None, :] * torch.cat([chance, -chance])
    styles: Tensor = mapping(drawn).mean(-2)
    return styles


def architecture(prior: FlatPrior) -> dict[str, Any]:
    """The architecture entry of a model file."""
    return {"kind": KIND, "generator": asdict(prior.generator.config), "encoder": asdict(prior.encoder.config)}


def tensors_of(prior: FlatPrior) -> dict[str, Tensor]:
    """What a model file holds, half precision."""
    parts = (("generator", prior.generator), ("encoder", prior.encoder))
    stored = {f"{part}.{name}": value for part, network in parts for name, value in network.state_dict().items()}
    return {name: value.detach().half() for name, value in stored.items() if NOISE not in name}


def read_flat(path: Path) -> FlatPrior:
    """Reads a flat prior.

    Raises:
        MissingError: there is no such file.
        RefusedError: the file is damaged or holds another kind of network.
    """
    model = read_model(path)
    if model.architecture.get("kind") != KIND:
        raise RefusedError(f"{path} holds a {model.architecture.get('kind')!r}, not a {KIND}; choose another file.")
    try:
        generator = StyleGAN2(StyleGAN2Config(**_tuples(model.architecture["generator"])))
        encoder = FlatEncoder(FlatEncoderConfig(**_tuples(model.architecture["encoder"])))
        stored = {name: value.float() for name, value in model.tensors.items()}
        noise = {name: torch.zeros_like(value) for name, value in generator.state_dict().items() if NOISE in name}
        generator.load_state_dict(noise | _part(stored, "generator."))
        encoder.load_state_dict(_part(stored, "encoder."))
        if sum(encoder.config.groups) != generator.config.num_ws:
            raise ConfigError("the encoder's groups are not those of the generator")
    except (ConfigError, KeyError, TypeError, RuntimeError) as error:
        raise RefusedError(f"{path} is damaged: its tensors do not fit its architecture ({error}).") from error
    return FlatPrior(generator.eval().requires_grad_(False), encoder.eval().requires_grad_(False))


def shipped_flat() -> FlatPrior:
    """The flat prior that is shipped, read anew at each call so that its networks may be trained on."""
    with as_file(files("agile3d_cli") / "assets" / FILE) as path:
        return read_flat(path)


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
