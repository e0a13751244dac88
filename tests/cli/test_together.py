"""`agile3d new-style` started several times over by `accelerate launch`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from agile3d_cli.style import pipeline, together
from agile3d_cli.style.config import NewStyleConfig
from agile3d_cli.style.together import Together


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> Together:
    """The second of two processes."""
    found = Together()
    found.count, found.number = 2, 1
    monkeypatch.setattr(together, "join", lambda device: found)
    return found


def test_a_process_beside_the_first_takes_part_and_says_nothing(
    run: Callable[..., Result], second: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(pipeline, "take_part", lambda *words: asked.append(words))
    monkeypatch.setattr(pipeline, "learn_style", lambda *words: pytest.fail("only the first does"))
    (tmp_path / "drawn").mkdir()
    result = run("new-style", tmp_path / "drawn", "--output", tmp_path / "out", "--json")
    assert (result.exit_code, result.output) == (0, "")
    assert asked == [(tmp_path / "drawn", tmp_path / "out", NewStyleConfig("drawn"), second)]
    assert not (tmp_path / "out").exists()
