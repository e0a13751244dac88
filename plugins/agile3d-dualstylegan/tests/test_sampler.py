"""DualStyleGAN's sampler: recorded codes are met, official files load, codes do not depend on their neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from agile3d_dualstylegan.sampler import StyleSampler, sampler_from
from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError

Opened = Callable[[str], Any]
"""The fixture ``golden``: opens a folder of recorded tensors."""


def test_recorded_codes_are_met(golden: Opened) -> None:
    # Worst difference measured: none.
    known = golden("dualstylegan-sampler")
    sampler = sampler_from(known.weights("structure."), known.weights("color."))
    for case in known.cases:
        found = sampler(known["in.e_structure"], known["in.e_color"], of_batch=case == "train")
        known.meets(found[:, :7], f"{case}.structure")
        known.meets(found[:, 7:], f"{case}.color")


def test_every_official_name_and_shape_loads(golden: Opened) -> None:
    known = golden("dualstylegan-sampler")
    color, structure = ({n: torch.ones(shape) for n, shape in known.official(part).items()} for part in (0, 1))
    sampler = sampler_from(structure, color)
    assert (sampler.styles, sampler.w_dim) == (18, 512)


def parts(sampler: StyleSampler) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As a published file holds structure and colour."""
    return sampler.structure.state_dict(), sampler.color.state_dict()


@pytest.fixture
def sampler() -> StyleSampler:
    """A small one that has seen some noise."""
    torch.manual_seed(0)
    made = StyleSampler(10, 8, 6).requires_grad_(False)
    for norm in (made.structure.bn1, made.structure.bn2, made.color.bn1, made.color.bn2):
        norm.running_mean = torch.randn(6)
        norm.running_var = torch.rand(6) + 0.5
    return made


def test_codes_depend_on_their_own_noise_alone(sampler: StyleSampler) -> None:
    again = sampler_from(*parts(sampler))
    noise = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(1))
    codes = again(*noise)
    assert codes.shape == (5, 10, 8)
    torch.testing.assert_close(again(*noise[:, :1]), codes[:1])
    before = {name: value.clone() for name, value in again.state_dict().items()}
    batch = again(*noise, of_batch=True)
    assert not torch.allclose(batch[:2], again(*noise[:, :2], of_batch=True))
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())
    with pytest.raises(ConfigError, match="two or more"):
        again(*noise[:, :1], of_batch=True)


def test_the_same_seed_draws_the_same_codes(sampler: StyleSampler) -> None:
    one, two, other = (sampler.draw(3, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lin_out.weight": None}, "counted"),
        ({"lin_out.weight": torch.zeros(3, 6)}, "counted"),
        ({"bn1.running_var": None}, r"missing structure\.bn1\.running_var"),
        ({"bn2.num_batches_tracked": None}, r"missing structure\.bn2\.num_batches_tracked"),
        ({"bn3.weight": torch.zeros(6)}, r"unknown structure\.bn3\.weight"),
        ({"lin1.weight": torch.zeros(6, 5)}, "another size"),
        ({"bn1.bias": torch.full((6,), float("inf"))}, "not finite"),
    ],
)
def test_what_is_no_sampler_is_refused(change: dict[str, Tensor | None], said: str, sampler: StyleSampler) -> None:
    structure, color = parts(sampler)
    given = {name: value for name, value in (structure | change).items() if value is not None}
    with pytest.raises(RefusedError, match=said):
        sampler_from(given, color)
