"""EG3D generators as MMagic's toolbox saves them -> official names, and what its configuration says beyond the tensors.

In: a generator's tensors without their common prefix. Out: the same numbers under the names of ``foreign.py``, and the
rendering options of the network that MMagic publishes in these sizes. Pure data, as in ``foreign.py``.

MMagic stores what EG3D stores: weights before the gain of the equalised learning rate, which is the same in every
layer (1 / sqrt(inputs), times 0.01 in the mapping), biases of the styles around 1, output channels first. So numbers
stay as they are, and only names and edges of length one differ.
Source: MMagic (Apache-2.0), names and shapes of ``mmagic/models/editors/eg3d``, ``stylegan1`` to ``stylegan3`` and
``pggan``; values of ``configs/eg3d``. Nothing of it was copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agile3d_cli.models.foreign_steps import StepError
from agile3d_cli.models.layers import blur_kernel

MMAGIC = "mmagic"
"""What the record of a conversion calls these names."""
MMAGIC_ANCHOR = "backbone.constant_input.input"
"""A tensor that every generator of the toolbox's EG3D has, and no other network."""
ONE = "1"
"""In a pattern of edges: one of length one, which goes away. Any other sign is an edge that stays."""
LINEAR = {"weight": ("linear.weight_orig", "oi"), "bias": ("bias", "o")}
MODULATED = {
    "weight": ("conv.weight_orig", "1oikk"),
    "affine.weight": ("conv.style_modulation.linear.weight_orig", "oi"),
    "affine.bias": ("conv.style_modulation.bias", "o"),
}
STYLED = MODULATED | {"bias": ("activate.bias", "o"), "noise_strength": ("noise_injector.weight", "1")}
OUTPUT = MODULATED | {"bias": ("bias", "1o11")}
"""Part of an official layer -> the same part in MMagic's, with its edges."""
BLURS = ("conv.blur.kernel", "upsample.kernel")
"""Taps of the blur in a convolution that doubles, and in the output beside it."""
BLUR_GAIN, BLUR_ERROR = 4.0, 1e-4
"""Sum of the taps where pictures are doubled, and how far a tap may be off."""
BLOCKS = 2
"""Of super-resolution."""
MOST_LEVELS, MOST_LAYERS = 10, 64
"""Doublings of the backbone and layers of the mapping."""
SHOWN = 5
SAID = (
    "Also taken: colours are RGB, planes are the published ones (--plane-axes), "
    "and super-resolution adds no noise; its activations are held within 256, as in EG3D's own networks."
)
FACES = {
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1.0,
    "depth_resolution": 48,
    "depth_resolution_importance": 48,
    "white_back": False,
    "c_scale": 1.0,
}
CARS = {
    "ray_start": 0.4,
    "ray_end": 2.0,
    "box_warp": 1.7,
    "depth_resolution": 64,
    "depth_resolution_importance": 64,
    "white_back": True,
    "c_gen_conditioning_zero": True,
}
"""Not those of EG3D's own training (0.1, 2.6, 1.6), which MMagic measured to be worse for these weights."""


class Place(NamedTuple):
    """Where a tensor stands in MMagic's files."""

    name: str
    edges: str
    """One sign for each, see ``ONE``."""


@dataclass(frozen=True)
class Sizes:
    """What tells MMagic's networks apart."""

    doubles: tuple[bool, ...]
    """Whether each block of super-resolution doubles its picture."""
    channels: tuple[int, ...]
    """Of these blocks."""
    mapping_layers: int
    plane_size: int


@dataclass(frozen=True)
class Published:
    """A network that MMagic publishes."""

    name: str
    sizes: Sizes
    entry: int
    """Pixels at which super-resolution begins, MMagic's ``sr_in_size``."""
    rendered: int
    """Pixels of the rendered picture."""
    rendering: Mapping[str, Any]
    """By the names of EG3D."""


PUBLISHED = (
    Published("FFHQ 512", Sizes((True, True), (256, 128), 2, 256), 128, 128, FACES),
    Published("AFHQ 512", Sizes((True, True), (128, 64), 2, 256), 128, 128, FACES),
    Published("ShapeNet-Car 128", Sizes((False, True), (128, 64), 8, 256), 64, 64, CARS),
)


def published_like(tensors: Mapping[str, Tensor], doubles: tuple[bool, ...]) -> Published | None:
    """The published network of the same sizes.

    Args:
        tensors: under official names.
        doubles: as ``official`` found it.
    """
    levels = [int(found[1]) for name in tensors if (found := re.match(r"backbone\.synthesis\.b(\d+)\.", name))]
    layers = sum(re.fullmatch(r"backbone\.mapping\.fc\d+\.bias", name) is not None for name in tensors)
    channels = tuple(tensors[f"superresolution.block{k}.conv1.bias"].shape[0] for k in range(len(doubles)))
    sizes = Sizes(doubles, channels, layers, max(levels, default=0))
    return next((known for known in PUBLISHED if known.sizes == sizes), None)


def official(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[bool, ...]]:
    """MMagic's tensors under official names, and whether each block of super-resolution doubles its picture.

    Raises:
        StepError: tensors are missing, unknown or of a wrong shape, or blur differently.
    """
    if not any(name.startswith("backbone.embed.") for name in tensors):
        raise StepError("it has MMagic's names, but is not conditioned on the camera (no backbone.embed)")
    levels = 1 + _most(tensors, r"backbone\.to_rgbs\.(\d+)\.", MOST_LEVELS)
    layers = 1 + _most(tensors, r"backbone\.style_mapping\.(\d+)\.", MOST_LAYERS)
    doubles = tuple(any(_blurs(tensors, f"sr_model.block{k}.")) for k in range(BLOCKS))
    places, blurs = mmagic_places(levels, layers), mmagic_blurs(levels, doubles)
    known = {place.name for place in places.values()} | set(blurs)
    extra, missing = sorted(set(tensors) - known), sorted(known - set(tensors))
    if extra or missing:
        told = [f"{word} {_listed(names)}" for word, names in (("unknown", extra), ("missing", missing)) if names]
        raise StepError(f"it has MMagic's names, but not all and only those of its EG3D generator: {'; '.join(told)}")
    for name in blurs:
        wanted = blur_kernel(BLUR_GAIN, torch.empty(0))
        if tensors[name].shape != wanted.shape or not torch.allclose(tensors[name].float(), wanted, atol=BLUR_ERROR):
            raise StepError(f"its {name} is not the blur of 1, 3, 3, 1 that is known")
    return {theirs: _bare(tensors[place.name], place) for theirs, place in places.items()}, doubles


def mmagic_places(levels: int, layers: int) -> dict[str, Place]:
    """Official name of each tensor -> where MMagic has it.

    Args:
        levels: doublings of the backbone, from 4 pixels on.
        layers: of the mapping.
    """
    places = {"backbone.mapping.w_avg": Place("backbone.w_avg", "w")}
    places |= _layer("backbone.mapping.embed", "backbone.embed", LINEAR)
    for k in range(layers):
        places |= _layer(f"backbone.mapping.fc{k}", f"backbone.style_mapping.{k}", LINEAR)
    places["backbone.synthesis.b4.const"] = Place(MMAGIC_ANCHOR, "1chw")
    for level in range(levels + 1):
        ours = f"backbone.synthesis.b{4 << level}"
        convs = {f"conv{n}": f"convs.{2 * level - 2 + n}" for n in range(2)} if level else {"conv1": "conv1"}
        for name, theirs in convs.items():
            places |= _layer(f"{ours}.{name}", f"backbone.{theirs}", STYLED)
            # One noise map for each convolution, in the order in which they run.
            noise = f"backbone.injected_noise_{2 * level - (name == 'conv0')}"
            places[f"{ours}.{name}.noise_const"] = Place(noise, "11hw")
        places |= _layer(f"{ours}.torgb", f"backbone.to_rgbs.{level - 1}" if level else "backbone.to_rgb1", OUTPUT)
    for number in (0, 2):
        for part, edges in (("weight", "oi"), ("bias", "o")):
            places[f"decoder.net.{number}.{part}"] = Place(f"renderer.decoder.net.{number}.{part}", edges)
    for k in range(BLOCKS):
        ours, theirs = f"superresolution.block{k}", f"sr_model.block{k}"
        for name in ("conv0", "conv1"):
            places |= _layer(f"{ours}.{name}", f"{theirs}.{name}", STYLED)
        places |= _layer(f"{ours}.torgb", f"{theirs}.to_rgb", OUTPUT)
    return places


def mmagic_blurs(levels: int, doubles: tuple[bool, ...]) -> list[str]:
    """Names of the blurs' taps, which are the same constant everywhere; ours are computed."""
    pairs = [(f"backbone.convs.{2 * k}", f"backbone.to_rgbs.{k}") for k in range(levels)]
    pairs += [(f"sr_model.block{k}.conv0", f"sr_model.block{k}.to_rgb") for k, twice in enumerate(doubles) if twice]
    return [f"{layer}.{blur}" for pair in pairs for layer, blur in zip(pair, BLURS, strict=True)]


def _layer(ours: str, theirs: str, parts: Mapping[str, tuple[str, str]]) -> dict[str, Place]:
    return {f"{ours}.{part}": Place(f"{theirs}.{name}", edges) for part, (name, edges) in parts.items()}


def _blurs(tensors: Iterable[str], prefix: str) -> Iterable[bool]:
    return (name.startswith(prefix) and name.endswith(BLURS) for name in tensors)


def _most(tensors: Iterable[str], pattern: str, most: int) -> int:
    """The largest number in names of this pattern, -1 without any. What lies below it and is missing is told so."""
    largest = max((int(found[1]) for name in tensors if (found := re.match(pattern, name))), default=-1)
    if largest >= most:
        raise StepError(f"it has MMagic's names, but {largest + 1} layers where {most} are the most")
    return largest


def _bare(value: Tensor, place: Place) -> Tensor:
    """Without the edges of length one that MMagic adds."""
    shape = tuple(value.shape)
    if len(shape) != len(place.edges) or any(n != 1 for n, edge in zip(shape, place.edges, strict=True) if edge == ONE):
        ones = ", ".join(edge if edge == ONE else "n" for edge in place.edges)
        raise StepError(f"its {place.name} has the shape {shape}, not ({ones})")
    return value.reshape([n for n, edge in zip(shape, place.edges, strict=True) if edge != ONE])


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
