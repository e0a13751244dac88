"""A stranger's stylizer: the template's wheel beside ours in a fresh environment, used from the command line there."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agile3d_cli.bundle import read_style

ROOT = Path(__file__).parents[2]
SMALL = """
import torch
from agile3d_cli.cli.app import main
from agile3d_cli.style import augment, material, preview
from agile3d_cli.style.config import Preset, TransferConfig
from agile3d_cli.style.measure import Moved

preview.PREVIEW_SIZE = 32
material.PRESET_WORK = {"fast": Preset(pairs=10, size=48, steps=8)}
material.TransferConfig = lambda steps, **more: TransferConfig(steps=steps, seed=more["seed"], batch=2, patch=16)
augment.measure_pair = lambda real, drawn: Moved(torch.zeros(468, 2), torch.zeros(()), torch.ones(384))
main()
"""
"""The program with little work to do, and without a face detector, which finds none in the micro generator's heads."""


@dataclass(frozen=True)
class Environment:
    """A fresh virtual environment with agile3d and the template."""

    folder: Path
    package: Path
    """The stranger's copy of the template, outside of the repository."""

    def run(self, *words: str | Path, cwd: Path | None = None) -> str:
        """What a program of the environment prints."""
        program, *rest = words
        return run_quietly([self.folder / "bin" / program, *rest], cwd or self.folder)

    def run_json(self, *words: str | Path) -> dict[str, Any]:
        """The document that a program of the environment prints."""
        document: dict[str, Any] = json.loads(self.run(*words, "--json"))
        return document


def run_quietly(words: Sequence[str | Path], cwd: Path) -> str:
    """Output of a program that sees nothing of this environment; an error shows all that it said."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "AGILE3D_LOAD"))}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=clean, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, words))} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Wheels of agile3d and of a copy of the template, installed beside the dependencies of this environment."""
    place = tmp_path_factory.mktemp("stranger")
    package = Path(shutil.copytree(ROOT / "plugins" / "template", place / "agile3d-mystyle"))
    wheels = build_wheels(place / "wheels", ROOT, package)
    folder = place / "venv"
    venv.create(folder, with_pip=True)
    found = Environment(folder, package)
    found.run("python", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", *wheels)
    # Dependencies come from here: what the environment has itself goes first, and packages of agile3d are left away.
    borrowed = place / "dependencies"
    borrowed.mkdir()
    for source in {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib")}:
        for entry in source.iterdir():
            if "agile3d" not in entry.name:
                (borrowed / entry.name).symlink_to(entry)
    (own,) = folder.glob("lib/*/site-packages")
    (own / "dependencies.pth").write_text(f"{borrowed}\n")
    return found


def build_wheels(place: Path, *sources: Path) -> list[Path]:
    """One wheel of each source; with hatchling at hand the network is not needed."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--retries", "1"]
    command += ["--wheel-dir", str(place)]
    if importlib.util.find_spec("hatchling") is not None:
        command.append("--no-build-isolation")
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True)
    if "No matching distribution found for hatchling" in done.stderr:
        pytest.skip("wheels cannot be built: hatchling is neither installed nor to be had from a package index")
    assert done.returncode == 0, done.stderr
    return sorted(place.iterdir())


@pytest.mark.slow
def test_the_environment_uses_its_own_wheels(environment: Environment) -> None:
    code = "import agile3d_cli, agile3d_mystyle; print(agile3d_cli.__file__, agile3d_mystyle.__file__)"
    for file in environment.run("python", "-c", code).split():
        assert Path(file).is_relative_to(environment.folder)
    (entry,) = environment.run_json("agile3d", "plugins", "list")["plugins"]
    assert (entry["name"], entry["package"], entry["state"]) == ("mystyle", "agile3d-mystyle", "ok")


@pytest.mark.slow
def test_the_template_passes_the_contract_there(environment: Environment) -> None:
    """As its author would see it: with pytest, in the package's own folder."""
    said = environment.run("python", "-m", "pytest", "-q", "-W", "error", "tests", cwd=environment.package)
    assert " passed" in said and "skipped" not in said


@pytest.mark.slow
def test_new_style_learns_with_the_template_there(environment: Environment, micro_file: Path, tmp_path: Path) -> None:
    exemplars = tmp_path / "exemplars"
    exemplars.mkdir()
    for picture in sorted((ROOT / "examples" / "cartoon-exemplars").glob("*.webp"))[:5]:
        shutil.copy(picture, exemplars)
    (exemplars / "notes.txt").touch()
    program = tmp_path / "small.py"
    program.write_text(SMALL, encoding="utf-8")
    words = ("new-style", exemplars, "--name", "mine", "--stylizer", "mystyle", "--base", micro_file)
    said = environment.run_json("python", program, *words, "--output", tmp_path / "out", "--quiet")
    assert len(said["notes"]) == 1 and "notes.txt" in said["notes"][0]
    bundle = read_style(Path(said["bundle"]))
    assert bundle.stylizer == {"name": "mystyle", "version": "0.1.0", "config": {"strength": 1.0}}
    assert "agile3d-mystyle, code" in [note.item for note in bundle.licenses]
    first, *_ = environment.run_json("agile3d", "styles", "list")["styles"]
    assert first["name"] == "mine"
