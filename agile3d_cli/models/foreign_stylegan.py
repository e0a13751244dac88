"""Tensors of StyleGAN2 checkpoints in the widely used PyTorch layout -> our names. Pure data, as in ``foreign.py``.

In: plain dictionaries of named tensors (what a file's ``g_ema`` and ``d`` hold). Out: states for ``StyleGAN2`` and
``Discriminator``.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.discriminator import Discriminator
from agile3d_cli.models.foreign import renamed
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config

STYLED = {
    "weight": "conv.weight",
    "bias": "activate.bias",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "noise_strength": "noise.weight",
}
OUTPUT = {
    "weight": "conv.weight",
    "bias": "bias",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
}
BLUR = "kernel"
"""Last name of the blur's taps, the same in every layer; ours are computed."""


def mapping_names(layers: int, ours: str = "mapping.layers", theirs: str = "style") -> dict[str, str]:
    """Names of a mapping network; theirs counts from 1, as the norm before it has no tensors."""
    parts = ("weight", "bias")
    return {f"{ours}.{k}.{part}": f"{theirs}.{k + 1}.{part}" for k in range(layers) for part in parts}


def conv_names(ours: str, theirs: str, noise: str) -> dict[str, str]:
    """Names of a styled convolution; its noise map stands apart in theirs."""
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in STYLED.items()} | {f"{ours}.noise_const": noise}


def output_names(ours: str, theirs: str) -> dict[str, str]:
    """Names of a convolution to RGB."""
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in OUTPUT.items()}


def generator_names(config: StyleGAN2Config) -> dict[str, str]:
    """Our name of every tensor -> theirs."""
    names = mapping_names(config.mapping_layers) | {"const": "input.input"}
    names |= conv_names("blocks.0.conv1", "conv1", "noises.noise_0") | output_names("blocks.0.output", "to_rgb1")
    for k in range(len(config.resolutions) - 1):
        for part, number in (("conv0", 2 * k), ("conv1", 2 * k + 1)):
            names |= conv_names(f"blocks.{k + 1}.{part}", f"convs.{number}", f"noises.noise_{number + 1}")
        names |= output_names(f"blocks.{k + 1}.output", f"to_rgbs.{k}")
    return names


def discriminator_names(config: StyleGAN2Config) -> dict[str, str]:
    """Our name of every tensor -> theirs."""
    names = {"entry.weight": "convs.0.0.weight", "entry.bias": "convs.0.1.bias"}
    for k in range(len(config.resolutions) - 1):
        ours, theirs = f"blocks.{k}", f"convs.{k + 1}"
        names |= {f"{ours}.conv0.weight": f"{theirs}.conv1.0.weight", f"{ours}.conv0.bias": f"{theirs}.conv1.1.bias"}
        names |= {f"{ours}.conv1.weight": f"{theirs}.conv2.1.weight", f"{ours}.conv1.bias": f"{theirs}.conv2.2.bias"}
        names |= {f"{ours}.skip.weight": f"{theirs}.skip.1.weight"}
    names |= {"conv.weight": "final_conv.0.weight", "conv.bias": "final_conv.1.bias"}
    for ours, theirs in (("hidden", "final_linear.0"), ("output", "final_linear.1")):
        names |= {f"{ours}.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}
    return names


def generator_from(tensors: Mapping[str, Tensor]) -> StyleGAN2:
    """A generator of the size its tensors tell.

    Raises:
        RefusedError: tensors are missing, unknown, of a wrong shape or not finite.
    """
    config = config_of(tensors)
    with torch.device("meta"):
        network = StyleGAN2(config)
    fill(network, tensors, generator_names(config), "a StyleGAN2 generator")
    return network


def discriminator_from(tensors: Mapping[str, Tensor], config: StyleGAN2Config) -> Discriminator:
    """The discriminator of a generator's size; raises RefusedError as ``generator_from`` does."""
    with torch.device("meta"):
        network = Discriminator(config)
    fill(network, tensors, discriminator_names(config), "a StyleGAN2 discriminator")
    return network


def config_of(tensors: Mapping[str, Tensor]) -> StyleGAN2Config:
    """Sizes of a generator from the shapes of its tensors.

    Raises:
        RefusedError: they are not those of a StyleGAN2.
    """
    layers = sum(name.startswith("style.") for name in tensors) // 2
    outputs = sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in tensors)
    try:
        widths = [tensors["input.input"].shape[1]]
        widths += [tensors[f"convs.{2 * k + 1}.activate.bias"].shape[0] for k in range(outputs)]
        return StyleGAN2Config(tuple(widths), tensors["conv1.conv.modulation.weight"].shape[1], layers)
    except (KeyError, IndexError, ConfigError) as error:
        raise RefusedError("The checkpoint is not a StyleGAN2 generator: its layers cannot be counted.") from error


def fill(network: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, str], kind: str) -> None:
    """Puts foreign tensors in place of those of a network made on the meta device, and freezes it."""
    used = {name: value for name, value in tensors.items() if name.rsplit(".", 1)[-1] != BLUR}
    network.load_state_dict(renamed(used, names, network.state_dict(), kind), assign=True)
    network.eval().requires_grad_(False)
