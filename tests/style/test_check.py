"""What speaks against a set of exemplars is seen before any training: copies, strangers, softness, writing, poses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from agile3d_cli.errors import RefusedError
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.image import read_photo, to_tensor
from agile3d_cli.style import exemplars
from agile3d_cli.style.check import STRANGER, ExemplarCheck, check_exemplars, refuse_doubtful, strangeness
from agile3d_cli.style.config import PRESET_WORK
from agile3d_cli.style.copies import copies, fingerprint
from agile3d_cli.style.exemplars import FOUND, MIDDLE, POINTED, ExemplarSet, read_exemplars
from agile3d_cli.style.plan import plan_style
from agile3d_cli.style.writing import bears_writing

ROOT = Path(__file__).parents[2]
HEADS = sorted((ROOT / "examples" / "cartoon-exemplars").glob("*.webp"))
ASTRONAUT = ROOT / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExemplarCheck]:
    """Seven heads, a small mirrored copy, a picture of noise, and what the check says."""
    folder = tmp_path_factory.mktemp("mixed")
    for path in HEADS[:7]:
        shutil.copy(path, folder)
    copy = ImageOps.mirror(Image.fromarray(read_photo(HEADS[3]))).resize((100, 100))
    ImageEnhance.Brightness(copy).enhance(0.9).save(folder / "copy.jpg", quality=70)
    noise = np.random.default_rng(0).integers(0, 255, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder, check_exemplars(read_exemplars(folder, "mini"))


def test_a_set_of_one_kind_gives_no_warning(tmp_path: Path) -> None:
    for path in HEADS[:8]:
        shutil.copy(path, tmp_path)
    check = check_exemplars(read_exemplars(tmp_path, "mini"))
    assert check.warnings == check.notes == ()
    assert [one.file for one in check.pictures] == [path.name for path in HEADS[:8]]
    assert all(one.face == FOUND and one.side > 400 and not one.writing for one in check.pictures)
    assert all(one.yaw is not None and abs(one.yaw) < 10 for one in check.pictures)
    refuse_doubtful(check)


def test_copies_strangers_and_soft_pictures_are_named(mixed: tuple[Path, ExemplarCheck]) -> None:
    _, check = mixed
    by_name = {one.file: one for one in check.pictures}
    assert {one.file: one.copy_of for one in check.pictures if one.copy_of} == {"copy.jpg": HEADS[3].name}
    strange = [one.file for one in check.pictures if one.strangeness is not None and one.strangeness > STRANGER]
    assert strange == ["noise.png"]
    assert by_name["copy.jpg"].side < 128
    said = " ".join(check.warnings)
    assert f"copy.jpg shows the same as {HEADS[3].name}" in said
    assert "noise.png: unlike the other pictures" in said and "copy.jpg (9" in said
    assert set(check.warnings) <= set(check.notes)
    with pytest.raises(RefusedError, match=r"--strict refuses these exemplars: .* And \d more"):
        refuse_doubtful(check)


def test_different_heads_are_no_copies_but_a_pale_one_is() -> None:
    heads = [Image.fromarray(read_photo(path)) for path in HEADS]
    pale = ImageEnhance.Color(heads[5]).enhance(0.8).resize((90, 90))
    cut = heads[7].crop((30, 30, 480, 480))
    prints = [fingerprint(to_tensor(np.array(image))) for image in (*heads, pale, cut)]
    assert copies(prints[:24], prints[:24]) == {}
    assert copies(prints, prints)[24] == 5
    # Cropped, the whole is another picture; the portrait is not.
    assert copies(prints, prints).get(25) is None
    assert copies([*prints[:25], prints[7]], prints) == {24: 5, 25: 7}


@pytest.mark.slow
def test_a_photo_among_drawings_is_a_stranger(tmp_path: Path) -> None:
    for path in (*HEADS, ASTRONAUT):
        shutil.copy(path, tmp_path)
    found = read(tmp_path)
    strange = strangeness(found.images)
    assert strange is not None
    # Measured: 2.4, the next 1.6.
    assert [one.path.name for one, far in zip(found.exemplars, strange, strict=True) if far > STRANGER] == [
        ASTRONAUT.name
    ]


def test_few_pictures_know_no_strangers() -> None:
    assert strangeness([torch.zeros(3, 64, 64)] * 5) is None


@pytest.mark.parametrize(("ink", "expected"), [((255, 255, 255), True), ((30, 30, 30), True), (None, False)])
def test_printed_words_are_seen(ink: tuple[int, int, int] | None, expected: bool) -> None:
    picture = Image.fromarray(read_photo(HEADS[0]))
    if ink:
        font = ImageFont.load_default(28)
        ImageDraw.Draw(picture).text((150, 380), "stock photo agency", font=font, fill=ink)
    assert bears_writing(np.array(picture)) == expected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "style"
    place.mkdir()
    for path in HEADS[:2]:
        shutil.copy(path, place)
    return place


def write_points(folder: Path, table: Any) -> None:
    (folder / "points.json").write_text(table if isinstance(table, str) else json.dumps(table))


def read(folder: Path) -> ExemplarSet:
    return read_exemplars(folder, "mini")


def test_points_of_the_user_place_a_face_that_nobody_finds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read(folder)
    five = five_of(find_faces(read_photo(HEADS[0]))[0].points)[:, :2]
    monkeypatch.setattr(exemplars, "find_faces", lambda *_: [])
    lost = read(folder)
    assert [one.face for one in lost.exemplars] == [MIDDLE, MIDDLE]
    write_points(folder, {HEADS[0].name: five.round(1).tolist(), "gone.png": five.round(1).tolist()})
    found = read(folder)
    assert [one.face for one in found.exemplars] == [POINTED, MIDDLE]
    assert found.points is not None and lost.points is None
    away, before = ((images.images[0] - known.images[0]).abs().mean() for images in (found, lost))
    # Measured: five points frame the head within 2 % of the crop, the whole picture is a tenth off.
    assert away < 0.5 * before
    assert any("gone.png: named in points.json" in note for note in found.warnings)
    assert not any("points.json" in note and "Not read" in note for note in found.notes)


GOOD = [[200, 240], [310, 240], [256, 300], [215, 355], [300, 355]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[1", "is not JSON"),
        ([1], "is not a table"),
        ({HEADS[0].name: GOOD[:4]}, "needs five pairs"),
        ({HEADS[0].name: [*GOOD[:4], [1, "2"]]}, "needs five pairs"),
        ({HEADS[0].name: [*GOOD[:4], [1, True]]}, "needs five pairs"),
        (f'{{"{HEADS[0].name}": [[NaN, 1], [2, 1], [1, 2], [1, 3], [2, 3]]}}', "needs five pairs"),
        ({HEADS[0].name: [GOOD[1], GOOD[0], GOOD[2], GOOD[4], GOOD[3]]}, "left and right of '00-man-light.webp' are"),
        ({HEADS[0].name: [*GOOD[:4], [300, 900]]}, "outside the picture of 512 x 512"),
        ({HEADS[0].name: [[9, 9]] * 5}, "left and right|lie on each other"),
    ],
)
def test_bad_points_get_one_clear_sentence(folder: Path, table: Any, message: str) -> None:
    write_points(folder, table)
    with pytest.raises(RefusedError, match=message) as caught:
        read(folder)
    assert "points.json" in str(caught.value)


def test_the_plan_grows_with_the_counts() -> None:
    small = plan_style(20, PRESET_WORK["fast"], stylizer=(100.0, 0.5))
    large = plan_style(20, PRESET_WORK["full"], stylizer=(100.0, 0.5))
    assert 60 < small.total < large.total and small.disk_bytes < large.disk_bytes
    assert small.memory_bytes < large.memory_bytes and small.seconds["stylizer"] == 100
    unknown = plan_style(20, PRESET_WORK["fast"])
    assert unknown.seconds["stylizer"] is unknown.seconds["augment"] is None and unknown.total < small.total


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Runs the program in an empty folder: exit code, stdout, stderr."""
    from typer.testing import CliRunner

    from agile3d_cli.cli.app import app
    from agile3d_cli.plugins import FoundStylizer
    from agile3d_cli.style import dry_run

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    known = FoundStylizer("known", "agile3d-known", "1", None, None)
    monkeypatch.setattr("agile3d_cli.plugins.choose_stylizer", lambda name: known)
    description = type("Description", (), {"seconds": (90.0, 0.5)})()
    monkeypatch.setattr(dry_run, "choose_stylizer", lambda _: type("Found", (), {"description": description})())

    def run(*words: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, ["new-style", *words])
        assert list((tmp_path / "here").iterdir()) == []
        return result.exit_code, result.stdout, result.stderr

    return run


def test_a_dry_run_tells_all_and_writes_nothing(
    program: Callable[..., tuple[int, str, str]], mixed: tuple[Path, ExemplarCheck]
) -> None:
    folder, check = mixed
    code, shown, _ = program(str(folder), "--dry-run")
    assert code == 0 and "Nothing was written." in shown and "Plan: 120 stylized faces" in shown
    assert all(f"Warning: {sentence}" in shown for sentence in check.warnings)
    code, shown, _ = program(str(folder), "--dry-run", "--json", "--strict")
    document = json.loads(shown)
    assert code == 5 and document["schema"] == "agile3d.new-style/1" and document["dry_run"] is True
    assert [one["file"] for one in document["pictures"]] == [one.file for one in check.pictures]
    assert document["warnings"] == list(check.warnings)
    plan = document["plan"]
    assert plan["pairs"] == 120 and plan["seconds_total"] > plan["seconds"]["transfer"] > 0
    assert "two cores" in plan["machine"] and plan["memory_bytes"] > 1e8 and plan["disk_bytes"] > 1e6


def test_strict_refuses_before_anything_is_written(program: Callable[..., tuple[int, str, str]], folder: Path) -> None:
    log = folder.parent / "log"
    code, shown, said = program(str(folder), "--strict", "--quiet", "--log", str(log))
    assert not log.exists()
    assert (code, shown) == (5, "")
    assert said == (
        "agile3d: --strict refuses these exemplars: Only 2 pictures can be learnt from; about 20 show what a style "
        "has in common.\n"
    )
