"""Tensors of official EG3D checkpoints -> our names. Pure data: whoever reads the file does so without running it.

In: a plain dictionary of named tensors (what the file's ``G_ema`` holds). Out: a state for ``TriplaneGenerator``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.generator import TriplaneGenerator

LAYER = ("affine.weight", "affine.bias", "weight", "bias")
NOISE = ("noise_strength", "noise_const")
FILTER = "resample_filter"
"""The blur's taps, the same constant in every layer; ours are computed."""
SHOWN = 5
"""Names that a message lists."""


def eg3d_names(config: GeneratorConfig) -> dict[str, str]:
    """Official name of every tensor of ours that an official file holds: ours -> theirs."""
    names = {"mapping.w_avg": "backbone.mapping.w_avg"}
    if config.label_dim:
        names |= {f"mapping.embed.{part}": f"backbone.mapping.embed.{part}" for part in ("weight", "bias")}
    for k in range(config.mapping_layers):
        names |= {f"mapping.layers.{k}.{part}": f"backbone.mapping.fc{k}.{part}" for part in ("weight", "bias")}
    for k, resolution in enumerate(config.resolutions):
        ours, theirs = f"backbone.blocks.{k}", f"backbone.synthesis.b{resolution}"
        if k == 0:
            names[f"{ours}.const"] = f"{theirs}.const"
        for conv in ("conv0", "conv1") if k else ("conv1",):
            names |= {f"{ours}.{conv}.{part}": f"{theirs}.{conv}.{part}" for part in LAYER + NOISE}
        names |= {f"{ours}.output.{part}": f"{theirs}.torgb.{part}" for part in LAYER}
    for k in range(len(config.superresolution.sizes)):
        ours, theirs = f"superresolution.blocks.{k}", f"superresolution.block{k}"
        for conv, name in (("conv0", "conv0"), ("conv1", "conv1"), ("output", "torgb")):
            names |= {f"{ours}.{conv}.{part}": f"{theirs}.{name}.{part}" for part in LAYER}
    for layer, number in (("hidden", 0), ("output", 2)):
        names |= {f"decoder.{layer}.{part}": f"decoder.net.{number}.{part}" for part in ("weight", "bias")}
    return names


def from_eg3d(tensors: Mapping[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    """An official generator's tensors as the state of a ``TriplaneGenerator(config)``.

    Raises:
        RefusedError: tensors are missing, unknown, of a wrong shape or not finite.
    """
    with torch.device("meta"):
        wanted = TriplaneGenerator(config).state_dict()
    names = eg3d_names(config)
    # Buffers that only our generators have, all empty for EG3D's.
    state = {name: torch.zeros(value.shape) for name, value in wanted.items() if name not in names}
    odd = [name for name, value in state.items() if value.numel()]
    if odd:
        raise RefusedError(f"An EG3D checkpoint has no {_listed(odd)}; import it with a plain configuration.")
    used = {name: value for name, value in tensors.items() if not left_away(name)}
    return state | renamed(used, names, wanted, "an EG3D generator")


def renamed(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], wanted: Mapping[str, Tensor], kind: str
) -> dict[str, Tensor]:
    """Foreign tensors under our names, in single precision.

    Args:
        tensors: what the file holds, and nothing beyond it.
        names: our name of each tensor -> theirs.
        wanted: our state, for the shapes; edges of length one may stand elsewhere in theirs.
        kind: what the file should hold, for messages.

    Raises:
        RefusedError: tensors are missing, unknown, of a wrong shape or not finite.
    """
    known = set(names.values())
    extra, missing = sorted(set(tensors) - known), sorted(known - set(tensors))
    if extra or missing:
        told = [f"{word} {_listed(keys)}" for word, keys in (("unknown", extra), ("missing", missing)) if keys]
        raise RefusedError(f"The checkpoint is not {kind} of the expected size: {'; '.join(told)}.")
    state = {}
    for ours, theirs in names.items():
        value, shape = tensors[theirs], wanted[ours].shape
        if [edge for edge in value.shape if edge > 1] != [edge for edge in shape if edge > 1]:
            found, expected = tuple(value.shape), tuple(shape)
            raise RefusedError(f"The checkpoint's {theirs} is {found}, expected {expected}; it is of another size.")
        if not torch.isfinite(value).all():
            raise RefusedError(f"The checkpoint's {theirs} holds numbers that are not finite; the file is damaged.")
        state[ours] = value.reshape(shape).float()
    return state


def left_away(name: str) -> bool:
    """Whether an official tensor takes no part: blur taps, and the noise that super-resolution never adds."""
    last = name.rsplit(".", 1)[-1]
    return last == FILTER or (name.startswith("superresolution.") and last in NOISE)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
