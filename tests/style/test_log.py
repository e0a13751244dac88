"""A run's TensorBoard log holds what the run told, once, also after an interruption."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from agile3d_cli.errors import MissingError, OutputError
from agile3d_cli.style.log import NoLog, TensorBoardLog, open_log

PEOPLE = np.full((8, 12, 3), 200, np.uint8)


def events(folder: Path) -> Iterator[Any]:
    """All that was written, file by file: records of a length, its checksum, an event and its checksum."""
    for file in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def numbers(folder: Path) -> dict[tuple[str, int], float]:
    """Every scalar by its name and step."""
    values = [(event, value) for event in events(folder) for value in event.summary.value]
    return {(v.tag, e.step): v.simple_value for e, v in values if v.HasField("simple_value")}


def test_losses_scores_and_people_are_written(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log")
    for step in (1, 2):
        log.step(step, {"colour": 0.5 / step, "edges": 0.25})
    log.end(2, {"style_distance": {"value": 0.25, "low": 0.125}, "relief": 1.0, "pose_error": None}, PEOPLE)
    assert numbers(tmp_path / "log") == {
        ("loss/colour", 1): 0.5,
        ("loss/edges", 1): 0.25,
        ("loss/colour", 2): 0.25,
        ("loss/edges", 2): 0.25,
        ("score/style_distance/value", 2): 0.25,
        ("score/style_distance/low", 2): 0.125,
        ("score/relief", 2): 1.0,
    }
    shown = [v for e in events(tmp_path / "log") for v in e.summary.value if v.tag == "people"]
    assert [(v.image.height, v.image.width) for v in shown] == [(8, 12)]


def test_a_run_that_goes_on_replaces_what_was_lost(tmp_path: Path) -> None:
    for steps in ((1, 2, 3), (3, 4)):
        log = TensorBoardLog(tmp_path)
        for step in steps:
            log.step(step, {"colour": float(step)})
        log.end(steps[-1], {}, PEOPLE)
    # TensorBoard drops what an earlier file says from the step on at which a later one starts.
    starts = [event.step for event in events(tmp_path) if event.session_log.status == SessionLog.START]
    assert starts == [1, 3]


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = open_log(None)
    log.step(1, {"colour": 1.0})
    log.end(1, {}, PEOPLE)
    assert isinstance(log, NoLog) and not list(tmp_path.iterdir())


def test_what_is_missing_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(OutputError, match="--log"):
        open_log(tmp_path / "taken" / "log")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingError, match=r"agile3d\[log\]"):
        open_log(tmp_path / "log")
    assert not (tmp_path / "log").exists()
