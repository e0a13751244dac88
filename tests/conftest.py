"""Shared by all tests: says what is tested, and keeps every test away from the user's own folders."""

from __future__ import annotations

from pathlib import Path

import pytest

import agile3d_cli


def pytest_report_header() -> str:
    return f"testing agile3d {agile3d_cli.__version__} in {Path(agile3d_cli.__file__).parent}"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty AGILE3D_HOME."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("AGILE3D_HOME", str(home))
    return home
