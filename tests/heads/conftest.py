"""Benchmarks are not installed: tests of their arithmetic import them from the repository's root."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def _benchmark(name: str) -> ModuleType:
    pytest.importorskip("embreex", reason="embreex is not installed (extra: train)")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT)
        return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture(scope="module")
def truths() -> ModuleType:
    """The module ``benchmarks.truths``."""
    return _benchmark("truths")


@pytest.fixture(scope="module")
def fewshot() -> ModuleType:
    """The module ``benchmarks.fewshot``."""
    return _benchmark("fewshot")


@pytest.fixture(scope="module")
def fewshot_sets() -> ModuleType:
    """The module ``benchmarks.fewshot_sets``."""
    return _benchmark("fewshot_sets")
