"""A style as a safetensors file and back: the prior, and what became of its generator, in half precision.

The mapping is the prior's, so it is stored once. A published style is stored as its own networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agile3d_agilegan.branches import Division
from agile3d_agilegan.config import AgileganConfig
from agile3d_agilegan.drawing import Drawing
from agile3d_agilegan.model import LearntStyle
from agile3d_agilegan.network import BranchedGenerator
from agile3d_agilegan.official import Official
from agile3d_agilegan.score import Score
from agile3d_cli.errors import Agile3dError, RefusedError
from agile3d_cli.models.contrast import BANDS, Contrast
from agile3d_cli.models.flat import NOISE, FlatPrior
from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig
from agile3d_cli.models.irse import EncoderConfig, VariationalEncoder
from agile3d_cli.models.stylegan2 import Mapping as MappingNetwork
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config
from agile3d_cli.safefile import read_card, read_tensors, write_file

FORMAT, STYLIZER, VERSION = "stylizer", "agilegan", 3
SHARED = "generator.mapping."
"""Of a learnt drawing: the same as the prior's."""


def write_state(path: Path, config: AgileganConfig, style: LearntStyle) -> None:
    """Writes a style."""
    drawing = style.drawing
    learnt = isinstance(drawing, Drawing)
    parts = {"generator": style.prior.generator, "encoder": style.prior.encoder, "drawing": drawing}
    tensors = {
        f"{part}.{name}": value.half() if value.is_floating_point() else value
        for part, network in parts.items()
        for name, value in network.state_dict().items()
        if not (part == "drawing" and learnt and name.startswith(SHARED))
        and not (_silent(name) and _ours(part, learnt))
    }
    meta = {
        "format": FORMAT,
        "version": VERSION,
        "stylizer": STYLIZER,
        "config": asdict(config),
        "kind": "learnt" if learnt else "official",
        "generator": asdict(style.prior.generator.config),
        "encoder": asdict(style.prior.encoder.config),
        "official": _sizes(drawing) if isinstance(drawing, Official) else None,
        "division": asdict(style.division),
        "error": style.error,
        "score": asdict(style.score) if style.score else None,
        "steps": style.steps,
    }
    if style.contrast:
        tensors |= {"gains": style.contrast.gains, "colours": style.contrast.colours}
    write_file(Path(path), meta, tensors | {"palette": style.palette})


def read_state(path: Path) -> tuple[AgileganConfig, LearntStyle]:
    """Reads what ``write_state`` wrote.

    Raises:
        RefusedError: the file is damaged or another stylizer's.
    """
    card = read_card(Path(path), FORMAT, (VERSION,))
    if card.meta.get("stylizer") != STYLIZER:
        raise RefusedError(f"{path} belongs to the stylizer {card.meta.get('stylizer')!r}, not to {STYLIZER!r}.")
    tensors = {
        name: value.float() if value.is_floating_point() else value for name, value in read_tensors(card).items()
    }
    try:
        meta = card.meta
        division, score = Division(**meta["division"]), Score(**meta["score"]) if meta["score"] else None
        with torch.device("meta"):
            generator = StyleGAN2(StyleGAN2Config(**_tuples(meta["generator"])))
            encoder = FlatEncoder(FlatEncoderConfig(**_tuples(meta["encoder"])))
            drawing = _empty(meta, generator.config, division.count)
        _fill(generator, _part(tensors, "generator."))
        _fill(encoder, _part(tensors, "encoder."))
        shared = {f"{SHARED}{name}": value for name, value in generator.mapping.state_dict().items()}
        _fill(drawing, _part(tensors, "drawing.") | (shared if isinstance(drawing, Drawing) else {}))
        style = LearntStyle(
            prior=FlatPrior(generator, encoder),
            drawing=drawing,
            contrast=Contrast(tensors["gains"], tensors["colours"]) if isinstance(drawing, Drawing) else None,
            division=division,
            palette=tensors["palette"],
            error=float(meta["error"]),
            score=score,
            steps=int(meta["steps"]),
        )
        if style.palette.shape != (2, 3):
            raise ValueError("its palette is no palette")
        if style.contrast and (style.contrast.gains.shape, style.contrast.colours.shape) != ((BANDS + 1,), (2, 3)):
            raise ValueError("its gains are not those of the bands")
        config = AgileganConfig(**meta["config"])
    except (KeyError, TypeError, ValueError, RuntimeError, Agile3dError) as error:
        raise RefusedError(f"{path} is not a complete agilegan style ({error}); fit it again.") from error
    return config, style


def _empty(meta: Mapping[str, Any], config: StyleGAN2Config, branches: int) -> Drawing | Official:
    """The stylized network, without numbers."""
    if meta["kind"] == "learnt":
        return Drawing(config, branches)
    sizes = meta["official"]
    drawn = StyleGAN2Config(**_tuples(sizes["generator"]))
    encoder = VariationalEncoder(EncoderConfig(**_tuples(sizes["encoder"])))
    return Official(encoder, MappingNetwork(drawn.w_dim, int(sizes["mapping"])), BranchedGenerator(drawn))


def _sizes(drawing: Official) -> dict[str, Any]:
    return {
        "generator": asdict(drawing.generator.config),
        "encoder": asdict(drawing.encoder.config),
        "mapping": len(drawing.mapping.layers),
    }


def _ours(part: str, learnt: bool) -> bool:
    """Whether a network's noise maps are never used: those of published styles are."""
    return learnt or part != "drawing"


def _silent(name: str) -> bool:
    return NOISE in name


def _fill(network: nn.Module, stored: dict[str, Tensor]) -> None:
    """Puts numbers into a network made on the meta device; noise maps that are not stored are zero."""
    wanted = network.state_dict()
    silent = {name: torch.zeros(value.shape) for name, value in wanted.items() if _silent(name) and name not in stored}
    odd = [name for name, value in stored.items() if name not in wanted or value.shape != wanted[name].shape]
    if odd:
        raise ValueError(f"{odd[0]} does not fit")
    network.load_state_dict(silent | stored, assign=True)
    network.eval().requires_grad_(False)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
