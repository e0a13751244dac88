"""The pictures of a head: framing, order and direction of the views, and whole files that play."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agile3d_cli.avatar.config import ViewsConfig
from agile3d_cli.avatar.formula import SKIN, FormulaHead
from agile3d_cli.avatar.views import can_write_mp4, front_view, save_turntable, sheet_views, turntable, view_sheet
from agile3d_cli.camera import portrait_label, project
from agile3d_cli.errors import ConfigError, OutputError, UsageError


@pytest.fixture(scope="module")
def frames(head: FormulaHead) -> list[np.ndarray]:
    return turntable(head, ViewsConfig(frames=8, frame_size=48))


def test_front_view_is_the_portrait_camera(head: FormulaHead) -> None:
    picture = front_view(head, portrait_label(), 64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    mouth = project(portrait_label()[None], torch.tensor([[[0.0, -0.1, 0.22]]]))[0, 0] * 64
    red, green, _ = picture[int(mouth[1]), int(mouth[0])].astype(int)
    assert red - green > 100 > 256 * (SKIN[0] - SKIN[1])


def test_sheet_shows_the_whole_head_on_one_background(head: FormulaHead) -> None:
    sheet = view_sheet(head, 64)
    assert sheet.shape == (64, 320, 3)
    for view in np.split(sheet, 5, axis=1):
        for corner in (view[0, 0], view[0, -1]):
            assert (corner == 255).all()
        filled = (view < 250).any(-1)
        assert not filled[0].any() and not filled[:40, 0].any() and not filled[:40, -1].any()


def test_sheet_runs_from_the_camera_at_the_left_to_the_camera_at_the_right(head: FormulaHead) -> None:
    left, _, _, _, right = sheet_views(head, 64)
    # Yaw -60 puts the camera at -x: the nose, towards +z, points to the picture's right.
    rows = slice(26, 38)
    blank = [(view[rows] >= 250).all(-1).all(0) for view in (left, right)]
    edges = [(row[:32].sum(), row[32:].sum()) for row in blank]
    assert edges[0][1] < edges[0][0] and edges[1][0] < edges[1][1]


def test_turntable_goes_round_and_reports_progress(head: FormulaHead, frames: list[np.ndarray]) -> None:
    seen: list[float] = []
    again = turntable(head, ViewsConfig(frames=8, frame_size=48), seen.append)
    assert len(frames) == 8 and seen == pytest.approx(np.arange(1, 9) / 8)
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))
    # The head is symmetric, so the views at +yaw and -yaw mirror each other.
    assert np.abs(frames[2].astype(int) - frames[6][:, ::-1]).max() <= 2
    assert np.abs(frames[0].astype(int) - frames[4]).max() > 100


def test_swing_stays_within_its_angle(head: FormulaHead) -> None:
    swing = turntable(head, ViewsConfig(frames=4, frame_size=32, swing=40))
    assert np.array_equal(swing[0], swing[2]) and not np.array_equal(swing[1], swing[3])


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_animation_plays_all_frames_in_a_loop(tmp_path: Path, frames: list[np.ndarray], suffix: str) -> None:
    file = save_turntable(tmp_path / f"turn{suffix}", frames, 12)
    with Image.open(file) as animation:
        assert animation.n_frames == 8 and animation.info["loop"] == 0
        animation.seek(2)
        shown = np.asarray(animation.convert("RGB")).astype(int)
    assert np.abs(shown - frames[2]).mean() < 4
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_mp4_when_an_encoder_is_at_hand(tmp_path: Path, frames: list[np.ndarray]) -> None:
    if not can_write_mp4():
        pytest.skip("imageio-ffmpeg is not installed")
    file = save_turntable(tmp_path / "turn.mp4", frames, 12)
    assert file.read_bytes()[4:8] == b"ftyp"
    import imageio_ffmpeg

    count, seconds = imageio_ffmpeg.count_frames_and_secs(str(file))
    assert count == 8 and seconds == pytest.approx(8 / 12, abs=0.1)


def test_other_endings_and_unwritable_places_are_refused(tmp_path: Path, frames: list[np.ndarray]) -> None:
    with pytest.raises(UsageError, match="webp, gif, mp4"):
        save_turntable(tmp_path / "turn.avi", frames)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        save_turntable(tmp_path / "file" / "turn.webp", frames)
    with pytest.raises(ConfigError):
        ViewsConfig(frames=1)
