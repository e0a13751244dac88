"""Reading and writing pictures: every colour mode, every way a file can be bad."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agile3d_cli.errors import OutputError, PhotoError
from agile3d_cli.image import read_photo, save_jpg, save_png, to_array, to_tensor


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    v, u = np.mgrid[:height, :width]
    return np.stack([u * 4, v * 6, (u + v) * 2], -1).astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    upright = Image.fromarray(gradient())
    turn = Image.Transpose
    stored = {
        1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    (upright if stored is None else upright.transpose(stored)).save(tmp_path / "p.png", exif=exif)
    assert np.array_equal(read_photo(tmp_path / "p.png"), gradient())


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = np.repeat(np.arange(200, dtype=np.uint8)[None], 20, 0)
    if mode == "I;16":
        picture = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode in ("I", "F"):
        picture = Image.fromarray(grey.astype(np.int32 if mode == "I" else np.float32))
    else:
        picture = Image.fromarray(grey).convert(mode if mode == "P" else "RGB").convert(mode)
    picture.save(tmp_path / "p.tiff")
    photo = read_photo(tmp_path / "p.tiff")
    assert photo.shape == (20, 200, 3) and photo.dtype == np.uint8
    if mode != "1":
        assert np.abs(photo[..., 1].astype(float) - grey).max() <= 1


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (10, 20, 30, 0)).save(tmp_path / "p.png")
    assert (read_photo(tmp_path / "p.png") == 255).all()


def test_missing_folder_empty_and_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    for name, message in [
        ("none.jpg", "no file"),
        ("", "folder"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a picture"),
    ]:
        with pytest.raises(PhotoError, match=message):
            read_photo(tmp_path / name)


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.webp", "p.gif", "p.bmp", "p.tiff"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_cut_file_is_refused(tmp_path: Path, name: str, keep: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(PhotoError, match=name):
        read_photo(tmp_path / name)


def test_huge_photo_is_refused_from_its_header(tmp_path: Path) -> None:
    Image.new("1", (30000, 30000)).save(tmp_path / "bomb.png")
    with pytest.raises(PhotoError, match=r"30000 x 30000|enormous"):
        read_photo(tmp_path / "bomb.png")
    Image.new("1", (11000, 11000)).save(tmp_path / "large.png")
    with pytest.raises(PhotoError, match="11000 x 11000"):
        read_photo(tmp_path / "large.png")


def test_array_tensor_round_trip() -> None:
    photo = gradient()
    image = to_tensor(photo)
    assert image.shape == (3, 40, 60) and image.min() >= -1 and image.max() <= 1
    assert np.array_equal(to_array(image), photo)
    assert to_array(torch.full((1, 2, 2), 9.0)).tolist() == np.full((2, 2, 3), 255).tolist()


def test_saving_replaces_whole_files_only(tmp_path: Path) -> None:
    target = tmp_path / "new" / "p.png"
    save_png(target, gradient())
    assert np.array_equal(read_photo(target), gradient())
    save_jpg(tmp_path / "p.jpg", to_tensor(gradient()))
    assert os.listdir(tmp_path / "new") == ["p.png"]
    with pytest.raises(OutputError, match="cannot be written"):
        save_png(target / "below_a_file.png", gradient())
    with pytest.raises(OutputError, match="cannot be written"):
        save_png(tmp_path / "new", gradient())
    assert sorted(os.listdir(tmp_path)) == ["new", "p.jpg"]
