"""The hook: what this package offers to agile3d. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from agile3d_cli.hookspecs import hookimpl
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import Stylizer, StylizerDescription
from agile3d_mystyle.config import MyStyleConfig


def build(config: MyStyleConfig) -> Stylizer:
    """A stylizer that has learnt no style yet."""
    from agile3d_mystyle.stylizer import MyStyle

    return MyStyle(config)


def load(path: Path) -> Stylizer:
    """A stylizer from the file that it saved."""
    from agile3d_mystyle.stylizer import read_style

    return read_style(path)


@hookimpl
def agile3d_stylizers() -> list[StylizerDescription]:
    """The one stylizer of this package."""
    terms = LicenseNote("agile3d-mystyle, code", "Apache-2.0", "made by its author; no weights", commercial=True)
    summary = "The colours of the exemplars, and nothing else"
    return [StylizerDescription("mystyle", summary, MyStyleConfig, build, load, (terms,))]
