"""The comparison of stylizers measures what it says, and puts every stylizer into one document."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from agile3d_cli.errors import ConfigError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.plugins import FoundStylizer
from agile3d_cli.style.exemplars import as_batch, read_exemplars
from agile3d_cli.style.score import head_features
from agile3d_cli.stylizer import FaceSampler, Progress, StylizerDescription

ROOT = Path(__file__).parents[2]
HEADS = sorted((ROOT / "examples" / "cartoon-exemplars").glob("*.webp"))


@pytest.fixture
def stylizers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``benchmarks.stylizers``, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.stylizers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five exemplars."""
    place = tmp_path / "heads"
    place.mkdir()
    for path in HEADS[:5]:
        shutil.copy(path, place)
    return place


@dataclass(frozen=True)
class InvertConfig:
    """No settings."""


class Invert:
    """A stylizer that takes the negative."""

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        assert len(exemplars) == 3
        first, second = (faces.sample(1, torch.Generator().manual_seed(seed)) for _ in range(2))
        assert first is second, "the same faces are made once"

    def stylize(self, images: Tensor) -> Tensor:
        return -images

    def save(self, path: Path) -> None:
        path.touch()


class Failing(Invert):
    """A stylizer that cannot use these exemplars."""

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        raise ConfigError("These exemplars are too blue.")


def found(name: str, made: type[Invert]) -> FoundStylizer:
    note = (LicenseNote("t", "MIT", "", True),)
    description = StylizerDescription(name, "", InvertConfig, lambda _: made(), lambda _: made(), note)
    return FoundStylizer(name, f"agile3d-{name}", "1", description)


def test_unchanged_moved_and_foreign_faces_score_as_they_must(stylizers: ModuleType, folder: Path) -> None:
    heads = as_batch(read_exemplars(folder, "mini"), stylizers.SIZE)[:3]
    faces = stylizers.look_at(heads)
    features = head_features(heads)
    wanted = stylizers.Wanted([], heads, features, float(torch.pdist(features).mean()))

    def measured(drawn: torch.Tensor) -> dict[str, Any]:
        return dict(stylizers.measure(drawn, head_features(drawn), faces, wanted))

    same = measured(heads)
    assert (same["landmark_drift_px"], same["head_shift_px"], same["faces_not_found"]) == (0, 0, 0)
    assert same["identity_rank"] == {"top1": 1, "top5": 1, "gallery": 3} and same["diversity"] == 1
    # Unbiased, so that a set is nearer to itself than another sample of its style would be.
    assert same["style_distance"]["value"] < 0
    moved = measured(heads.roll(6, 3))
    # Measured 5.9: the detector is sure to a fraction of a pixel.
    assert abs(moved["head_shift_px"] - 6) < 0.5 and abs(moved["landmark_drift_px"] - 6) < 0.5
    # One good face, then its copies: of one person, and all alike.
    alike = measured(heads[:1].expand(3, -1, -1, -1))
    assert alike["diversity"] == 0 and alike["identity_rank"]["top1"] == pytest.approx(1 / 3, abs=1e-4)
    negative = measured(-heads)
    assert negative["style_distance"]["value"] > 0 and negative["faces_not_found"] == 3
    assert negative["identity_rank"] == {"top1": 0, "top5": 0, "gallery": 3} and negative["landmark_drift_px"] is None


def test_colour_transfer_gives_the_exemplars_colours(stylizers: ModuleType) -> None:
    rng = torch.Generator().manual_seed(0)
    faces, exemplars = (
        scale * torch.randn(4, 3, 256, 256, generator=rng) + middle for scale, middle in ((0.2, 0.4), (0.1, -0.3))
    )
    drawn = stylizers.ColourTransfer(faces, exemplars).stylize(faces)
    for one, two in zip(stylizers._colours(drawn), stylizers._colours(exemplars), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-3)


def test_a_sheet_shows_every_group(stylizers: ModuleType) -> None:
    heads, photos = torch.arange(48.0), 100 + torch.arange(3.0)
    assert stylizers._shown({"heads": heads}, 8).tolist() == [0, 6, 12, 18, 24, 30, 36, 42]
    assert stylizers._shown({"heads": heads, "photos": photos[:1]}, 8)[[0, 6, 7]].tolist() == [0, 41, 100]
    assert stylizers._shown({"heads": heads[:2], "photos": photos}, 8).tolist() == [0, 1, 100, 101, 102]


@pytest.mark.slow
def test_every_stylizer_is_in_the_document(
    stylizers: ModuleType,
    micro_file: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = FoundStylizer("broken", "agile3d-broken", "1", None, "it does not load")
    listed = [broken, found("failing", Failing), found("invert", Invert), found("other", Invert)]
    monkeypatch.setattr(stylizers, "find_stylizers", lambda: listed)
    monkeypatch.setattr(stylizers, "REAL", 2)
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(HEADS[6], photos)
    shutil.copy(HEADS[7], photos)
    words = ["--exemplars", folder, "--fitted", 3, "--photos", photos, "--count", 2, "--base", micro_file]
    words += [
        "--stylizer",
        "broken",
        "failing",
        "invert",
        "--threads",
        torch.get_num_threads(),
        "--out",
        tmp_path / "reports",
        "--keep",
        tmp_path / "kept",
    ]
    stylizers.main([str(word) for word in words])
    document = json.loads(capsys.readouterr().out)
    (facts,) = document["sets"].values()
    rows = facts["rows"]
    assert (facts["fitted"], facts["held_out"], document["faces"]) == (3, 2, {"heads": 2, "photos": 2})
    assert set(rows) == {"unstylized", "broken", "failing", "invert", "colour transfer"}
    assert set(rows["invert"]["heads"]["nearer_than"]) == {"unstylized", "colour transfer"}
    assert rows["broken"]["error"] == "it does not load" and rows["failing"]["error"] == "These exemplars are too blue."
    assert rows["invert"]["seconds_fitting"] >= 0 and rows["invert"]["package"] == "agile3d-invert"
    assert rows["unstylized"]["photos"]["landmark_drift_px"] == 0
    for row in ("unstylized", "colour transfer", "invert"):
        # No face is found in the micro generator's heads.
        assert rows[row]["heads"]["landmark_drift_px"] is None and rows[row]["heads"]["faces_not_found"] == 2
        assert rows[row]["photos"]["style_distance"]["low"] <= rows[row]["photos"]["style_distance"]["high"]
    with Image.open(facts["sheet"]) as sheet:
        # Exemplars, unstylized, colour transfer and one stylizer, by four rows: as many as there are heads and photos.
        assert sheet.size == (4 * 256, 24 + 4 * 256) and np.asarray(sheet).std() > 0
    # What was kept is not fitted again; one photo alone has no distance to a style, and all else.
    (photos / HEADS[7].name).unlink()
    monkeypatch.setattr(Invert, "fit", None)
    stylizers.main([str(word) for word in words])
    (again,) = json.loads(capsys.readouterr().out)["sets"].values()
    assert again["rows"]["invert"]["seconds_fitting"] is None and "nearer_than" in again["rows"]["invert"]["heads"]
    assert again["rows"]["invert"]["heads"]["style_distance"] == rows["invert"]["heads"]["style_distance"]
    assert again["rows"]["invert"]["photos"]["style_distance"] is None


def test_further_pictures_are_those_that_no_exemplar_shows(stylizers: ModuleType, tmp_path: Path, folder: Path) -> None:
    exemplars = read_exemplars(folder, "mini")
    heads = tmp_path / "further"
    heads.mkdir()
    for number, path in enumerate(HEADS[:8]):
        with Image.open(path) as picture:
            cut = picture.convert("RGBA")
        cut.putalpha(Image.fromarray(np.pad(np.full((400, 512), 255, np.uint8), ((0, 112), (0, 0)))))
        # The first five are exemplars, under the names without their numbers.
        cut.save(heads / f"{path.stem.split('-', 1)[-1]}.png")
        lines = "file,kind,tone\n" if number == 0 else (tmp_path / "index.csv").read_text()
        (tmp_path / "index.csv").write_text(
            f"{lines}{path.stem.split('-', 1)[-1]}.png,{'bust' if number == 7 else 'head'},light\n"
        )
    further = stylizers.held_out(heads, exemplars, "mini")
    assert [exemplar.path.stem for exemplar in further.exemplars] == sorted(
        p.stem.split("-", 1)[-1] for p in HEADS[5:7]
    )
    # Where a picture is cut away lies the exemplars' background.
    wanted, found = exemplars.images[0][:, 2, 2], further.images[0][:, -2, 2]
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)


def test_too_few_exemplars_are_wrong_usage(
    stylizers: ModuleType, micro_file: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        stylizers.main(["--exemplars", str(folder), "--fitted", "4", "--base", str(micro_file)])
    assert "has 5 usable pictures; --fitted must leave two of them" in capsys.readouterr().err
