"""A fitted style as a safetensors file and back.

What was learnt from exemplars is held whole, in half precision. Of a published style the file holds where it lies, the
hash of its generator and whose code is taken: its weights are not ours to copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agile3d_cli.errors import Agile3dError, RefusedError
from agile3d_cli.models.contrast import BANDS, Contrast
from agile3d_cli.models.flat import NOISE, FlatPrior
from agile3d_cli.models.flat_encoder import FlatEncoder, FlatEncoderConfig
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config
from agile3d_cli.safefile import Card, file_sha256, read_card, read_tensors, write_file
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.folder import FolderStyle, open_folder
from agile3d_dualstylegan.learn import LearntStyle
from agile3d_dualstylegan.network import DualStyleGAN
from agile3d_dualstylegan.published import GENERATOR
from agile3d_dualstylegan.sampler import StyleSampler

FORMAT, STYLIZER, VERSION = "stylizer", "dualstylegan", 2
CODES = ("extrinsic", "intrinsic", "favour")
GAINS, COLOURS = "gains", "colours"
COUNT = "num_batches_tracked"
"""Of batch norms: never used and not stored."""


def write_state(path: Path, config: DualstyleganConfig, style: LearntStyle | FolderStyle) -> None:
    """Writes a style; the same style gives the same bytes."""
    meta: dict[str, Any] = {"format": FORMAT, "version": VERSION, "stylizer": STYLIZER, "config": asdict(config)}
    if isinstance(style, FolderStyle):
        published = {"sha256": file_sha256(Path(config.folder) / GENERATOR), "exemplar": style.chosen}
        write_file(Path(path), meta | {"published": published}, {})
        return
    meta["sizes"] = {
        "generator": asdict(style.prior.generator.config),
        "encoder": asdict(style.prior.encoder.config),
        "sampler": style.sampler.structure.width,
    }
    tensors = {name: getattr(style, name).half() for name in CODES}
    tensors |= {GAINS: style.contrast.gains.half(), COLOURS: style.contrast.colours.half()}
    for part, module in style.modules().items():
        stored = {f"{part}.{name}": value for name, value in module.state_dict().items() if _kept(part, name)}
        tensors |= {name: value.half() for name, value in stored.items()}
    write_file(Path(path), meta, tensors)


def read_state(path: Path) -> tuple[DualstyleganConfig, LearntStyle | FolderStyle]:
    """Reads what ``write_state`` wrote.

    Raises:
        MissingError: the folder of a published style is not there any more.
        RefusedError: the file is damaged or another stylizer's, or the published style is not the one of the fit.
    """
    card = read_card(Path(path), FORMAT, (VERSION,))
    if card.meta.get("stylizer") != STYLIZER:
        raise RefusedError(f"{path} belongs to the stylizer {card.meta.get('stylizer')!r}, not to {STYLIZER!r}.")
    tensors = read_tensors(card)
    try:
        config = DualstyleganConfig(**_tuples(card.meta["config"]))
        published = card.meta.get("published")
        if published is None:
            return config, _learnt(card, {name: value.float() for name, value in tensors.items()})
        sha256, exemplar = str(published["sha256"]), str(published["exemplar"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, Agile3dError) as error:
        raise RefusedError(f"{path} is not a complete dualstylegan style ({error}); fit it again.") from error
    found = open_folder(config, exemplar)
    if file_sha256(Path(config.folder) / GENERATOR) != sha256:
        raise RefusedError(f"{path} was fitted to another style than the one in {config.folder}; fit it again.")
    return config, found


def _learnt(card: Card, tensors: Mapping[str, Tensor]) -> LearntStyle:
    sizes = card.meta["sizes"]
    shape = StyleGAN2Config(**_tuples(sizes["generator"]))
    prior = FlatPrior(StyleGAN2(shape), FlatEncoder(FlatEncoderConfig(**_tuples(sizes["encoder"]))))
    sampler = StyleSampler(shape.num_ws, shape.w_dim, int(sizes["sampler"]))
    contrast = Contrast(tensors[GAINS], tensors[COLOURS])
    if (contrast.gains.shape, contrast.colours.shape) != ((BANDS + 1,), (2, 3)):
        raise ValueError("its gains are not those of the bands")
    extrinsic, intrinsic, favour = (tensors[name] for name in CODES)
    style = LearntStyle(prior, DualStyleGAN(shape), extrinsic, intrinsic, favour, sampler, contrast)
    if {each.shape[1:] for each in (style.extrinsic, style.intrinsic)} != {(shape.num_ws, shape.w_dim)}:
        raise ValueError("its codes are of another size than its generator")
    if not len(style.extrinsic) == len(style.intrinsic) == style.favour.numel():
        raise ValueError("it holds a part of its exemplars")
    known = {*CODES, GAINS, COLOURS}
    for part, module in style.modules().items():
        given = {name: tensors[f"{part}.{name}"] for name in module.state_dict() if _kept(part, name)}
        known |= {f"{part}.{name}" for name in given}
        plain = {name: torch.zeros_like(value) for name, value in module.state_dict().items() if NOISE in name}
        plain |= {name: value for name, value in module.state_dict().items() if COUNT in name}
        intrinsic = {name: tensors[f"generator.{_own(name)}"] for name in module.state_dict() if _shared(part, name)}
        module.load_state_dict(plain | intrinsic | given)
        module.eval().requires_grad_(False)
    if set(tensors) != known:
        raise ValueError(f"it holds {', '.join(sorted(set(tensors) - known))} as well")
    return style


def _kept(part: str, name: str) -> bool:
    return not (NOISE in name or COUNT in name or _shared(part, name))


def _shared(part: str, name: str) -> bool:
    """Whether a tensor of the network is the prior's own, which is held once."""
    from agile3d_dualstylegan.strokes import COARSE

    if part != "network" or not name.startswith("generator.") or NOISE in name:
        return False
    words = _own(name).split(".")
    return words[0] != "blocks" or int(words[1]) < COARSE


def _own(name: str) -> str:
    return name.removeprefix("generator.")


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
