"""The attribute-aware generator: recorded tensors are met, names and shapes are the official ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from agile3d_agilegan.network import BranchedGenerator, config_of, generator_from, names

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.models.stylegan2 import StyleGAN2Config, configuration_f, truncated

Opened = Callable[[str], Any]
"""The fixture ``golden``: opens a folder of recorded tensors."""
MICRO = StyleGAN2Config((4, 4, 4, 4, 4, 2), 8, 1)


def test_both_branches_meet_the_recorded_pictures(golden: Opened) -> None:
    known = golden("agilegan-generator-small")
    network = generator_from(known.weights())

    def mapped(name: str, count: int) -> torch.Tensor:
        return network.mapping(known[f"in.{name}"])[:, None].expand(-1, count, -1)

    own = [known["in.noise_a.0"]]
    noises = [own + [known[f"in.noise_{letter}.{k}"] for k in range(1, 11)] for letter in "ab"]
    cases: dict[str, tuple[torch.Tensor, list[Any]]] = {
        "w_plus": (known["in.w_plus"], [None, None]),
        "truncated": (truncated(mapped("z", 12), known["in.latent_avg"], 0.6), [None, None]),
        "mixed": (torch.cat([mapped("z", 6), mapped("z2", 6)], 1), [None, None]),
        "noise_per_branch": (known["in.w_plus"], noises),
    }
    for case, (ws, noise) in cases.items():
        known.meets(ws, f"{case}.latent")
        for branch, letter in enumerate("ab"):
            known.meets(network(ws, branch, noise[branch]), f"{case}.image_{letter}")


def test_every_official_name_and_shape_loads(golden: Opened) -> None:
    official = golden("agilegan-generator-small").official()
    assert set(names(configuration_f(1024)).values()) == {n for n in official if not n.endswith(".kernel")}
    assert config_of({name: torch.empty(shape, device="meta") for name, shape in official.items()}) == (
        configuration_f(1024)
    )


def stored(network: BranchedGenerator) -> dict[str, torch.Tensor]:
    """As a published file holds a generator."""
    state = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in names(network.config).items()}
    return tensors | {"input.input": state["const"][None]}


def test_branches_share_head_and_tail_and_differ_in_between() -> None:
    network = generator_from(stored(BranchedGenerator(MICRO)))
    ws = torch.randn(1, MICRO.num_ws, 8, generator=torch.Generator().manual_seed(0))
    one, two = network(ws, 0), network(ws, 1)
    assert one.shape == (1, 3, 128, 128) and not torch.allclose(one, two)
    for ours, theirs in zip(network.branches[0].parameters(), network.branches[1].parameters(), strict=True):
        theirs.copy_(ours)
    assert torch.equal(network(ws, 0), network(ws, 1))


@pytest.mark.parametrize("lost", ["convsB.3.conv.weight", "to_rgbsC.0.bias", "noises.noise_4"])
def test_an_incomplete_branch_is_refused(lost: str) -> None:
    tensors = stored(BranchedGenerator(MICRO))
    del tensors[lost]
    with pytest.raises(RefusedError, match=lost):
        generator_from(tensors)


def test_what_has_no_branches_is_refused() -> None:
    with pytest.raises(RefusedError, match="counted"):
        generator_from({"input.input": torch.zeros(1, 4, 4, 4)})
    with pytest.raises(ConfigError, match="branches"):
        BranchedGenerator(StyleGAN2Config((4, 4), 8, 1))
