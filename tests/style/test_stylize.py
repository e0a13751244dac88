"""A fitted stylizer is kept in the work folder, taken from there, and fitted anew where the file is damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.plugins import FoundStylizer
from agile3d_cli.style import stylize
from agile3d_cli.style.exemplars import ExemplarSet
from agile3d_cli.stylizer import FaceSampler, Progress, StylizerDescription

FITTED: list[int] = []


@dataclass(frozen=True)
class Config:
    """No settings."""


class Gain:
    """Multiplies by a number that it is fitted to."""

    def __init__(self, gain: float = 0.0):
        self.gain = gain

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        FITTED.append(seed)
        self.gain = 0.5

    def stylize(self, images: Tensor) -> Tensor:
        return self.gain * images

    def save(self, path: Path) -> None:
        path.write_text(str(self.gain))


def load(path: Path) -> Gain:
    text = path.read_text()
    if not text:
        raise RefusedError(f"{path} is damaged.")
    return Gain(float(text))


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Fits in the work folder and tells what a white picture becomes; and the fits so far."""
    FITTED.clear()
    note = (LicenseNote("t", "MIT", "", True),)
    description = StylizerDescription("gain", "", Config, lambda _: Gain(), load, note)
    version = ["1"]
    monkeypatch.setattr(
        stylize, "choose_stylizer", lambda name: FoundStylizer("gain", "agile3d-gain", version[0], description)
    )

    def once(new_version: str = "1") -> tuple[float, int]:
        version[0] = new_version
        found, _, card = stylize.fit_stylizer("gain", ExemplarSet((), ()), None, 3, lambda *_: None, tmp_path)  # type: ignore[arg-type]
        assert card == {"name": "gain", "version": new_version, "config": {}}
        return float(found.stylize(torch.ones(1))), len(FITTED)

    return once


def test_it_is_fitted_once(fit) -> None:
    assert [fit(), fit()] == [(0.5, 1), (0.5, 1)]


def test_a_damaged_file_is_made_anew(fit, tmp_path: Path) -> None:
    fit()
    (kept,) = tmp_path.iterdir()
    kept.write_text("")
    assert [fit(), fit()] == [(0.5, 2), (0.5, 2)]


def test_another_version_of_the_plugin_is_fitted_anew(fit) -> None:
    assert [fit("1"), fit("2"), fit("1")] == [(0.5, 1), (0.5, 2), (0.5, 2)]
