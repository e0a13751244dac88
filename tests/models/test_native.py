"""The optional compiled part against torch's steps; skipped without a C++ compiler."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from agile3d_cli import camera
from agile3d_cli.cli.app import app
from agile3d_cli.models import native
from agile3d_cli.models.config import GeneratorConfig, PublishedConfig, SuperresolutionConfig
from agile3d_cli.models.folded import smooth as smooth_plainly
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.published import published_subject, render_subject
from agile3d_cli.models.ray_field import march_rays, trial_rays
from agile3d_cli.models.texels import AXES


def compiler() -> bool:
    try:
        native._compiler()
    except native.NativeError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not compiler(), reason="there is no C++ compiler on this machine")
CONFIG = GeneratorConfig(
    w_dim=16,
    z_dim=8,
    plane_size=16,
    channel_base=64,
    channel_max=8,
    coarse_samples=12,
    fine_samples=9,
    superresolution=SuperresolutionConfig(rendered=8),
    published=PublishedConfig(folded=True),
)
"""The widths of the decoder are the official ones."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("native") / "native.so"
        patch.setattr(native, "built", lambda: place)
        return native.build()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the library would lie; there is none yet."""
    path = tmp_path / "cache" / "native.so"
    monkeypatch.setattr(native, "built", lambda: path)
    native.compiled.cache_clear()
    yield path
    native.compiled.cache_clear()


@needs_compiler
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_rays_are_those_of_torch(library: Path, axes: str, threads: int) -> None:
    march, before = native._tried(library).march, torch.get_num_threads()
    field, origin, direction, first, draws, fine = trial_rays(*native.WIDTHS, axes)
    try:
        torch.set_num_threads(threads)
        for given in (draws, draws[:1], None):
            found = march(field, origin, direction, first, given, fine)
            wanted = march_rays(field, origin, direction, first, given, fine)
            # Measured: 5e-6, of values up to 3.
            for name, value in found._asdict().items():
                torch.testing.assert_close(value, getattr(wanted, name), rtol=0, atol=5e-5)
    finally:
        torch.set_num_threads(before)
    # Rays that pass by meet nothing, and those behind the box neither.
    far = march(field, origin + 9, direction, first, draws, fine)
    assert (far.nearest >= 2.25).all() and torch.isfinite(far.mix).all()


@needs_compiler
@pytest.mark.parametrize("shape", [(16, 1, 1), (32, 8, 64), (48, 64, 32)])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_smoothing_is_that_of_torch(
    library: Path, shape: tuple[int, int, int], noisy: bool, threads: int
) -> None:
    torch.manual_seed(0)
    smooth, before = native._tried(library).smooth, torch.get_num_threads()
    channels, height, width = shape
    x = torch.randn(1, channels, height + 3, width + 1).contiguous(memory_format=torch.channels_last)
    bias, noise = torch.randn(channels), torch.randn(1, 1, height, width) if noisy else None
    found, wanted, odd = torch.empty(3, 1, height, width, channels).permute(0, 1, 4, 2, 3)
    try:
        torch.set_num_threads(threads)
        for clamp in (math.inf, 1.5):
            smooth(x, bias, noise, clamp, found)
            smooth_plainly(x, bias, noise, clamp, wanted)
            # Measured: 1e-6 of values up to 9.
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
        # What the source is not written for goes to torch.
        smooth(x[:, :5], bias[:5], noise, 1.5, odd[:, :5])
        torch.testing.assert_close(odd[:, :5], found[:, :5], rtol=0, atol=1e-5)
        half, halves = odd.bfloat16(), (x.bfloat16(), bias.bfloat16(), None, 1.5)
        smooth(*halves, half)
        smooth_plainly(*halves, wanted_half := torch.empty_like(half))
        assert torch.equal(half, wanted_half)
    finally:
        torch.set_num_threads(before)


@needs_compiler
@pytest.mark.parametrize("white", [False, True])
def test_views_are_the_same_with_it(library: Path, place: Path, white: bool) -> None:
    torch.manual_seed(0)
    published = PublishedConfig(white_back=white, folded=True)
    generator = TriplaneGenerator(dataclasses.replace(CONFIG, published=published)).requires_grad_(False)
    ws, labels = torch.randn(1, CONFIG.num_ws, 16), torch.stack([camera.portrait_label(0.4 * k, 0.1) for k in (-1, 1)])
    assert published_subject(generator, ws).march is march_rays
    place.parent.mkdir()
    place.write_bytes(library.read_bytes())
    native.compiled.cache_clear()
    assert published_subject(generator, ws, native=False).march is march_rays
    subject = published_subject(generator, ws)
    assert subject.march is not march_rays
    rays = CONFIG.superresolution.rendered**2
    for draws in ((0.5, None), (torch.rand(1, rays, 12), torch.rand(2, rays, 9))):
        found = render_subject(subject, labels, *draws)
        wanted = render_subject(dataclasses.replace(subject, march=march_rays), labels, *draws)
        torch.testing.assert_close(found.rendered, wanted.rendered, rtol=0, atol=2e-5)
        torch.testing.assert_close(found.depth, wanted.depth, rtol=0, atol=2e-5)
    # Another decoder is not what the source is written for.
    other = TriplaneGenerator(dataclasses.replace(CONFIG, decoder_hidden=32)).requires_grad_(False)
    assert published_subject(other, ws).march is march_rays


@needs_compiler
def test_it_is_built_when_asked_for_and_removed(place: Path) -> None:
    assert native.compiled() is None
    result = CliRunner().invoke(app, ["models", "native"])
    assert result.exit_code == 0 and place.is_file() and str(place) in result.stdout.replace("\n", "")
    assert native.compiled() is not None and list(place.parent.iterdir()) == [place]
    assert CliRunner().invoke(app, ["models", "native", "--remove"]).exit_code == 0 and not place.exists()


@needs_compiler
def test_a_wrong_library_is_not_used(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "native.cpp"
    source.write_text(native.SOURCE.read_text().replace("FLOOR = 0.01f", "FLOOR = 0.5f"))
    monkeypatch.setattr(native, "SOURCE", source)
    with pytest.raises(native.NativeError, match="does not agree with its twin"):
        native.build()
    assert not place.exists() and not list(place.parent.iterdir())
    source.write_text("int main( {")
    with pytest.raises(native.NativeError, match=r"The compiler .* failed: "):
        native.build()


def test_a_broken_library_is_one_sentence(place: Path) -> None:
    place.parent.mkdir()
    place.write_bytes(b"nothing that can be loaded")
    with pytest.warns(RuntimeWarning, match="cannot be loaded .* Views are made without it"):
        assert native.compiled() is None


def test_without_a_compiler_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["models", "native"])
    assert result.exit_code == 1 and "agile3d[native]" in result.stderr
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: object())
    assert native._compiler()[1:] == ["-m", "ziglang", "c++"]


def test_the_name_tells_source_options_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    first = native.built()
    assert first == native.built()
    monkeypatch.setattr(native, "_processor", lambda: ("other",))
    assert native.built() != first
