"""Low-rank additions (LoRA) to a network's convolutions and linear layers, which can be switched off.

Source: Hu et al., LoRA: Low-rank adaptation of large language models, 2021; layers by peft.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from agile3d_cli.errors import RefusedError


def attach(network: nn.Module, rank: int) -> None:
    """Adds LoRA layers to every convolution and linear layer, once; only they learn. ``restart`` comes next."""
    names = [name for name, part in network.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name)


@torch.no_grad()
def restart(network: nn.Module, seed: int) -> None:
    """Untrained LoRA weights, which change nothing yet: the first factor is drawn, the second is zero."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in network.named_parameters():
        if "lora_A" in name:
            bound = value[0].numel() ** -0.5
            value.copy_((2 * torch.rand(value.shape, generator=rng) - 1) * bound)
        elif "lora_B" in name:
            value.zero_()


@contextmanager
def switched_off(network: nn.Module) -> Iterator[None]:
    """The network as it was before ``attach``, for as long as the block lasts."""
    layers = [part for part in network.modules() if isinstance(part, LoraLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def learnt(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the LoRA weights by name."""
    return {name: value.detach().clone() for name, value in network.named_parameters() if "lora_" in name}


@torch.no_grad()
def take(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts LoRA weights into a network that ``attach`` prepared; RefusedError where names or shapes differ."""
    own = {name: value for name, value in network.named_parameters() if "lora_" in name}
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in weights.items()}:
        raise RefusedError("The weights of this style do not fit its base; fit the style again.")
    for name, value in own.items():
        value.copy_(weights[name])
