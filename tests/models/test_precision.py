"""What CUDA may round is said for the published path alone; torch's settings are there without a CUDA device too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from agile3d_cli import camera
from agile3d_cli.models import folded, published, separable
from agile3d_cli.models.config import GeneratorConfig, PublishedConfig, SuperresolutionConfig
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.precision import PRECISIONS, multiplied
from agile3d_cli.models.published import published_subject, render_published, render_subject
from agile3d_cli.models.separable import grid_density

CUDA = torch.device("cuda")
CONFIG = GeneratorConfig(
    w_dim=16,
    z_dim=8,
    plane_size=16,
    channel_base=64,
    channel_max=8,
    superresolution=SuperresolutionConfig(rendered=8, entry=8, sizes=(8, 16), channels=(8, 8)),
    published=PublishedConfig(folded=True),
)
NEWER = hasattr(torch.backends.cudnn, "conv")


def settings() -> tuple[object, ...]:
    """All that torch has; those that it does not tell are None."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    asks: list[Callable[[], object]] = [
        lambda: cudnn.allow_tf32,
        lambda: matmul.allow_tf32,
        torch.get_float32_matmul_precision,
        lambda: cudnn.enabled,
        lambda: cudnn.benchmark,
    ]
    if NEWER:
        asks += [lambda: cudnn.conv.fp32_precision, lambda: matmul.fp32_precision]
        asks += [lambda: torch.backends.mkldnn.matmul.fp32_precision]
    found: list[object] = []
    for ask in asks:
        try:
            found.append(ask())
        except RuntimeError:
            found.append(None)
    return tuple(found)


def convolutions_round() -> bool:
    return torch.backends.cudnn.conv.fp32_precision == "tf32" if NEWER else torch.backends.cudnn.allow_tf32


def products_round() -> bool:
    return torch.backends.cuda.matmul.allow_tf32


def convolutions_off() -> None:
    torch.backends.cudnn.allow_tf32 = False


def products_on() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


def everything_on() -> None:
    torch.backends.fp32_precision = "tf32"  # type: ignore[assignment]


def products_on_in_the_newer_way() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


@pytest.fixture
def kept() -> Iterator[None]:
    """Puts torch's settings back."""
    yield
    if NEWER:
        torch.backends.fp32_precision = "none"  # type: ignore[assignment]
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = True


WAYS = [
    lambda: None,
    convolutions_off,
    products_on,
    lambda: torch.set_float32_matmul_precision("high"),
    lambda: torch.set_float32_matmul_precision("medium"),
    *([everything_on, products_on_in_the_newer_way] if NEWER else []),
]


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_rounded_inside_and_all_is_as_before_outside(kept: None, way: Callable[[], None]) -> None:
    way()
    before = settings()
    with multiplied(CUDA):
        assert not convolutions_round() and not products_round()
        # Cudnn's own way of setting these turns it off beside.
        assert torch.backends.cudnn.enabled
    assert settings() == before
    with pytest.raises(ZeroDivisionError), multiplied(CUDA, tf32=True):
        assert convolutions_round() and not products_round()
        raise ZeroDivisionError
    assert settings() == before
    with multiplied(torch.device("cpu"), tf32=True):
        assert settings() == before


@pytest.fixture
def network() -> TriplaneGenerator:
    torch.manual_seed(0)
    return TriplaneGenerator(CONFIG).eval().requires_grad_(False)


def test_the_published_path_says_what_may_be_rounded(
    network: TriplaneGenerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, bool]] = []

    def spy(name: str) -> Callable[..., object]:
        @contextmanager
        def noted(device: torch.device, tf32: bool = False) -> Iterator[None]:
            told.append((name, tf32))
            yield

        return noted

    for module in (folded, published, separable):
        monkeypatch.setattr(module, "multiplied", spy(module.__name__.rpartition(".")[2]))
    ws, label = torch.randn(1, CONFIG.num_ws, 16), camera.portrait_label(0.0, 0.0)[None]
    for precision, rounded in (("float32", False), ("tf32", True), ("bf16", False)):
        told.clear()
        subject = published_subject(network, ws, precision=precision)
        assert told == [("published", False), ("folded", rounded)]
        told.clear()
        render_subject(subject, label)
        # Rays are never rounded.
        assert told == [("published", False), ("folded", rounded)]
        told.clear()
        grid_density(subject.field, torch.linspace(-0.5, 0.5, 9))
        assert set(told) == {("separable", False)}


def test_tf32_is_float32_where_there_is_none(network: TriplaneGenerator) -> None:
    assert set(PRECISIONS) == {"float32", "tf32", "bf16"}
    ws, label = torch.randn(1, CONFIG.num_ws, 16), camera.portrait_label(0.0, 0.0)[None]
    views = [render_published(network, ws, label, precision=name).image for name in ("float32", "tf32")]
    assert torch.equal(*views)
