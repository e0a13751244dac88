"""`python -m benchmarks.accelerator` measures what it says; here on the CPU, which is its own accelerator."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.accelerator")


def test_every_stage_has_its_time_and_every_result_its_error(
    accelerator: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.backends.cudnn.allow_tf32
    words = ["--device", "cpu", "--small", "--rounds", "1", "--batch", "2", "--resolution", "64"]
    assert accelerator.main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert torch.backends.cudnn.allow_tf32 == before
    assert document["schema"] == "agile3d.benchmark.accelerator/1" and document["device"]["type"] == "cpu"
    results = {"ws", "planes", "image_raw", "image_depth", "seen", "image"}
    assert set(document["errors"]) == results and document["within"]
    ours, described = document["milliseconds"]["ours"], document["milliseconds"]["described"]
    stages = {"mapping", "backbone", "render", "superresolution", "first_view"}
    assert set(described) == stages and set(ours) == stages | {"subject", "further_view", "batch"}
    assert all(spent > 0 for spent in (*ours.values(), *described.values(), *document["ratios"].values()))
    assert document["ratios"]["further_view"] == pytest.approx(described["first_view"] / ours["further_view"], rel=1e-2)
    assert document["views_per_second"]["further_in_batches"] == pytest.approx(2000 / ours["batch"], rel=1e-2)
    bound = document["renderer"]
    assert bound["render_ms"] == ours["render"] and bound["bound_ms"] <= bound["bound_ms_with_look_ups"]
    assert bound["over_bound"] == pytest.approx(bound["render_ms"] / bound["bound_ms"], rel=1e-2)
    assert document["surface"]["vertices"] == document["surface"]["vertices_on_cpu"] > 1000
    assert document["surface"]["farthest"] == 0


def test_an_error_is_told(accelerator: ModuleType) -> None:
    wanted = {"image": torch.zeros(1, 3, 10, 10)}
    found = {"image": wanted["image"].clone()}
    found["image"][0, 0, 0, :3] = torch.tensor([0.5, 2e-3, 5e-4])
    (told,) = accelerator.errors(found, wanted).values()
    assert told["max"] == 0.5 and told["beyond"] == pytest.approx(2 / 300)
    assert told["rms"] == pytest.approx(0.5 / 300**0.5, rel=1e-4)


def test_depth_counts_where_a_ray_met_something(accelerator: ModuleType) -> None:
    depth, seen = torch.full((1, 1, 2, 4), 2.7), torch.ones(1, 1, 2, 4)
    seen[0, 0, 0, 0], other = accelerator.CLEAR / 2, depth.clone()
    other[0, 0, 0, 0] = 3.3
    told = accelerator.errors({"image_depth": other, "seen": seen}, {"image_depth": depth, "seen": seen})
    assert told["image_depth"]["max"] == 0 and told["image_depth"]["compared"] == 7 / 8
    assert told["seen"]["compared"] == 1
    other[0, 0, 1, 1] = 2.8
    told = accelerator.errors({"image_depth": other, "seen": seen}, {"image_depth": depth, "seen": seen})
    assert told["image_depth"]["max"] == pytest.approx(0.1) and told["image_depth"]["beyond"] == pytest.approx(1 / 7)


def test_the_bound_is_the_longer_of_two_times(accelerator: ModuleType) -> None:
    work = importlib.import_module("benchmarks.bound").work_of_rays(accelerator.EG3D_FFHQ_512)
    samples = 128 * 128 * 96
    # Eight texels of 32 channels, the decoder's 32 x 64 and 64 x 33, 32 features: multiplied and added.
    assert work.flops == samples * 2 * (8 * 32 + 32 * 64 + 64 * 33 + 32)
    assert work.bytes == 4 * (2 * 256 * 256 * 32 + samples + 128 * 128 * 34)
    assert work.look_up_bytes == samples * 8 * 32 * 4
    for flops, copied in ((1e9, 1e15), (1e15, 1e9)):
        rates = {"product_flops_per_second": flops, "copy_bytes_per_second": copied}
        longer = max(work.flops / flops, work.bytes / copied)
        assert work.bound_ms(rates) == pytest.approx(1000 * longer)
    assert work.bound_ms(rates, look_ups=True) == pytest.approx((work.bytes + work.look_up_bytes) / 1e6)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_sentence(
    accelerator: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert accelerator.main(["--device", "cuda"]) == 6
    assert "no CUDA device" in capsys.readouterr().err
