"""What every command shares: the global options, where results and messages go, and how they look.

Results go to stdout, everything else to stderr. While a command runs, stdout is turned to stderr, so that a chatty
library cannot spoil the one JSON document.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


PANEL = "Every command"
OPTIONS = {
    "as_json": Annotated[bool, typer.Option("--json", help="Print one JSON document.", rich_help_panel=PANEL)],
    "quiet": Annotated[bool, typer.Option("--quiet", help="No progress and no notes.", rich_help_panel=PANEL)],
    "device": Annotated[Device, typer.Option("--device", help="Where to compute.", rich_help_panel=PANEL)],
    "seed": Annotated[int, typer.Option("--seed", min=0, help="Source of all chance.", rich_help_panel=PANEL)],
    "offline": Annotated[
        bool, typer.Option("--offline", help="Never use the network (no command does).", rich_help_panel=PANEL)
    ],
    "debug": Annotated[bool, typer.Option("--debug", help="Show where an error arose.", rich_help_panel=PANEL)],
}
DEFAULTS = {"as_json": False, "quiet": False, "device": Device.auto, "seed": 0, "offline": False, "debug": False}


@dataclass
class Session:
    """One run of one command."""

    command: str
    """As typed: "apply", "styles list"."""
    as_json: bool = False
    quiet: bool = False
    device: str = "auto"
    seed: int = 0
    offline: bool = False
    debug: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)

    def result(self, document: dict[str, Any], text: str) -> None:
        """The result: ``document`` with ``--json``, else ``text``."""
        if self.as_json:
            complete = plain({"schema": schema(self.command), **document})
            text = json.dumps(complete, ensure_ascii=False, indent=2, allow_nan=False)
        print(text, file=self.stdout, flush=True)

    def note(self, message: str) -> None:
        """A sentence for the user beside the result."""
        if not self.quiet:
            print(message, file=sys.stderr, flush=True)  # noqa: T201

    @contextlib.contextmanager
    def progress(self, title: str) -> Iterator[Callable[[str, float], None]]:
        """A callback for library code: a bar on a terminal, else one line a stage."""
        if self.quiet:
            yield lambda stage, fraction: None
        elif sys.stderr.isatty():
            with _bar(title) as update:
                yield update
        else:
            yield self._lines(title)

    def _lines(self, title: str) -> Callable[[str, float], None]:
        started, last = time.monotonic(), [""]

        def update(stage: str, fraction: float) -> None:
            if stage != last[0]:
                last[0] = stage
                self.note(f"{title}: {stage} ({time.monotonic() - started:.0f} s)")

        return update


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[str, float], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda stage, fraction: progress.update(task, description=f"{title}: {stage}", completed=fraction)


def plain(value: Any) -> Any:
    """Results as plain data for JSON: dataclasses become tables, paths texts, numbers that are not finite null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def schema(command: str) -> str:
    """Name and version of a command's JSON document."""
    return f"agile3d.{command.replace(' ', '.')}/1"


def add_command(group: typer.Typer, command: str, function: Callable[..., None]) -> None:
    """Adds ``function(session, ...)`` under the last word of ``command``, with the options of every command."""
    group.command(command.split()[-1])(_with_session(command, function))


def _with_session(command: str, function: Callable[..., None]) -> Callable[..., None]:
    # Not typing.get_type_hints: before Python 3.11 it hides the annotation of a parameter whose default is None.
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=DEFAULTS[name], annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]

    @functools.wraps(function)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in OPTIONS}
        chosen["device"] = Device(chosen["device"]).value
        if chosen["offline"]:
            # For libraries that would otherwise look for newer files of their own.
            os.environ["HF_HUB_OFFLINE"] = "1"
        session = Session(command, **chosen)
        with contextlib.redirect_stdout(sys.stderr):
            function(session, **given)

    keyword = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([*keyword, *shared])  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in (*keyword, *shared)}
    del run.__wrapped__
    return run
