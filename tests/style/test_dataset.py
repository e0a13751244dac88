"""The stylized pictures on disk: whole or not at all, found again, checked, appended to, and in EG3D's layout."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from agile3d_cli import camera
from agile3d_cli.errors import ConfigError, PhotoError, RefusedError, UsageError
from agile3d_cli.image import read_photo, save_png, to_array
from agile3d_cli.style.config import FilterConfig
from agile3d_cli.style.eg3d_layout import check_place, read_layout, write_layout
from agile3d_cli.style.filters import counts, drift, judge
from agile3d_cli.style.kin import strangeness
from agile3d_cli.style.photos import PhotoFace, align_photo, find_photos, photo_key
from agile3d_cli.style.shards import INDEX, Made, ShardSet, stored_rows

RECIPE = {"seed": 0, "sizes": (4, 5)}


class Maker:
    """Makes shards and counts them."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, number: int) -> Callable[[], Made]:
        def make() -> Made:
            self.made.append(number)
            rows = torch.arange(3 * 4, dtype=torch.float32).reshape(3, 4) + 100 * number
            return Made({"rows": rows}, {"dropped": {"no face": number}})

        return make


def read_all(folder: Path, maker: Maker, count: int = 4, recipe: Any = None) -> torch.Tensor:
    stored = ShardSet(folder, RECIPE if recipe is None else recipe)
    shards = [stored.shard(number, maker(number)) for number in range(count)]
    assert [shard.facts["dropped"]["no face"] for shard in shards] == list(range(count))
    return torch.cat([shard.tensor("rows") for shard in shards])


def test_shards_are_made_once_and_appended_to(tmp_path: Path) -> None:
    maker = Maker()
    first = read_all(tmp_path, maker)
    assert torch.equal(read_all(tmp_path, maker), first) and maker.made == [0, 1, 2, 3]
    longer = read_all(tmp_path, maker, 6)
    assert torch.equal(longer[:12], first) and maker.made == [0, 1, 2, 3, 4, 5]


def test_another_recipe_begins_anew(tmp_path: Path) -> None:
    maker = Maker()
    read_all(tmp_path, maker)
    read_all(tmp_path, maker, 2, {"seed": 1})
    assert maker.made == [0, 1, 2, 3, 0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        INDEX, "shard-0000.safetensors", "shard-0001.safetensors",
    ]  # fmt: skip


@pytest.mark.parametrize("place", [0.0, 0.5, 0.999])
def test_a_flipped_bit_is_found_and_only_that_shard_is_made_anew(tmp_path: Path, place: float) -> None:
    maker = Maker()
    first = read_all(tmp_path, maker)
    spoilt = tmp_path / "shard-0002.safetensors"
    data = bytearray(spoilt.read_bytes())
    data[int(place * len(data))] ^= 1
    spoilt.write_bytes(data)
    assert torch.equal(read_all(tmp_path, maker), first) and maker.made == [0, 1, 2, 3, 2]
    spoilt.unlink()
    assert torch.equal(read_all(tmp_path, maker), first) and maker.made[5:] == [2]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "agile3d.shards", "version": 2}'])
def test_a_damaged_index_is_not_believed(tmp_path: Path, text: str) -> None:
    maker = Maker()
    first = read_all(tmp_path, maker)
    (tmp_path / INDEX).write_text(text)
    assert torch.equal(read_all(tmp_path, maker), first) and len(maker.made) == 8


def test_a_shard_with_another_key_is_made_anew(tmp_path: Path) -> None:
    maker = Maker()
    stored = ShardSet(tmp_path, RECIPE)
    for key in (["a"], ["a"], ["a", "b"]):
        stored.shard(0, maker(0), key)
    assert maker.made == [0, 0]


KILLED = """
import sys, time, torch
from pathlib import Path
from agile3d_cli.style.shards import Made, ShardSet
stored = ShardSet(Path(sys.argv[1]), {"seed": 0})
def make(number):
    def rows():
        print(number, flush=True)
        return Made({"rows": torch.full((64, 4096), float(number))})
    return rows
for number in range(400):
    stored.shard(number, make(number))
"""


def test_a_killed_run_loses_the_shard_in_the_making_at_most(tmp_path: Path) -> None:
    seen: set[int] = set()
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        made = [int(process.stdout.readline()) for _ in range(4)]
        time.sleep(0.01 * len(seen))
        os.kill(process.pid, signal.SIGKILL)
        made += [int(line) for line in process.stdout]
        process.wait()
        process.stdout.close()
        # At most the last shard of the killed run is made again.
        assert len(seen & set(made)) <= 1 and made == list(range(made[0], made[-1] + 1))
        seen |= set(made)
    maker: list[int] = []
    stored = ShardSet(tmp_path, {"seed": 0})
    for number in range(max(seen)):
        shard = stored.shard(number, lambda: maker.append(1) or Made({"rows": torch.zeros(0)}))  # type: ignore[func-returns-value]
        assert torch.equal(shard.tensor("rows"), torch.full((64, 4096), float(number)))
    assert maker == []


def test_rows_are_read_one_at_a_time(tmp_path: Path) -> None:
    maker = Maker()
    everything = read_all(tmp_path, maker)
    stored = ShardSet(tmp_path, RECIPE)
    shards = [stored.shard(number, maker(number)) for number in range(4)]
    kept = [number % 5 != 0 for number in range(12)]
    rows = stored_rows(shards, "rows", kept)
    assert rows.shape == (9, 4) == (len(rows), rows[0].shape[0])
    assert torch.equal(torch.stack([rows[k] for k in range(9)]), everything[torch.tensor(kept)])


def a_set(count: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of a style that widens faces, with a little noise: shifts, identity distances, looks."""
    rng = torch.Generator().manual_seed(0)
    usual = 0.1 * torch.randn(468, 2, generator=rng)
    moved = usual + 0.005 * torch.randn(count, 468, 2, generator=rng)
    look = torch.nn.functional.normalize(1 + 0.1 * torch.randn(count, 384, generator=rng), dim=1)
    return moved, 0.7 + 0.05 * torch.rand(count, generator=rng), look


def test_each_filter_finds_its_fault_and_nothing_else() -> None:
    moved, identity, look = a_set()
    config = FilterConfig()
    assert not torch.stack(list(judge(moved, identity, look, config).values())).any()
    moved[3] += 0.1
    identity[5] = 1.5
    look[7] = torch.nn.functional.normalize(torch.randn(384, generator=torch.Generator().manual_seed(1)), dim=0)
    identity[3] = 1.5
    reasons = judge(moved, identity, look, config)
    assert {name: holds.nonzero().flatten().tolist() for name, holds in reasons.items()} == {
        "drift": [3], "identity": [3, 5], "look": [7],
    }  # fmt: skip
    assert counts(reasons) == {"drift": 1, "identity": 1, "look": 1}
    strange = strangeness(look)
    assert strange is not None and float(drift(moved)[3]) == pytest.approx(0.1 * 2**0.5, rel=0.01)


def test_a_style_may_move_everything_alike() -> None:
    moved, identity, look = a_set()
    assert not judge(moved + 0.3, identity, look, FilterConfig())["drift"].any()
    few = judge(moved[:5], identity[:5], look[:5], FilterConfig())
    assert not torch.stack(list(few.values())).any()
    with pytest.raises(ConfigError, match=r"FilterConfig.drift is 0; it must be above 0"):
        FilterConfig(drift=0)


def some_rows(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    rng = torch.Generator().manual_seed(count)
    return [
        (torch.rand(3, 16, 16, generator=rng) * 2 - 1, camera.portrait_label(0.1 * k, -0.05 * k)) for k in range(count)
    ]


def test_the_layout_of_eg3d_is_written_and_read(tmp_path: Path) -> None:
    rows = some_rows(3)
    folder = tmp_path / "set"
    assert write_layout(folder, rows) == 3
    table = json.loads((folder / "dataset.json").read_text())
    assert [name for name, _ in table["labels"]] == [f"00000/img0000000{k}.png" for k in range(3)]
    found = read_layout(folder)
    assert found is not None
    for (path, label), (image, known) in zip(found, rows, strict=True):
        assert torch.equal(label, known)
        assert (read_photo(path) == to_array(image)).all()
    # Over an earlier, longer one: no picture without a label is left.
    write_layout(folder, some_rows(2))
    assert len(list(folder.rglob("*.png"))) == 2 and len(read_layout(folder) or ()) == 2
    assert read_layout(tmp_path) is None


def test_an_export_that_broke_off_is_not_read_and_is_written_again(tmp_path: Path) -> None:
    def broken() -> Any:
        yield some_rows(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_layout(tmp_path / "set", broken())
    with pytest.raises(RefusedError, match="has no labels"):
        read_layout(tmp_path / "set")
    check_place(tmp_path / "set")
    assert write_layout(tmp_path / "set", some_rows(2)) == 2


def test_an_export_overwrites_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "own.png").touch()
    with pytest.raises(UsageError, match="is not empty and no dataset"):
        write_layout(tmp_path, some_rows(1))
    with pytest.raises(UsageError, match="is a file"):
        check_place(tmp_path / "own.png")


LABEL = [0.0] * 25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"labels": null}', "has no labels"),
        (json.dumps({"labels": [["a.png", LABEL[:24]]]}), r"is not \[file, \[25 numbers\]\]"),
        (json.dumps({"labels": [["a.png", ["x"] * 25]]}), "25 numbers"),
        ('{"labels": [["a.png", [NaN' + ", 0" * 24 + "]]]}", "25 numbers"),
        (json.dumps({"labels": [["gone.png", LABEL]]}), "no file inside"),
        (json.dumps({"labels": [["../a.png", LABEL]]}), "no file inside"),
        (json.dumps({"labels": [["/etc/hostname", LABEL]]}), "no file inside"),
    ],
)
def test_a_bad_layout_gets_one_clear_sentence(tmp_path: Path, text: str, message: str) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for path in (tmp_path / "a.png", folder / "a.png"):
        Image.new("RGB", (8, 8)).save(path)
    (folder / "dataset.json").write_text(text)
    with pytest.raises(RefusedError, match=message) as caught:
        read_layout(folder)
    assert "dataset.json" in str(caught.value)


def test_photos_of_the_layout_keep_their_cameras_and_others_are_aligned(tmp_path: Path) -> None:
    rows = some_rows(2)
    write_layout(tmp_path / "set", rows)
    photos = find_photos(tmp_path / "set")
    face = align_photo(photos[1], 8, "mini")
    assert isinstance(face, PhotoFace) and face.image.shape == (3, 8, 8) and torch.equal(face.label, rows[1][1])
    assert photo_key(photos[0]) != photo_key(photos[1])
    save_png(photos[0].path, torch.zeros(3, 4, 6))
    assert align_photo(photos[0], 8, "mini") == "not square"
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(PhotoError, match="holds no photos"):
        find_photos(plain)
    (plain / "a.jpg").write_text("no picture")
    save_png(plain / "b.png", torch.zeros(3, 64, 64))
    assert [align_photo(photo, 32, "mini") for photo in find_photos(plain)] == ["unreadable", "no face"]
