"""The training of the tiny base: what it reads, and that an interrupted run ends with the same bits."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers", reason="agile3d-diffusion is optional: pip install ./plugins/agile3d-diffusion")
pytest.importorskip("agile3d_diffusion", reason="agile3d-diffusion is not installed here")

from agile3d_diffusion.tiny import LEARNT, TinyBase, noise_levels, packed, read_tiny, unpacked
from agile3d_diffusion.train_base import (
    CLOSE_VIEWS,
    GREY,
    RESULT,
    STATE,
    BaseTrainer,
    BaseTraining,
    batch_at,
    before,
    denoising_loss,
    read_pictures,
)


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """A shard of three subjects: each view one grey, the left half covered by the head."""
    pixels = torch.zeros(3, 13, 144, 144, 4, dtype=torch.uint8)
    pixels[..., :72, :3] = torch.arange(39, dtype=torch.uint8).reshape(3, 13, 1, 1, 1) * 6
    pixels[..., :72, 3] = 255
    save_file({"pixels": pixels}, tmp_path / "heads-0000.safetensors")
    return tmp_path


def trainer(out: Path, steps: int) -> BaseTrainer:
    torch.manual_seed(0)
    out.mkdir(exist_ok=True)
    return BaseTrainer(TinyBase((16, 32), 16), BaseTraining(batch=4, steps=steps, warmup=2), out)


def test_only_close_views_are_read_and_colours_lie_on_black(heads: Path) -> None:
    pictures = read_pictures(heads, 16)
    assert pictures.shape == (3 * CLOSE_VIEWS, 4, 16, 16)
    assert pictures[:, 0, 3, 3].tolist() == [6 * (13 * subject + view) for subject in range(3) for view in range(5)]
    assert pictures[0, :, 3, 12].tolist() == [0, 0, 0, 0]
    shown = before(pictures[:1], torch.tensor(GREY))
    # 0.55 in [-1, 1] is what stands behind the faces that stylizers are given.
    torch.testing.assert_close(shown[0, :, 3, 12], torch.full((3,), 0.55), rtol=0, atol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"prior\.subjects"):
        read_pictures(heads / "none", 16)


def test_batches_depend_on_their_number_only_and_show_every_picture_once(heads: Path) -> None:
    pictures, training = read_pictures(heads, 16), BaseTraining(batch=5)
    for first, second in zip(batch_at(pictures, 7, training), batch_at(pictures, 7, training), strict=True):
        assert torch.equal(first, second)
    values = []
    for step in range(3):
        clean, level, noise = batch_at(pictures, step, training)
        assert clean.shape == noise.shape == (5, 3, 16, 16) and int(level.max()) < LEARNT
        # The head is on the left, or on the right where the picture is mirrored.
        left, right = clean[:, 0, 3, 3], clean[:, 0, 3, 12]
        values += [{round(float(value), 3) for value in pair} for pair in zip(left, right, strict=True)]
    wanted = [round(2 * 6 * (13 * subject + view) / 255 - 1, 3) for subject in range(3) for view in range(5)]
    assert all(sum(value in pair for pair in values) >= 1 for value in wanted)


def test_the_loss_counts_errors_in_units_of_the_noise() -> None:
    class Off(TinyBase):
        def forward(self, noisy: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return clean + 0.5

    clean, levels = torch.zeros(1, 3, 16, 16), noise_levels()
    for level, weight in ((600, 1 / (1 - float(levels[600]))), (1, 16.0)):
        loss = denoising_loss(Off((16, 32), 16), clean, torch.tensor([level]), torch.zeros_like(clean), levels)
        assert float(loss) == pytest.approx(0.25 * weight, rel=1e-5)


def test_an_interrupted_training_ends_with_the_same_bits(
    heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = read_pictures(heads, 16)
    whole = trainer(tmp_path / "whole", 6)
    whole.run(pictures, minutes=10)
    broken = trainer(tmp_path / "broken", 6)
    assert not broken.load()
    update = broken._update

    def update_and_stop(pictures: torch.Tensor, done: float) -> float:
        loss = update(pictures, done)
        if broken.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    monkeypatch.setattr(broken, "_update", update_and_stop)
    broken.run(pictures, minutes=10)
    torch.manual_seed(123)
    again = trainer(tmp_path / "broken", 6)
    assert again.load() and again.step == 3
    again.run(pictures, minutes=10)
    first, second = (load_file(tmp_path / name / STATE) for name in ("whole", "broken"))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    made = read_tiny(tmp_path / "whole" / RESULT)
    averaged = whole.averaged().state_dict()
    stored = unpacked(packed(averaged))
    assert all(torch.equal(value, stored[name]) for name, value in made.state_dict().items())
    assert any(not torch.equal(averaged[name], value) for name, value in whole.base.state_dict().items())
