"""Published style folders: read exactly from files as PyTorch and numpy write them; what is missing is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from agile3d_dualstylegan.config import DualstyleganConfig
from agile3d_dualstylegan.encoder import config_of, encoder_from
from agile3d_dualstylegan.folder import FolderStyle, open_folder
from agile3d_dualstylegan.network import DualStyleGAN, names
from agile3d_dualstylegan.published import (
    read_codes,
    read_encoder,
    read_generator,
    read_sampler,
    read_style,
)
from agile3d_dualstylegan.sampler import StyleSampler
from agile3d_dualstylegan.state import read_state
from agile3d_dualstylegan.stylizer import DualstyleganStylizer
from safetensors.torch import load_file
from torch import Tensor

from agile3d_cli.errors import ConfigError, MissingError, RefusedError
from agile3d_cli.models.foreign_stylegan import generator_names
from agile3d_cli.models.irse import EncoderConfig, PyramidEncoder
from agile3d_cli.models.stylegan2 import StyleGAN2, StyleGAN2Config, configuration_f
from agile3d_cli.testing import PaintedFaces, ignore_progress, paint_exemplars

Opened = Callable[[str], Any]
"""The fixture ``golden``: opens a folder of recorded tensors."""
MICRO = StyleGAN2Config((4, 4, 4, 4, 3), 8, 2)
ENCODER = EncoderConfig((4, 4, 8, 8), 10, 2)
FILES = ["generator.pt", "exstyle_code.npy", "encoder.pt"]


def written(path: Path, value: Any) -> Path:
    """A genuine file of PyTorch."""
    torch.save(value, path)  # noqa: TID251 (the format under test)
    return path


def codes_written(path: Path, codes: Any) -> Path:
    """A genuine file of numpy, which is a pickle inside: written here, and read by the closed table alone."""
    np.save(path, codes, allow_pickle=True)
    return path


def generator_tensors(network: DualStyleGAN) -> dict[str, Tensor]:
    """As a published file holds a generator."""
    state = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in names(network.config).items()}
    return tensors | {"generator.input.input": state["generator.const"][None]}


def encoder_content(
    options: dict[str, Any] | None = None, config: EncoderConfig = ENCODER, decoded: StyleGAN2Config = MICRO
) -> dict[str, Any]:
    """What an encoder's file holds."""
    torch.manual_seed(1)
    state = StyleGAN2(decoded).state_dict()
    decoder = {f"decoder.{theirs}": state[ours] for ours, theirs in generator_names(decoded).items()}
    own = {f"encoder.{name}": value for name, value in PyramidEncoder(config).state_dict().items()}
    return {
        "state_dict": own | decoder | {"decoder.input.input": state["const"][None]},
        "opts": {"start_from_latent_avg": True, "device": "cuda:0"} if options is None else options,
        "latent_avg": torch.linspace(-1, 1, 8),
    }


def publish(folder: Path, config: StyleGAN2Config, exemplars: list[str]) -> Path:
    """Writes the folder of one style as it is published, with an encoder beside it."""
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    written(folder / "generator.pt", {"g_ema": generator_tensors(DualStyleGAN(config))})
    sampler = StyleSampler(config.num_ws, config.w_dim, 6)
    content = {"color": sampler.color.state_dict(), "structure": sampler.structure.state_dict()}
    written(folder / "sampler.pt", content)
    encoder = EncoderConfig(ENCODER.widths, config.num_ws, ENCODER.reduction)
    written(folder.parent / "encoder.pt", encoder_content(config=encoder, decoded=config))
    shape = (1, config.num_ws, config.w_dim)
    codes = {f"{name}.jpg": np.full(shape, k, dtype=np.float32) for k, name in enumerate(exemplars)}
    codes_written(folder / "exstyle_code.npy", codes)
    return folder


@pytest.fixture
def style(tmp_path: Path) -> Path:
    """The folder of one small style."""
    return publish(tmp_path / "checkpoint" / "cartoon", MICRO, ["b", "a"])


def test_a_style_s_folder_is_read(style: Path) -> None:
    found = read_style(style)
    torch.manual_seed(0)
    made = generator_tensors(DualStyleGAN(MICRO))
    assert all(torch.equal(made[name], value) for name, value in generator_tensors(found.generator).items())
    assert list(found.codes) == ["b.jpg", "a.jpg"]
    assert torch.equal(found.codes["a.jpg"], torch.ones(1, 10, 8))
    assert found.sampler is not None
    sampled = found.sampler.draw(2, torch.Generator().manual_seed(0))
    faces = found.encoder.codes(torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(1)))
    mapping = found.generator.generator.mapping
    picture = found.generator(mapping(faces), mapping(sampled), [0.5] * 10)
    assert picture.shape == (2, 3, 64, 64) and bool(picture.isfinite().all())


def drawn_by_hand(folder: Path, code: Tensor, faces: Tensor, weights: tuple[float, ...]) -> Tensor:
    """What the published scripts draw of faces, at their own size."""
    found = read_style(folder)
    mapping = found.generator.generator.mapping
    styles = 0.75 * mapping(found.encoder.codes(torch.nn.functional.interpolate(faces, (256, 256), mode="bilinear")))
    with torch.no_grad():
        return found.generator(styles, mapping(code), weights).clamp(-1, 1)


def test_a_published_style_is_a_stylizer_without_learning(style: Path, tmp_path: Path) -> None:
    config = DualstyleganConfig(folder=str(style), exemplar=2, structure=0.5, color=0.75)
    stylizer = DualstyleganStylizer(config)
    stylizer.fit(paint_exemplars(1), PaintedFaces(), ignore_progress)
    faces = PaintedFaces().sample(2, torch.Generator().manual_seed(0)).images
    wanted = drawn_by_hand(style, torch.ones(1, 10, 8), faces, (0.5,) * 7 + (0.75,) * 3)
    # The tolerance covers sums in another order: pictures go through one by one.
    torch.testing.assert_close(stylizer.stylize(faces), wanted, rtol=0, atol=1e-5)
    stylizer.save(tmp_path / "style.safetensors")
    again = DualstyleganStylizer(*read_state(tmp_path / "style.safetensors"))
    assert torch.equal(again.stylize(faces), stylizer.stylize(faces))
    written(style / "generator.pt", {"g_ema": generator_tensors(DualStyleGAN(MICRO))})
    with pytest.raises(RefusedError, match="was fitted to another style"):
        read_state(tmp_path / "style.safetensors")


def test_the_published_exemplar_nearest_to_the_pictures_is_taken(style: Path) -> None:
    exemplars = paint_exemplars(2)
    codes = read_style(style).encoder.codes(
        torch.nn.functional.interpolate(torch.stack([exemplars[1], exemplars[1]]), (256, 256), mode="bilinear")
    )
    near = {"far.jpg": codes[:1].detach().numpy() + 9, "near.jpg": codes[:1].detach().numpy() + 1}
    codes_written(style / "exstyle_code.npy", near)
    stylizer = DualstyleganStylizer(DualstyleganConfig(folder=str(style)))
    stylizer.fit([exemplars[1]], PaintedFaces(), ignore_progress)
    assert isinstance(stylizer._style, FolderStyle) and stylizer._style.chosen == "near.jpg"


def test_what_a_published_style_cannot_do_is_named(style: Path) -> None:
    for settings, said in (
        ({"exemplar": 3}, "has 2 exemplars, not 3"),
        ({"dial": (1.0,) * 18}, "18 weights; this generator takes 10"),
    ):
        with pytest.raises(ConfigError, match=said):
            DualstyleganStylizer(DualstyleganConfig(folder=str(style), **settings)).fit(
                paint_exemplars(1), PaintedFaces(), ignore_progress
            )
    drawn = open_folder(DualstyleganConfig(folder=str(style), choice="sampled", sample=4)).code
    assert not torch.equal(drawn, open_folder(DualstyleganConfig(folder=str(style), choice="sampled")).code)
    (style / "sampler.pt").unlink()
    with pytest.raises(ConfigError, match="has no sampler"):
        open_folder(DualstyleganConfig(folder=str(style), choice="sampled"))


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path / "checkpoint" / "cartoon", StyleGAN2Config((4,) * 5 + (2,) * 4, 8, 2), ["Cartoons_00003_01"])
    monkeypatch.chdir(tmp_path)
    example = (
        (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    )
    scope: dict[str, Any] = {"pictures": torch.zeros(1, 3, 256, 256)}
    exec(example, scope)
    assert scope["drawn"].shape == (1, 3, 1024, 1024)


def test_refined_codes_are_preferred_and_samplers_are_optional(style: Path) -> None:
    codes_written(style / "refined_exstyle_code.npy", {"c.jpg": np.zeros((1, 10, 8), dtype=np.float32)})
    (style / "sampler.pt").unlink()
    (style.parent / "encoder.pt").rename(style / "encoder.pt")
    found = read_style(style)
    assert list(found.codes) == ["c.jpg"] and found.sampler is None
    (style / "exstyle_code.npy").unlink()
    assert list(read_style(style).codes) == ["c.jpg"]


@pytest.mark.parametrize("lost", FILES)
def test_what_a_style_lacks_is_named(lost: str, style: Path) -> None:
    next(style.parent.rglob(lost)).unlink()
    with pytest.raises(MissingError, match=lost) as caught:
        read_style(style)
    assert not any(name in str(caught.value) for name in FILES if name != lost)
    for name in FILES:
        for path in list(style.parent.rglob(name)):
            path.unlink()
    with pytest.raises(MissingError) as caught:
        read_style(style)
    assert all(name in str(caught.value) for name in FILES)
    with pytest.raises(MissingError, match="no folder"):
        read_style(style / "nothing")


def test_files_of_two_releases_are_refused(style: Path) -> None:
    other = StyleGAN2Config((4, 4, 4, 4, 3, 2), 8, 2)
    written(style / "generator.pt", {"g_ema": generator_tensors(DualStyleGAN(other))})
    with pytest.raises(RefusedError, match=r"encoder\.pt is of another size"):
        read_style(style)
    with pytest.raises(RefusedError, match=r"sampler\.pt is refused.*another size"):
        read_sampler(style / "sampler.pt", other)
    with pytest.raises(RefusedError, match=r"b\.jpg is \(1, 10, 8\), this generator takes \(1, 12, 8\)"):
        read_codes(style / "exstyle_code.npy", other)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"g": {}}, "no tensors under 'g_ema'"),
        ({"g_ema": {}}, "no tensors under 'g_ema'"),
        ([1, 2], "no tensors under 'g_ema'"),
        ({"g_ema": {"res.0": 1}}, "not a tensor"),
        ({"g_ema": {7: torch.zeros(2)}}, "as 7 is not a tensor"),
        ({"g_ema": {"res.7.bias": torch.zeros(0, 9)}}, "not a tensor with numbers"),
        ({"g_ema": {"res.7.weight": torch.zeros(2)}}, "not a DualStyleGAN generator"),
    ],
)
def test_what_is_no_generator_s_file_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    path = written(tmp_path / "generator.pt", content)
    with pytest.raises(RefusedError, match=said) as caught:
        read_generator(path)
    assert str(path) in str(caught.value)


def test_a_snapshot_of_training_is_read(style: Path) -> None:
    tensors = generator_tensors(DualStyleGAN(MICRO))
    content = {"g": {}, "d": {"x": torch.zeros(2)}, "g_ema": tensors, "g_optim": {"state": {}}}
    assert read_generator(written(style / "generator.pt", content)).config == MICRO


def test_files_that_run_code_are_refused(style: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return print, ("run",)

    written(style / "generator.pt", {"g_ema": Evil()})
    codes_written(style / "exstyle_code.npy", {"a": Evil()})
    written(style / "sampler.pt", {"color": Evil()})
    for read in (
        lambda: read_style(style),
        lambda: read_codes(style / "exstyle_code.npy", MICRO),
        lambda: read_sampler(style / "sampler.pt", MICRO),
    ):
        with pytest.raises(RefusedError, match="print"):
            read()


def test_a_sampler_without_one_half_is_refused(style: Path) -> None:
    content = {"structure": StyleSampler(10, 8, 6).structure.state_dict()}
    with pytest.raises(RefusedError, match="no tensors under 'color'"):
        read_sampler(written(style / "sampler.pt", content), MICRO)


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        ({}, "no exemplar code"),
        ({"a": np.zeros((10, 8), dtype=np.float32)}, "code of a is"),
        ({"a": np.full((1, 10, 8), np.nan, dtype=np.float32)}, "not finite"),
        ({"a": "text"}, "no named arrays"),
        (np.zeros((1, 10, 8), dtype=np.float32), "named arrays"),
    ],
)
def test_what_are_no_exemplar_codes_is_refused(codes: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=said):
        read_codes(codes_written(tmp_path / "exstyle_code.npy", codes), MICRO)


def test_an_encoder_adds_its_mean_only_if_its_options_say_so(tmp_path: Path) -> None:
    images = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    plain = read_encoder(written(tmp_path / "a.pt", encoder_content({}))).codes(images)
    found = read_encoder(written(tmp_path / "b.pt", encoder_content()))
    assert torch.equal(found.codes(images), plain + torch.linspace(-1, 1, 8))
    assert found.decoder.config == MICRO and not found.network.training


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state_dict": None}, "no tensors under 'state_dict'"),
        ({"opts": None}, "no options"),
        ({"latent_avg": None}, "missing or of another size"),
        ({"latent_avg": torch.zeros(9)}, "missing or of another size"),
        ({"latent_avg": torch.full((8,), float("nan"))}, "not finite"),
        ({"latent_avg": "text"}, "no options"),
    ],
)
def test_what_is_no_encoder_s_file_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = {name: value for name, value in (encoder_content() | change).items() if value is not None}
    with pytest.raises(RefusedError, match=said):
        read_encoder(written(tmp_path / "encoder.pt", content))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder.body.0.res_layer.1.weight": None}, "counted"),
        ({"encoder.latlayer1.bias": None}, "missing latlayer1"),
        ({"encoder.odd": torch.zeros(2)}, "unknown odd"),
        ({"odd": torch.zeros(2)}, "unknown odd"),
        ({"decoder.conv1.noise.weight": None}, "StyleGAN2 generator.*missing"),
        ({"encoder.latlayer2.bias": torch.zeros(3)}, "another size"),
        ({"encoder.latlayer2.bias": torch.full((8,), float("nan"))}, "not finite"),
    ],
)
def test_what_is_no_encoder_is_refused(change: dict[str, Tensor | None], said: str) -> None:
    tensors = {name: value for name, value in (encoder_content()["state_dict"] | change).items() if value is not None}
    with pytest.raises(RefusedError, match=said):
        encoder_from(tensors, {}, None)


def test_an_encoder_of_another_size_than_its_decoder_is_refused() -> None:
    content = encoder_content(config=EncoderConfig((4, 4, 8, 8), 12, 2))
    with pytest.raises(RefusedError, match="different sizes"):
        encoder_from(content["state_dict"], {}, None)


def test_the_recorded_encoder_is_met_through_the_importer(golden: Opened) -> None:
    # Worst difference measured: 3e-6 of a tensor's largest value.
    known = golden("psp-encoder-small")
    weights, mean = known.weights(), known["in.latent_avg"]
    encoder = encoder_from(weights, {"start_from_latent_avg": True}, mean)
    codes = encoder.codes(known["in.image"])
    known.meets(codes, "w_plus.codes")
    known.meets(codes - mean, "z_plus_plain.codes")
    known.meets(torch.nn.functional.avg_pool2d(encoder.decoder(encoder.decoder.mapping(codes)), 4), "z_plus.image_64")


def test_the_official_encoder_s_sizes_are_found(golden: Opened) -> None:
    official = golden("psp-encoder-small").official()
    blank = {name: torch.empty(shape, device="meta") for name, shape in official.items()}
    own = {name.removeprefix("encoder."): value for name, value in blank.items() if name.startswith("encoder.")}
    assert config_of(own) == EncoderConfig()
    with torch.device("meta"):
        state = PyramidEncoder(config_of(own)).state_dict()
    assert {name: value.shape for name, value in state.items()} == {name: value.shape for name, value in own.items()}
    decoder = {f"decoder.{name}" for name in generator_names(configuration_f(1024)).values()}
    assert decoder | {f"encoder.{name}" for name in own} == {n for n in official if not n.endswith(".kernel")}


def test_genuine_containers_are_read(golden: Opened) -> None:
    folder = golden("dualstylegan-small").folder.parent / "checkpoint-files"
    generator = read_generator(folder / "generator.pt")
    weights = golden("dualstylegan-small").weights()
    state = generator.state_dict()
    for ours, theirs in names(generator.config).items():
        assert torch.equal(state[ours].flatten(), weights[theirs].flatten())
    expected = load_file(folder / "exstyle_code_expected.safetensors")
    for name in ("exstyle_code.npy", "exstyle_code_numpy2.npy"):
        codes = read_codes(folder / name, configuration_f(1024))
        assert list(codes) == ["Cartoons_00003_01.jpg", "Cartoons_00010_02.jpg", "café 1.png"]
        assert all(torch.equal(codes[name], expected[name]) for name in expected)
        with pytest.raises(RefusedError, match=r"takes \(1, 10, 32\)"):
            read_codes(folder / name, generator.config)
    with pytest.raises(RefusedError, match="not a pSp encoder"):
        read_encoder(folder / "encoder_head.pt")
