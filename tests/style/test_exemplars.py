"""Folders of exemplars as people have them: what can be used is used, and everything else is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agile3d_cli.errors import PhotoError
from agile3d_cli.face.align import align_face
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.warp import similarity
from agile3d_cli.image import read_photo, to_array
from agile3d_cli.style import exemplars
from agile3d_cli.style.exemplars import MANY_SIZE, SMALLEST, ExemplarSet, as_batch, read_exemplars
from agile3d_cli.style.layout import middle_square, usual_crop

HEADS = sorted((Path(__file__).parents[2] / "examples" / "cartoon-exemplars").glob("*.webp"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one good exemplar, ``good.png``."""
    place = tmp_path / "style"
    place.mkdir()
    head(0).save(place / "good.png")
    return place


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A face detector that finds nothing, at once."""
    monkeypatch.setattr(exemplars, "find_faces", lambda *_: [])


def head(number: int = 1) -> Image.Image:
    return Image.open(HEADS[number])


def noise(seed: int, width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8))


def read(folder: Path) -> ExemplarSet:
    return read_exemplars(folder, "mini")


def names(found: ExemplarSet) -> list[str]:
    return [exemplar.path.name for exemplar in found.exemplars]


def note_about(found: ExemplarSet, *words: str) -> str:
    """The one note that holds all words."""
    (note,) = [note for note in found.notes if all(word in note for word in words)]
    return note


def test_a_good_folder_needs_no_words(tmp_path: Path) -> None:
    for path in HEADS[:5]:
        shutil.copy(path, tmp_path)
    (tmp_path / "LICENSE.txt").write_text("SPDX-License-Identifier: MIT")
    found = read(tmp_path)
    assert names(found) == [path.name for path in HEADS[:5]] and found.notes == ()
    assert [image.shape for image in found.images] == [(3, 512, 512)] * 5


def test_one_exemplar_is_enough_and_called_few(folder: Path) -> None:
    found = read(folder)
    assert names(found) == ["good.png"] and found.card()[0]["size"] == [512, 512]
    assert found.notes == ("Only 1 picture can be learnt from; about 20 show what a style has in common.",)


def test_five_hundred_are_used_and_called_many(tmp_path: Path, blind: None) -> None:
    for number in range(500):
        noise(number, 40, 40).save(tmp_path / f"{number:03}.png")
    noise(500, 600, 400).save(tmp_path / "large.png")
    found = read(tmp_path)
    assert len(found.exemplars) == 501
    assert note_about(found, "501 pictures are more than a style needs")
    # What is large is kept small: memory must suffice.
    assert found.images[-1].shape == (3, MANY_SIZE, MANY_SIZE) and found.images[0].shape == (3, 40, 40)


def test_without_a_face_the_middle_is_taken_and_said(tmp_path: Path, blind: None) -> None:
    noise(1, 96, 64).save(tmp_path / "wide.png")
    noise(2, 64, 64).save(tmp_path / "plain.png")
    found = read(tmp_path)
    assert note_about(found, "All 2 pictures: no face was found; taken as framed already")
    by_name = dict(zip(names(found), found.images, strict=True))
    # At its own size a square is taken over as it is.
    assert np.array_equal(to_array(by_name["plain.png"]), read_photo(tmp_path / "plain.png"))
    assert np.array_equal(to_array(by_name["wide.png"]), read_photo(tmp_path / "wide.png")[:, 16:80])


def test_without_a_face_others_of_the_size_show_the_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in HEADS[:4]:
        shutil.copy(path, tmp_path)
    known = read(tmp_path)
    picture = np.array(head(1))
    # The mark by which the detector below is blind to it.
    picture[0, 0] = 0
    Image.fromarray(picture).save(tmp_path / HEADS[1].name, lossless=True)
    monkeypatch.setattr(exemplars, "find_faces", lambda pixels, c: find_faces(pixels, c) if pixels[0, 0].any() else [])
    found = read(tmp_path)
    said = note_about(found, "no face was found; cut like the other pictures of the same size.")
    assert said.startswith(f"{HEADS[1].name}: ")
    away = middle_of_face(found.images[1]) - middle_of_face(known.images[1])
    # Measured 0.002 of the crop; the whole picture is 0.09 off.
    assert np.abs(away).max() < 0.02


def middle_of_face(image: torch.Tensor) -> np.ndarray:
    (face,) = find_faces(to_array(image))
    middle: np.ndarray = face.points[:, :2].mean(0) / image.shape[-1]
    return middle


def test_crops_that_disagree_show_no_layout() -> None:
    alike = [similarity(np.array([100.0 + k, 100.0]), 80.0 + k, 0.01 * k) for k in range(3)]
    usual = usual_crop(alike)
    assert usual is not None
    np.testing.assert_allclose(usual, alike[1])
    assert usual_crop(alike[:2]) is None
    assert usual_crop([similarity(np.array([100.0 + 40 * k, 100.0]), 80.0) for k in range(3)]) is None
    np.testing.assert_allclose(middle_square((300, 100)), [[100, 0, 100], [0, 100, 0]])


def test_mixed_sizes_are_used_and_named(folder: Path) -> None:
    head().resize((200, 200)).save(folder / "small.png")
    found = read(folder)
    assert names(found) == ["good.png", "small.png"]
    assert note_about(found, "differ in size", "from small.png (200 x 200) to good.png (512 x 512)")
    assert as_batch(found, 64).shape == (2, 3, 64, 64)


def test_transparency_grey_and_print_colours_are_used_and_named(folder: Path) -> None:
    clear = head(1).convert("RGBA")
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 512).astype(np.uint8), (512, 1))))
    clear.save(folder / "clear.png")
    head(2).convert("RGBA").save(folder / "opaque.png")
    head(3).convert("L").save(folder / "grey.png")
    head(4).convert("CMYK").save(folder / "print.jpg")
    found = read(folder)
    assert names(found) == ["clear.png", "good.png", "grey.png", "opaque.png", "print.jpg"]
    assert note_about(found, "transparent").startswith("clear.png: ")
    assert note_about(found, "grey").startswith("grey.png: ")
    assert note_about(found, "CMYK").startswith("print.jpg: ")
    assert len(found.notes) == 3 and all(bool(torch.isfinite(image).all()) for image in found.images)


def test_several_faces_are_named_and_the_largest_is_taken(folder: Path) -> None:
    both = Image.new("RGB", (768, 512), "white")
    both.paste(head(1), (0, 0))
    both.paste(head(2).resize((256, 256)), (512, 128))
    both.save(folder / "two.png")
    found = read(folder)
    assert names(found) == ["good.png", "two.png"] and note_about(found, "two.png: several faces")
    own = align_face(np.array(head(1)), find_faces(np.array(head(1)))[0]).image
    assert float((found.images[1] - own).abs().mean()) < float((found.images[1] - found.images[0]).abs().mean())


def test_exact_duplicates_count_once(folder: Path) -> None:
    shutil.copy(folder / "good.png", folder / "same bytes.png")
    Image.open(folder / "good.png").save(folder / "same pixels.bmp")
    found = read(folder)
    assert names(found) == ["good.png"]
    for name in ("same bytes.png", "same pixels.bmp"):
        assert note_about(found, f"{name} was left out: it is the same picture as good.png.")


def test_broken_pictures_are_named_and_the_rest_is_used(folder: Path) -> None:
    whole = (folder / "good.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "text.webp").write_text("no picture")
    noise(0, SMALLEST - 1, 90).save(folder / "tiny.gif")
    (folder / "lost.png").symlink_to(folder / "nowhere.png")
    found = read(folder)
    assert names(found) == ["good.png"]
    for name, why in (
        ("cut.png", "damaged or cut off"),
        ("empty.jpg", "empty"),
        ("text.webp", "not a picture"),
        ("tiny.gif", "31 x 90 pixels"),
        ("lost.png", "no file"),
    ):
        assert note_about(found, f"{name} was left out", why)


def test_what_is_no_picture_is_named(folder: Path) -> None:
    (folder / ".DS_Store").touch()
    head(1).save(folder / ".hidden.png")
    (folder / "notes.txt").touch()
    (folder / "drawing.svg").touch()
    (folder / "old.png").mkdir()
    head(2).save(folder / "old.png" / "02.png")
    found = read(folder)
    assert names(found) == ["good.png"]
    assert note_about(found, "hidden: .DS_Store, .hidden.png.")
    assert note_about(found, "no PNG, JPEG", "drawing.svg, notes.txt.")
    assert note_about(found, "Folders inside are not looked into: old.png.")


def test_names_of_every_case_and_kind_are_read(tmp_path: Path, blind: None) -> None:
    for number, name in enumerate(("A.PNG", "b.JPEG", "c.jfif", "d.tif", "e.webp", "f.gif")):
        noise(number).save(tmp_path / name, {".jfif": "JPEG"}.get(Path(name).suffix))
    assert names(read(tmp_path)) == ["A.PNG", "b.JPEG", "c.jfif", "d.tif", "e.webp", "f.gif"]


def test_when_nothing_is_left_the_reasons_are_told(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"holds no picture that a style can be learnt from; put about 20"):
        read(tmp_path)
    (tmp_path / "inside").mkdir()
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.png").touch()
    with pytest.raises(PhotoError, match=r"b\.png was left out.*a\.txt.*Folders inside are not looked into: inside\."):
        read(tmp_path)
    for number in range(9):
        (tmp_path / f"c{number}.png").touch()
    with pytest.raises(PhotoError, match=r"And 7 more\.$"):
        read(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert note_about(read(folder), "pipe.png was left out")
