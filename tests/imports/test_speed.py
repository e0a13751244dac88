"""`python -m benchmarks.speed` measures what it says: the yardstick makes the same pictures, each task has a ratio."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return importlib.import_module("benchmarks.speed")


def run(speed: ModuleType, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    threads = torch.get_num_threads()
    speed.main(["--small", "--rounds", "1", "--resolution", "64", *words])
    torch.set_num_threads(threads)
    return json.loads(capsys.readouterr().out)


def test_both_sides_make_the_same_and_every_task_has_a_ratio(
    speed: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("agile3d_cli.models.published", "benchmarks.speed"):
        monkeypatch.setattr(f"{where}.compiled", lambda: None)
    document = run(speed, capsys)
    # Measured: 9e-5 of 40, 8e-6, 9e-6 and 1e-5.
    assert {name: entry["max"] < 5e-4 for name, entry in document["differences"].items()} == dict.fromkeys(
        ("planes", "image_raw", "image_depth", "image"), True
    )
    assert document["differences"]["image"]["range"] > 0.5
    assert set(document["ratios"]) == {*speed.TASKS, "backbone", "render", "superresolution"}
    assert all(ratio > 0 for ratio in document["ratios"].values())
    ours, described = document["cpu_seconds"]["ours"], document["cpu_seconds"]["described"]
    assert set(ours) == {"mapping", "backbone", "subject", "render", "superresolution", "surface"}
    view = sum(described[stage] for stage in ("mapping", "backbone", "render", "superresolution"))
    mine = ours["render"] + ours["superresolution"]
    assert document["ratios"]["further_view"] == pytest.approx(view / mine, rel=1e-2)
    assert document["surface"]["vertices"] > 1000
    if sys.platform == "linux":
        assert 0 < document["peak_bytes_of_a_view"]["ours"] < 1e9


def test_bf16_says_what_it_moves(
    speed: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "peaks", lambda words: {})
    document = run(speed, capsys, "--precision", "bf16")
    assert document["precision"] == "bf16" and 1e-4 < document["differences"]["image"]["rms"] < 0.1


def test_a_batch_is_the_field_at_its_points(speed: ModuleType) -> None:
    generator = speed.planted(speed.SMALL)
    z, condition, _ = speed.asked(speed.SMALL)
    subject = speed.published_subject(generator, generator.mapping(z, condition))
    batch = speed.as_described.field_batch(generator, z, condition, 32).reshape(32, 32, 32)
    whole, cut = speed.whole_grid(subject, 32), int(speed.BORDER * 32)
    inner = (slice(cut, -cut),) * 3
    np.testing.assert_allclose(whole[inner], batch[inner], atol=2e-3)
    assert (whole[0] == speed.EMPTY).all() and speed.as_described.batches(256) == 17
