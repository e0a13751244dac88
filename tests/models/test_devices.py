"""The published path on a device that is not the CPU: nothing lies elsewhere, and few steps are started.

Torch's "meta" device stands for an accelerator: it has shapes and no numbers, so this runs anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from agile3d_cli.models.config import EG3D_FFHQ_512
from agile3d_cli.models.device_conv import DeviceConv, device_conv
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.layers import ModulatedConv
from agile3d_cli.models.published import (
    PublishedSubject,
    full_picture,
    published_subject,
    ray_picture,
    render_subject,
)
from agile3d_cli.models.published_plain import render_published_plain
from agile3d_cli.models.ray_field import POINTS, RayField, trial_rays
from agile3d_cli.models.separable import grid_density
from agile3d_cli.models.texels import AXES

MOVES = ("aten._to_copy", "aten.copy_", "aten.lift_fresh")
VIEWS = ("view", "slice", "select", "expand", "permute", "transpose", "squeeze", "unbind", "split", "detach", "alias")


class OneDevice(TorchDispatchMode):
    """Refuses steps whose tensors lie on two devices, and counts those that are not views."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = [value for value in tree_leaves((args, kwargs or {})) if isinstance(value, Tensor) and value.dim()]
        where = {value.device.type for value in given}
        assert len(where) < 2 or str(func).startswith(MOVES), f"{func} of {sorted(where)}"
        self.steps += not any(name in str(func) for name in VIEWS)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def network() -> TriplaneGenerator:
    """Of official size, as it takes no memory there."""
    with torch.device("meta"):
        return TriplaneGenerator(EG3D_FFHQ_512).eval().requires_grad_(False)


@pytest.fixture
def watched() -> Iterator[OneDevice]:
    with OneDevice() as mode, torch.no_grad():
        yield mode


def far(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


@pytest.fixture
def subject(network: TriplaneGenerator, watched: OneDevice) -> PublishedSubject:
    c = network.config
    return published_subject(network, network.mapping(far(1, c.z_dim), far(1, 25), 0.7, 14))


def test_making_a_subject_takes_few_steps(subject: PublishedSubject, watched: OneDevice) -> None:
    # Measured: 279, the mapping's 36 among them; a CPU's way of putting styles into weights takes 534.
    assert watched.steps < 320
    assert all(isinstance(conv, DeviceConv) for block in subject.blocks for conv in (*block.convs, block.output))
    before = watched.steps
    full = full_picture(subject, far(1, 32, 128, 128))
    # Channels first throughout, as copies from one layout to the other are steps too. Measured: 25.
    assert full.is_contiguous() and watched.steps - before < 30


@pytest.mark.parametrize("drawn", [False, True])
def test_a_view_stays_on_its_device_and_takes_few_steps(
    subject: PublishedSubject, watched: OneDevice, drawn: bool
) -> None:
    c = subject.config
    rays = c.superresolution.rendered**2
    before = watched.steps
    draws = (far(1, rays, c.coarse_samples), far(1, rays, c.fine_samples)) if drawn else (0.5, None)
    seen = ray_picture(subject, far(1, 25), *draws)
    # A CPU takes them in parts; so many times as many steps would be most of an accelerator's time.
    assert rays * c.coarse_samples > 50 * POINTS and watched.steps - before < 250
    assert seen.rendered.device.type == seen.held_depth.device.type == "meta"
    view = render_subject(subject, far(2, 25), *draws)
    assert view.image is not None and view.image.device.type == "meta" and view.image.shape == (2, 3, 512, 512)


def test_the_plain_twin_stays_there(network: TriplaneGenerator, watched: OneDevice) -> None:
    c = network.config
    assert render_published_plain(network, far(1, c.num_ws, c.w_dim), far(1, 25)).depth.device.type == "meta"


def test_a_grid_lies_with_its_field(subject: PublishedSubject) -> None:
    field: RayField = subject.field
    density = grid_density(field, torch.linspace(-0.5, 0.5, 33))
    where = torch.zeros(3, 1000, dtype=torch.long, device="meta")
    assert density.raw(where).device.type == "meta"


@pytest.mark.parametrize("axes", AXES)
def test_the_decoders_few_steps_are_its_many(axes: str) -> None:
    field, *_ = trial_rays(32, 64, 33, axes)
    features = torch.randn(300, 32, generator=torch.Generator().manual_seed(0))
    for few, many in zip(field.decoder._at_once(features), field.decoder(features), strict=True):
        torch.testing.assert_close(few, many, rtol=0, atol=1e-5)


@pytest.mark.parametrize("clamp", [math.inf, 0.7])
@pytest.mark.parametrize(
    ("up", "plain", "noise"), [(False, False, True), (True, False, True), (True, False, False), (False, True, False)]
)
def test_an_accelerators_layer_is_the_layer(up: bool, plain: bool, noise: bool, clamp: float) -> None:
    torch.manual_seed(0)
    size, kernel = (32 if up else 16), (1 if plain else 3)
    layer = ModulatedConv(5, 7, 8, size, kernel, up=up, plain=plain, noise=noise, floor=0.3, folded=True)
    layer.bias.data.normal_()
    if layer.noise:
        layer.noise_strength.data.fill_(0.4)
    layer.requires_grad_(False)
    x, w = torch.randn(1, 5, 16, 16), torch.randn(1, 8)
    found = device_conv(layer, w, torch.float32, clamp)(x)
    # Measured: 1.4e-6 of values up to 9.
    torch.testing.assert_close(found, layer(x, w).clamp(-clamp, clamp), rtol=0, atol=1e-5)
    assert found.is_contiguous()
    half = device_conv(layer, w, torch.bfloat16, clamp)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), found, rtol=0.05, atol=0.2)


def test_what_lies_elsewhere_is_noticed(watched: OneDevice) -> None:
    with pytest.raises(AssertionError, match="mm"):
        far(3, 3) @ torch.zeros(3, 3)
