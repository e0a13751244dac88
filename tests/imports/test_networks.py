"""Networks of the EG3D family are read exactly from whatever file they come in, and nothing in it is run."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models.config import EG3D_FFHQ_512, SuperresolutionConfig
from agile3d_cli.models.foreign import eg3d_names, from_eg3d
from agile3d_cli.models.foreign_config import eg3d_config
from agile3d_cli.models.foreign_networks import ForeignNetwork, read_network
from agile3d_cli.models.generator import TriplaneGenerator

KEYS = Path(__file__).parents[2] / "../shared/parity/eg3d-mini/keys_full.txt"


def same(found: Any, wanted: dict[str, torch.Tensor]) -> None:
    assert sorted(found) == sorted(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_network_pickle_is_read(tiny: Any, tmp_path: Path, canary: Path, protocol: int) -> None:
    found = read_network(tiny.pickle(tmp_path / "n.pkl", protocol, ray_start=2.5, white_back=True))
    same(found.tensors, tiny.tensors)
    assert found.container == "network pickle" and found.rendered == 8
    assert found.rendering is not None and found.rendering["ray_start"] == 2.5
    assert found.settings["sr_num_fp16_res"] == 4 and found.settings["mapping_kwargs"] == {"num_layers": 2}
    assert not canary.exists() and "torch_utils.persistence" not in sys.modules


def test_the_configuration_comes_back(make_network: Callable[..., Any], tmp_path: Path) -> None:
    fields = {"box": 1.6, "near": 0.1, "mapping_layers": 3, "z_dim": 5, "channel_max": 6, "coarse_samples": 7}
    network = make_network(**fields)
    config, notes = eg3d_config(read_network(network.pickle(tmp_path / "n.pkl")))
    # Widths of 6 at 4 and 8 pixels come of any base from 48 on.
    assert config.to_dict() == network.config.to_dict() | {"channel_base": 48} and notes == []
    options = {"white_back": True, "c_gen_conditioning_zero": True}
    config, _ = eg3d_config(read_network(network.pickle(tmp_path / "n.pkl", **options)), rendered=16)
    assert config.published.white_back and config.published.label_scale == 0
    assert config.superresolution.rendered == 16


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("form", ["zip", "older", "object", "older object", "safetensors", "prefixed", "held"])
def test_other_files_are_read(tiny: Any, tmp_path: Path, canary: Path, form: str, family: None) -> None:
    path = tmp_path / "n.pth"
    prefixed = {f"generator_ema.{name}": value for name, value in tiny.tensors.items()}
    others = {f"generator.{name}": value + 1 for name, value in tiny.tensors.items()}
    values: dict[str, Any] = {
        "zip": tiny.tensors,
        "older": tiny.tensors,
        "prefixed": {"meta": {"epoch": 1}, "state_dict": others | prefixed | {"discriminator.x": torch.ones(2)}},
        "held": {"params_ema": tiny.tensors, "args": [1]},
    }
    if form == "safetensors":
        save_file(tiny.tensors, path)
    elif "object" in form:
        torch.save(tiny.tree(), path, _use_new_zipfile_serialization=form == "object")  # noqa: TID251
    else:
        torch.save(values[form], path, _use_new_zipfile_serialization=form != "older")  # noqa: TID251
    found = read_network(path)
    same(found.tensors, tiny.tensors)
    assert (found.rendering is None) == ("object" not in form)
    state = from_eg3d(found.tensors, tiny.config)
    same(state, dict(tiny.generator.state_dict()))
    assert not canary.exists()


@pytest.mark.parametrize("start", [0x28, 0x80])
def test_a_safetensors_file_may_begin_as_a_pickle_does(tiny: Any, tmp_path: Path, start: int) -> None:
    """By the length of its header, which is a multiple of eight."""
    for size in range(0, 256, 8):
        save_file(tiny.tensors, tmp_path / "n.safetensors", {"note": "x" * size})
        if (tmp_path / "n.safetensors").read_bytes()[0] == start:
            break
    else:
        raise AssertionError("no such length was met")
    same(read_network(tmp_path / "n.safetensors").tensors, tiny.tensors)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no file"):
        read_network(tmp_path / "none.pkl")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clamp_mode": "relu"}, "clamp_mode = 'relu'"),
        ({"disparity_space_sampling": True}, "disparity_space_sampling"),
        ({"ray_start": "auto"}, "ray_start is 'auto'"),
        ({"ray_start": 5}, "near < far"),
        ({"box_warp": float("nan")}, "box_warp is nan"),
        ({"depth_resolution": 10**9}, "depth_resolution is 1000000000"),
        ({"depth_resolution": True}, "depth_resolution is True"),
        ({"c_scale": "much"}, "c_scale"),
    ],
)
def test_options_that_are_not_understood_are_refused(tiny: Any, tmp_path: Path, options: Any, said: str) -> None:
    with pytest.raises(RefusedError, match=said):
        eg3d_config(read_network(tiny.pickle(tmp_path / "n.pkl", **options)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("backbone.synthesis.b4.conv1.weight"), r"resolutions \[8\]"),
        (lambda t: t.pop("decoder.net.0.weight"), r"no decoder\.net\.0\.weight"),
        (lambda t: t.update({"decoder.net.0.weight": torch.ones(3)}), "2 edges"),
        (lambda t: t.update({"backbone.synthesis.b4.conv1.weight": torch.ones(3, 8, 3, 3)}), "widths"),
        (lambda t: t.pop("superresolution.block0.conv1.noise_const"), "tells its size"),
        (lambda t: t.update({"superresolution.block1.conv1.noise_const": torch.ones(48, 48)}), "keeps or doubles"),
    ],
)
def test_tensors_of_other_families_are_refused(tiny: Any, tmp_path: Path, change: Any, said: str) -> None:
    tensors = dict(tiny.tensors)
    change(tensors)
    other = type(tiny)(tiny.config, tiny.generator, tensors)
    with pytest.raises(RefusedError, match=said):
        eg3d_config(read_network(other.pickle(tmp_path / "n.pkl")))


def test_files_that_say_nothing_of_rendering_need_it_said(tiny: Any, tmp_path: Path) -> None:
    torch.save(tiny.tensors, tmp_path / "n.pt")  # noqa: TID251
    with pytest.raises(RefusedError, match="--rendering"):
        eg3d_config(read_network(tmp_path / "n.pt"))


FFHQ = {
    "ray_start": 2.25,
    "ray_end": 3.3,
    "box_warp": 1,
    "depth_resolution": 48,
    "depth_resolution_importance": 48,
    "c_scale": 1.0,
}


@pytest.mark.parametrize(
    ("sizes", "entry", "channels"),
    [((256, 512), 128, (256, 128)), ((128, 256), 128, (128, 64)), ((64, 128), 64, (128, 64))],
)
def test_the_official_sizes_are_known(sizes: tuple[int, int], entry: int, channels: tuple[int, int]) -> None:
    """8x, 4x and 2x super-resolution; only shapes are looked at."""
    larger = SuperresolutionConfig(rendered=64, entry=entry, sizes=sizes, channels=channels)
    wanted = replace(EG3D_FFHQ_512, superresolution=larger)
    with torch.device("meta"):
        state = TriplaneGenerator(wanted).state_dict()
        tensors = {theirs: state[ours] for ours, theirs in eg3d_names(wanted).items()}
        tensors |= {f"superresolution.block{k}.conv1.noise_const": torch.ones(s, s) for k, s in enumerate(sizes)}
    assert eg3d_config(ForeignNetwork("", tensors, FFHQ, 64, {})) == (wanted, [])
    if sizes[1] == 512:
        config, notes = eg3d_config(ForeignNetwork("", tensors, None, None, {}))
        assert config == EG3D_FFHQ_512 and len(notes) == 2
        assert eg3d_config(ForeignNetwork("", tensors, FFHQ, 64, {"sr_num_fp16_res": 0}))[0].superresolution.clamp == 0


@pytest.mark.skipif(not KEYS.is_file(), reason="the list of official tensors is not on this machine")
def test_the_official_names_give_the_official_configuration() -> None:
    tensors = {}
    for line in KEYS.read_text().splitlines():
        if line.startswith("# discriminator"):
            break
        if found := re.fullmatch(r"(\S+) \(([\d, ]*)\)", line):
            tensors[found[1]] = torch.empty([int(n) for n in found[2].split(",") if n.strip()], device="meta")
    assert eg3d_config(ForeignNetwork("", tensors, FFHQ, 128, {})) == (EG3D_FFHQ_512, [])
