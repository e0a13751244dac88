"""EG3D checkpoints with MMagic's names: the same network comes back, and what is not understood is refused by name.

The layout is written down here a second time, in the order in which MMagic builds its modules, from our state alone.
"""

from __future__ import annotations

import json
import math
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from typer.testing import CliRunner, Result

from agile3d_cli import camera
from agile3d_cli.cli.app import app
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.models.config import EG3D_FFHQ_512, GeneratorConfig, PublishedConfig, SuperresolutionConfig
from agile3d_cli.models.foreign import eg3d_names
from agile3d_cli.models.foreign_config import eg3d_config
from agile3d_cli.models.foreign_mmagic import MMAGIC, official
from agile3d_cli.models.foreign_networks import ForeignNetwork, read_network
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.published import render_published

Run = Callable[..., Result]
State = dict[str, Tensor]
KEPT = SuperresolutionConfig(rendered=8, entry=16, sizes=(16, 32), channels=(6, 4))
DOUBLED = SuperresolutionConfig(rendered=8, entry=8, sizes=(16, 32), channels=(6, 4))
LINE = torch.tensor([1.0, 3.0, 3.0, 1.0])
TAPS = torch.outer(LINE, LINE) / 16


def as_mmagic(state: State, config: GeneratorConfig) -> State:
    """Our state under MMagic's names, in its shapes."""
    out: State = {"backbone.w_avg": state["mapping.w_avg"]}

    def linear(theirs: str, ours: str) -> None:
        out[f"{theirs}.linear.weight_orig"], out[f"{theirs}.bias"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def modulated(theirs: str, ours: str) -> None:
        out[f"{theirs}.conv.weight_orig"] = state[f"{ours}.weight"][None]
        linear(f"{theirs}.conv.style_modulation", f"{ours}.affine")

    def styled(theirs: str, ours: str, up: bool) -> None:
        modulated(theirs, ours)
        if up:
            out[f"{theirs}.conv.blur.kernel"] = TAPS
        out[f"{theirs}.activate.bias"] = state[f"{ours}.bias"]
        out[f"{theirs}.noise_injector.weight"] = state.get(f"{ours}.noise_strength", torch.tensor(0.3)).reshape(1)

    def to_rgb(theirs: str, ours: str, up: bool) -> None:
        modulated(theirs, ours)
        if up:
            out[f"{theirs}.upsample.kernel"] = TAPS
        out[f"{theirs}.bias"] = state[f"{ours}.bias"].reshape(1, -1, 1, 1)

    linear("backbone.embed", "mapping.embed")
    for k in range(config.mapping_layers):
        linear(f"backbone.style_mapping.{k}", f"mapping.layers.{k}")
    out["backbone.constant_input.input"] = state["backbone.blocks.0.const"][None]
    styled("backbone.conv1", "backbone.blocks.0.conv1", up=False)
    to_rgb("backbone.to_rgb1", "backbone.blocks.0.output", up=False)
    convs = ["backbone.blocks.0.conv1"]
    for k in range(1, len(config.resolutions)):
        for part, up in (("conv0", True), ("conv1", False)):
            convs.append(f"backbone.blocks.{k}.{part}")
            styled(f"backbone.convs.{len(convs) - 2}", convs[-1], up)
        to_rgb(f"backbone.to_rgbs.{k - 1}", f"backbone.blocks.{k}.output", up=True)
    for k, conv in enumerate(convs):
        out[f"backbone.injected_noise_{k}"] = state[f"{conv}.noise_const"][None, None]
    for layer, number in (("hidden", 0), ("output", 2)):
        for part in ("weight", "bias"):
            out[f"renderer.decoder.net.{number}.{part}"] = state[f"decoder.{layer}.{part}"]
    before = config.superresolution.entry
    for k, size in enumerate(config.superresolution.sizes):
        ours, theirs, up = f"superresolution.blocks.{k}", f"sr_model.block{k}", size > before
        styled(f"{theirs}.conv0", f"{ours}.conv0", up)
        styled(f"{theirs}.conv1", f"{ours}.conv1", up=False)
        to_rgb(f"{theirs}.to_rgb", f"{ours}.output", up)
        before = size
    return out


def told(config: GeneratorConfig) -> dict[str, Any]:
    """What the user says of a network's configuration."""
    return {
        "ray_start": config.near,
        "ray_end": config.far,
        "box_warp": config.box,
        "depth_resolution": config.coarse_samples,
        "depth_resolution_importance": config.fine_samples,
        "c_scale": 1.0,
        "sr_in_size": config.superresolution.entry,
        "neural_rendering_resolution": config.superresolution.rendered,
    }


@pytest.fixture
def state(tiny: Any) -> State:
    """A tiny generator's tensors under MMagic's names."""
    return {name: value.clone() for name, value in as_mmagic(tiny.generator.state_dict(), tiny.config).items()}


@pytest.fixture
def options(tiny: Any, tmp_path: Path) -> Path:
    """Its rendering options, as a file."""
    path = tmp_path / "options.json"
    path.write_text(json.dumps(told(tiny.config)))
    return path


@pytest.fixture
def run(canary: Path) -> Run:
    """``agile3d models import``, in an empty current folder."""
    return lambda *words: CliRunner().invoke(app, ["models", "import", *map(str, words)])


def saved(path: Path, value: Any) -> Path:
    """A PyTorch file."""
    torch.save(value, path)  # noqa: TID251 (the format under test)
    return path


@pytest.mark.parametrize("larger", [KEPT, DOUBLED])
@pytest.mark.parametrize("form", ["generator_ema.module.", "generator_ema.", "generator.", "", "safetensors"])
def test_an_import_is_the_network_that_was_saved(
    make_network: Any, tmp_path: Path, own_home: Path, canary: Path, run: Run, form: str, larger: SuperresolutionConfig
) -> None:
    network = make_network(superresolution=larger, mapping_layers=3)
    tensors = as_mmagic(network.generator.state_dict(), network.config)
    if form == "safetensors":
        file = tmp_path / "n.safetensors"
        save_file({f"generator.{name}": value.clone() for name, value in tensors.items()}, file)
    else:
        held = {f"{form}{name}": value for name, value in tensors.items()}
        if "ema" in form:
            others = {f"generator.{name}": value + 1 for name, value in tensors.items()}
            held = {**others, **held}
        if "module" in form:
            held["generator_ema.steps"] = torch.tensor(3)
        if form:
            held["discriminator.x"] = torch.ones(2)
        file = saved(tmp_path / "n.pth", {"meta": {"mmengine_version": "0.7"}, "state_dict": held})
    (tmp_path / "o.json").write_text(json.dumps(told(network.config)))
    result = run(file, "--rendering", tmp_path / "o.json", "--json")
    assert result.exit_code == 0 and not canary.exists(), result.stdout
    document = json.loads(result.stdout)
    wanted = json.loads(json.dumps(network.config.to_dict()))
    assert document["architecture"] == {"kind": "triplane-generator", **wanted}
    assert document["training"]["layout"] == "mmagic" and document["training"]["names"] == "eg3d"
    assert document["notes"] == document["training"]["assumed"] and len(document["notes"]) == 1
    assert "RGB" in document["notes"][0] and "--plane-axes" in document["notes"][0]
    base = load_base("n").generator
    ours = network.generator.state_dict()
    assert sorted(base.state_dict()) == sorted(ours)
    assert all(torch.equal(value, ours[name]) for name, value in base.state_dict().items())
    z, label = torch.randn(1, network.config.z_dim), camera.portrait_label(0.3, 0.1)[None]
    shown, expected = (render_published(g, g.mapping(z, label, 0.7), label) for g in (base, network.generator))
    assert shown.image is not None and expected.image is not None and shown.image.shape == (1, 3, 32, 32)
    assert torch.equal(shown.image, expected.image) and torch.equal(shown.depth, expected.depth)


def test_the_shapes_are_mmagics(state: State) -> None:
    shapes = {
        "backbone.constant_input.input": (1, 8, 4, 4),
        "backbone.embed.linear.weight_orig": (16, 25),
        "backbone.style_mapping.0.linear.weight_orig": (16, 24),
        "backbone.style_mapping.1.bias": (16,),
        "backbone.conv1.conv.weight_orig": (1, 8, 8, 3, 3),
        "backbone.conv1.conv.style_modulation.linear.weight_orig": (8, 16),
        "backbone.conv1.activate.bias": (8,),
        "backbone.convs.0.conv.blur.kernel": (4, 4),
        "backbone.convs.1.noise_injector.weight": (1,),
        "backbone.to_rgbs.0.conv.weight_orig": (1, 12, 8, 1, 1),
        "backbone.to_rgbs.0.bias": (1, 12, 1, 1),
        "backbone.injected_noise_0": (1, 1, 4, 4),
        "backbone.injected_noise_2": (1, 1, 8, 8),
        "renderer.decoder.net.2.weight": (6, 8),
        "sr_model.block0.to_rgb.conv.weight_orig": (1, 3, 6, 1, 1),
        "sr_model.block1.conv0.conv.blur.kernel": (4, 4),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert "sr_model.block0.conv0.conv.blur.kernel" not in state


def test_numbers_mean_the_same(tiny: Any, state: State) -> None:
    """MMagic's arithmetic: weights times 1 / sqrt(fan in) and the layer's rate, norms by the length of a vector."""

    def linear(x: Tensor, name: str, rate: float = 1.0) -> Tensor:
        weight = state[f"{name}.linear.weight_orig"]
        return x @ weight.T * (rate / math.sqrt(weight.shape[1])) + state[f"{name}.bias"] * rate

    def unit(x: Tensor) -> Tensor:
        return x / (x.norm(dim=1, keepdim=True) / math.sqrt(x.shape[1]) + 1e-6)

    def active(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)

    def weights(name: str, w: Tensor, norm: bool) -> Tensor:
        weight = state[f"{name}.conv.weight_orig"][0]
        scaled = weight / math.sqrt(weight[0].numel()) * linear(w, f"{name}.conv.style_modulation")[0, :, None, None]
        return scaled / (scaled.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt() if norm else scaled

    def blurred(x: Tensor, name: str, before: int, after: int) -> Tensor:
        taps = state[name].expand(x.shape[1], 1, 4, 4)
        return F.conv2d(F.pad(x, (before, after, before, after)), taps, groups=x.shape[1])

    def convolved(x: Tensor, w: Tensor, name: str, noise: str, up: bool) -> Tensor:
        weight = weights(name, w, norm=True)
        if up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = blurred(x, f"{name}.conv.blur.kernel", 1, 1)
        else:
            x = F.conv2d(x, weight, padding=1)
        x = x + state[f"{name}.noise_injector.weight"] * state[noise]
        return active(x + state[f"{name}.activate.bias"][:, None, None])

    def output(x: Tensor, w: Tensor, name: str) -> Tensor:
        return F.conv2d(x, weights(name, w, norm=False)) + state[f"{name}.bias"]

    z, label = torch.randn(1, tiny.config.z_dim), camera.portrait_label(0.3, 0.1)[None]
    x = torch.cat([unit(z), unit(linear(label, "backbone.embed"))], 1)
    for k in range(tiny.config.mapping_layers):
        x = active(linear(x, f"backbone.style_mapping.{k}", 0.01))
    ws = tiny.generator.mapping(z, label)
    # 1.1e-6 measured: the two norms hold their divisors off zero in different ways.
    torch.testing.assert_close(ws[:, 0], x, rtol=1e-5, atol=1e-5)
    w = ws[:, 0]
    x = convolved(state["backbone.constant_input.input"], w, "backbone.conv1", "backbone.injected_noise_0", up=False)
    planes = output(x, w, "backbone.to_rgb1")
    x = convolved(x, w, "backbone.convs.0", "backbone.injected_noise_1", up=True)
    x = convolved(x, w, "backbone.convs.1", "backbone.injected_noise_2", up=False)
    # Zeros between the pixels, then the blur.
    spread = torch.zeros(1, planes.shape[1], 8, 8)
    spread[..., ::2, ::2] = planes
    planes = blurred(spread, "backbone.to_rgbs.0.upsample.kernel", 2, 1) + output(x, w, "backbone.to_rgbs.0")
    found = tiny.generator.backbone(ws)
    torch.testing.assert_close(found.flatten(1, 2), planes, rtol=1e-5, atol=1e-5)


CARS = PublishedConfig(label_scale=0.0, white_back=True, folded=True)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("FFHQ 512", EG3D_FFHQ_512),
        ("AFHQ 512", replace(EG3D_FFHQ_512, superresolution=SuperresolutionConfig(128, 128, (256, 512), (128, 64)))),
        (
            "ShapeNet-Car 128",
            replace(
                EG3D_FFHQ_512,
                mapping_layers=8,
                near=0.4,
                far=2.0,
                box=1.7,
                coarse_samples=64,
                fine_samples=64,
                superresolution=SuperresolutionConfig(64, 64, (64, 128), (128, 64)),
                published=CARS,
            ),
        ),
    ],
)
def test_the_published_networks_are_known(name: str, wanted: GeneratorConfig) -> None:
    """Only shapes are looked at."""
    with torch.device("meta"):
        state = TriplaneGenerator(wanted).state_dict()
    tensors, doubles = official(as_mmagic(state, wanted))
    named = set(eg3d_names(wanted).values())
    assert named <= set(tensors)
    assert {left.rsplit(".", 1)[-1] for left in set(tensors) - named} == {"noise_strength"}
    network = ForeignNetwork("", tensors, None, None, {}, MMAGIC, doubles)
    config, notes = eg3d_config(network)
    assert config == wanted
    assert len(notes) == 2 and f"those of its {name} were taken (--rendering): ray_start {wanted.near}," in notes[0]
    larger = wanted.superresolution
    assert f"sr_in_size {larger.entry}, neural_rendering_resolution {larger.rendered}." in notes[0]
    # What the user says goes first, and is not told as taken.
    config, notes = eg3d_config(replace(network, rendering={**told(wanted), "ray_end": 5}), rendered=32)
    assert (config.far, config.superresolution.rendered) == (5, 32)
    assert f"(--rendering): sr_in_size {larger.entry}." in notes[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone.w_avg": None}, "missing backbone.w_avg"),
        ({"backbone.convs.1.conv.weight_orig": None}, "missing backbone.convs.1.conv.weight_orig"),
        ({"backbone.to_rgbs.0.upsample.kernel": None}, "missing backbone.to_rgbs.0.upsample.kernel"),
        ({"sr_model.block1.to_rgb.upsample.kernel": None}, "missing sr_model.block1.to_rgb.upsample.kernel"),
        ({"renderer.decoder.net.2.bias": None}, "missing renderer.decoder.net.2.bias"),
        ({"backbone.style_mapping.0.bias": None}, "missing backbone.style_mapping.0.bias"),
        ({"backbone.style_mapping.2.bias": (16,)}, "missing backbone.style_mapping.2.linear.weight_orig"),
        ({"backbone.conv1.conv.weight": (1, 8, 8, 3, 3)}, "unknown backbone.conv1.conv.weight"),
        ({"sr_model.block2.conv0.activate.bias": (4,)}, "unknown sr_model.block2.conv0.activate.bias"),
        ({"backbone.injected_noise_3": (1, 1, 16, 16)}, "unknown backbone.injected_noise_3"),
        ({"backbone.conv1.activate.biass": (8,), "backbone.conv1.activate.bias": None}, "activate.biass; missing"),
        ({"backbone.to_rgbs.99999.bias": (1,)}, "100000 layers"),
        ({"backbone.conv1.conv.weight_orig": (2, 8, 8, 3, 3)}, "conv1.conv.weight_orig has the shape (2, 8, 8, 3, 3)"),
        ({"backbone.conv1.conv.weight_orig": (8, 8, 3, 3)}, "not (1, n, n, n, n)"),
        ({"backbone.embed.linear.weight_orig": (12, 25), "backbone.embed.bias": (12,)}, "of another size"),
        ({"backbone.convs.0.conv.blur.kernel": (4, 4)}, "not the blur of 1, 3, 3, 1"),
        ({"backbone.convs.0.conv.blur.kernel": (3, 3)}, "not the blur of 1, 3, 3, 1"),
        ({"backbone.embed.linear.weight_orig": None, "backbone.embed.bias": None}, "not conditioned on the camera"),
        ({"backbone.constant_input.input": None}, "official names or MMagic's"),
    ],
)
def test_other_names_and_shapes_are_refused(
    state: State, options: Path, tmp_path: Path, own_home: Path, run: Run, change: dict[str, Any], said: str
) -> None:
    for name, shape in change.items():
        state.pop(name, None)
        if shape is not None:
            state[name] = torch.full(shape, 0.5)
    held = {f"generator_ema.module.{name}": value for name, value in state.items()}
    result = run(saved(tmp_path / "n.pth", {"state_dict": held}), "--rendering", options)
    assert result.exit_code == 5 and said in " ".join(result.stderr.split())
    assert not list(own_home.glob("models/*"))


def test_unknown_sizes_need_their_configuration(
    tiny: Any, state: State, options: Path, tmp_path: Path, own_home: Path, run: Run
) -> None:
    file = saved(tmp_path / "n.pth", {"state_dict": {f"generator.{name}": value for name, value in state.items()}})
    for part in ({}, {"sr_in_size": None}, {"sr_in_size": "16"}, {"sr_in_size": 2}):
        options.write_text(json.dumps({k: v for k, v in (told(tiny.config) | part).items() if v is not None}))
        result = run(file, *(("--rendering", options) if part else ()))
        text = " ".join(result.stderr.split())
        assert result.exit_code == 5 and "sr_in_size" in text and "Traceback" not in text
    assert "--rendering" in " ".join(run(file).stderr.split())
    assert not list(own_home.glob("models/*"))


class HistoryBuffer:
    """What training writes its losses into."""

    def __init__(self) -> None:
        self.max_length, self._log_history, self._count_history = 10, np.array([0.5, 0.25]), np.array([1, 1])


def test_a_checkpoint_of_a_training_is_read(
    tiny: Any, state: State, options: Path, tmp_path: Path, own_home: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its logs are objects, optimizers have tensors of their own."""
    place = "mmengine.logging.history_buffer"
    for path in ("mmengine", "mmengine.logging", place):
        monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
    monkeypatch.setattr(HistoryBuffer, "__module__", place)
    monkeypatch.setattr(sys.modules[place], "HistoryBuffer", HistoryBuffer, raising=False)
    held = {f"generator_ema.module.{name}": value for name, value in state.items()}
    logs = OrderedDict({"train/loss": HistoryBuffer()})
    whole = {
        "meta": {"epoch": 0, "iter": 4, "cfg": "model = dict(type='EG3D')"},
        "state_dict": OrderedDict(held),
        "message_hub": {"log_scalars": logs, "runtime_info": OrderedDict(epoch=0), "resumed_keys": OrderedDict()},
        "optimizer": {"generator": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}},
    }
    file = saved(tmp_path / "iter_4.pth", whole)
    monkeypatch.delitem(sys.modules, place)
    assert run(file, "--rendering", options).exit_code == 0
    found = load_base("iter_4").generator.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in tiny.generator.state_dict().items())


def test_the_averaged_generator_is_taken_once(tiny: Any, state: State, tmp_path: Path) -> None:
    """Also where the other one is broken, which is not looked at."""
    held = {f"generator_ema.module.{name}": value for name, value in state.items()}
    held["generator.backbone.constant_input.input"] = torch.ones(3)
    found = read_network(saved(tmp_path / "n.pth", {"state_dict": held}))
    assert found.layout == MMAGIC and found.doubles == (False, True) and found.rendering is None
    names = eg3d_names(tiny.config)
    assert all(torch.equal(found.tensors[names[k]], v) for k, v in tiny.generator.state_dict().items() if k in names)
