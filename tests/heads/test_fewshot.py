"""The arithmetic of the few-shot benchmark: errors over people and seeds, and who is found first."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.style.augment import Pairs


def test_errors_hold_people_and_seeds(fewshot: ModuleType) -> None:
    alike = np.array([[1.0, 3.0, 5.0], [2.0, 3.0, 4.0]])
    assert fewshot.standard_error(alike) == pytest.approx((2.5 / 6) ** 0.5), "seeds agree: people alone"
    apart = np.array([[1.0, 2.0, 3.0], [7.0, 8.0, 9.0]])
    assert fewshot.standard_error(apart) == pytest.approx(18**0.5 / 2**0.5), "seeds differ: as the seeds' means do"
    told = fewshot._summary({"paired": alike.tolist(), "seconds": [[7.0]]})
    assert told["paired"] == {"mean": 3.0, "standard_error": pytest.approx(0.6455, abs=1e-4)}
    assert told["seconds"] == {"mean": 7.0, "standard_error": None}


def test_the_error_is_that_of_other_draws(fewshot: ModuleType) -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(2000, 3, 20)) + rng.normal(size=(2000, 3, 1))
    told = np.mean([fewshot.standard_error(table) ** 2 for table in tables]) ** 0.5
    assert tables.mean((1, 2)).std() == pytest.approx(told, rel=0.08)


def test_the_nearest_is_found_and_nobody_is_nobodys(fewshot: ModuleType, fewshot_sets: ModuleType) -> None:
    true = torch.eye(4, 128)
    drawn = true[[0, 1, 3, 2]] + 0.1
    assert fewshot._found_first(drawn, true) == [1.0, 1.0, 0.0, 0.0]
    true[1] = fewshot_sets.NOBODY
    assert fewshot._found_first(drawn, true)[1] == 0.0


def test_exchanged_pictures_keep_their_cameras_and_nobody_their_own(fewshot: ModuleType) -> None:
    from benchmarks.rivals import exchanged

    z, labels = torch.arange(4.0)[:, None], torch.arange(4.0)[:, None].expand(4, 25)
    pictures, moved = torch.rand(4, 3, 8, 8), torch.rand(4, 468, 2)
    pairs = Pairs(z, labels, pictures, pictures[:, :1], moved)
    found = exchanged(pairs)
    assert torch.equal(found.labels, labels) and torch.equal(found.stylized, pictures)
    assert not (found.z == z).any() and sorted(found.z[:, 0].tolist()) == [0, 1, 2, 3]


def test_style_is_compared_with_other_peoples_truth(fewshot_sets: ModuleType) -> None:
    rng = torch.Generator().manual_seed(0)
    true = torch.randn(40, 8, generator=rng)
    same, other = torch.randn(40, 8, generator=rng), true + torch.tensor([1.5] + [0.0] * 7)
    near, far = (np.array(fewshot_sets.style_distances(drawn, true)) for drawn in (same, other))
    errors = [values.std(ddof=1) / 40**0.5 for values in (near, far)]
    assert abs(near.mean()) < 3 * errors[0] and far.mean() > 4 * errors[1]
    # Other draws of people scatter as the error says.
    draws = torch.randn(200, 2, 40, 8, generator=rng)
    draws[:, 0, :, 0] += 1.5
    found = [np.array(fewshot_sets.style_distances(*pair)) for pair in draws]
    told = np.mean([values.std(ddof=1) / 40**0.5 for values in found])
    assert np.std([values.mean() for values in found]) == pytest.approx(told, rel=0.25)


def test_of_a_drawn_set_each_seed_holds_out_others(fewshot_sets: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"{number:02d}.png")
    drawn = fewshot_sets.Drawn(tmp_path, None, load_base("mini"))
    parts = [[{e.sha256 for e in part.exemplars} for part in drawn._split(seed)] for seed in (0, 0, 1)]
    assert parts[0] == parts[1] and parts[0][0] != parts[2][0]
    for learnt, others in parts:
        assert len(learnt) == fewshot_sets.DRAWN_EXEMPLARS and len(others) == 4 and not learnt & others
    # Pictures like those that are held out are nearer than others.
    held = fewshot_sets.head_features(fewshot_sets.as_batch(drawn._split(0)[1], fewshot_sets.EXEMPLAR_SIZE))
    grey = fewshot_sets.head_features(torch.rand(4, 1, 1, 1).expand(4, 3, 64, 64))
    near, far = (drawn.distances(features, [], 0)[0] for features in (held, grey))
    assert near < far - 0.1
