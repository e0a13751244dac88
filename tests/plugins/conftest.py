"""Makes throwaway plugin packages that importlib.metadata finds like installed ones."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GOOD = """
from dataclasses import dataclass
from agile3d_cli.hookspecs import hookimpl
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import StylizerDescription

@dataclass(frozen=True)
class Config:
    strength: float = 1.0

def build(config):
    raise NotImplementedError

NOTES = (LicenseNote("code", "MIT", "made for a test", True),)

@hookimpl
def agile3d_stylizers():
    return [StylizerDescription("{name}", "A test stylizer.", Config, build, build, NOTES)]
"""


@pytest.fixture
def good() -> Callable[[str], str]:
    """``good(name)`` is the source of a plugin that works."""
    return lambda name: GOOD.replace("{name}", name)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """``install(package, source)`` makes a package whose module holds ``source``; nothing else is installed."""
    monkeypatch.syspath_prepend(tmp_path)
    packages: list[str] = []

    def install_package(package: str, source: str) -> None:
        module = package.replace("-", "_")
        packages.append(package)
        (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
        info = tmp_path / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[agile3d]\n{module} = {module}\n")
        monkeypatch.setenv("AGILE3D_LOAD_PLUGINS", ",".join(packages))

    yield install_package
    for package in packages:
        sys.modules.pop(package.replace("-", "_"), None)
