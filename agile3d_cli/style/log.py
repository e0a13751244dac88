"""A run's numbers and pictures for TensorBoard, on request: `agile3d new-style --log DIR`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agile3d_cli.errors import MissingError, OutputError


class Log(Protocol):
    """What a run is written down in."""

    def step(self, number: int, terms: Mapping[str, float]) -> None:
        """Losses after step ``number``, counted from 1; a run that goes on at an earlier one replaces what follows."""
        ...

    def end(self, number: int, scores: Mapping[str, Any], people: np.ndarray) -> None:
        """Scores as JSON has them, and a picture of people (H, W, 3) uint8, after the last step."""
        ...


class NoLog:
    """Writes nothing down."""

    def step(self, number: int, terms: Mapping[str, float]) -> None:
        """Nothing."""

    def end(self, number: int, scores: Mapping[str, Any], people: np.ndarray) -> None:
        """Nothing."""


class TensorBoardLog:
    """Writes event files into a folder: `loss/...` for every step, `score/...` and `people` at the end."""

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise MissingError("--log needs the package tensorboardX: pip install 'agile3d[log]'.") from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written ({error.strerror}); choose another --log.") from error
        self._folder, self._make, self._writer = folder, SummaryWriter, None

    def step(self, number: int, terms: Mapping[str, float]) -> None:
        """See ``Log``."""
        writer = self._at(number)
        for name, value in terms.items():
            writer.add_scalar(f"loss/{name}", value, number)

    def end(self, number: int, scores: Mapping[str, Any], people: np.ndarray) -> None:
        """See ``Log``."""
        writer = self._at(number)
        for name, value in _numbers(scores).items():
            writer.add_scalar(f"score/{name}", value, number)
        writer.add_image("people", people, number, dataformats="HWC")
        writer.close()

    def _at(self, number: int) -> Any:
        """The writer, opened when the first thing is written: from there on, what an earlier run wrote is void."""
        if self._writer is None:
            # Files are named by the second; a run that goes on at once must not write over the one before.
            self._writer = self._make(str(self._folder), purge_step=number, filename_suffix=f".{number}")
        return self._writer


def open_log(folder: Path | None) -> Log:
    """The log of a folder; without one, nothing is written down.

    Raises:
        MissingError: the package that writes it is not installed.
        OutputError: the folder cannot be written.
    """
    return NoLog() if folder is None else TensorBoardLog(folder)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among scores, those within others as `outer/inner`."""
    found: dict[str, float] = {}
    for name, value in scores.items():
        if isinstance(value, Mapping):
            found.update({f"{name}/{inner}": number for inner, number in _numbers(value).items()})
        elif isinstance(value, (int, float)):
            found[name] = float(value)
    return found
