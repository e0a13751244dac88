"""Runs the program in this process, in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agile3d_cli.cli.app import app

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("styles", "list")`` in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def run_json(run: Run) -> Callable[..., tuple[int, dict[str, Any]]]:
    """Exit code and the one document of a command run with --json."""

    def run_command(*words: Any) -> tuple[int, dict[str, Any]]:
        result = run(*words, "--json")
        return result.exit_code, json.loads(result.stdout)

    return run_command
