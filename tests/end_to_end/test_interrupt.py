"""The benchmark of interruptions kills when it says, goes on until the end, and sees a style that differs."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from agile3d_cli.bundle import BaseReference, StyleBundle, write_style

ROOT = Path(__file__).parents[2]
LEARNING = """
import sys, time
print("first", flush=True)
print("second", flush=True)
time.sleep(60 if len(sys.argv) < 2 else 0)
sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module ``benchmarks.interrupt``, which is not installed."""
    monkeypatch.syspath_prepend(ROOT)
    return importlib.import_module("benchmarks.interrupt")


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", LEARNING, *words], stdout=subprocess.PIPE, text=True)


def test_it_kills_and_goes_on(interrupt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Path] = []

    def run(args: argparse.Namespace, output: Path) -> subprocess.Popen[str]:
        runs.append(output)
        return start() if len(runs) < 3 else start("0")

    monkeypatch.setattr(interrupt, "run", run)
    under_way, seconds = interrupt.until_done(argparse.Namespace(), tmp_path, [4.0, 4.0])
    assert under_way == ["second", "second"] and len(seconds) == 3 and runs == [tmp_path] * 3


def test_a_run_that_fails_by_itself_is_no_kill(
    interrupt: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "run", lambda args, output: start("3"))
    with pytest.raises(SystemExit, match="exit code 3"):
        interrupt.until_done(argparse.Namespace(), tmp_path, [60.0])


def test_a_hash_is_that_of_the_tensors(interrupt: ModuleType, tmp_path: Path) -> None:
    found = []
    for number, (name, value) in enumerate((("a", 1.0), ("a", 1.0), ("a", 1.0 + 2e-7), ("b", 1.0))):
        bundle = StyleBundle(
            name=f"style{number}", base=BaseReference("mini", "0" * 64), tensors={name: torch.tensor([value])}
        )
        write_style(tmp_path / f"{number}.safetensors", bundle)
        found.append(interrupt.tensors_hash(tmp_path / f"{number}.safetensors"))
    assert found[0] == found[1] and len(set(found)) == 3
