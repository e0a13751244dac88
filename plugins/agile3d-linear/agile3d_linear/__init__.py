"""The hook: what this package offers to agile3d. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agile3d_cli.hookspecs import hookimpl
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import StylizerDescription
from agile3d_linear.config import LinearConfig

if TYPE_CHECKING:
    from agile3d_linear.stylizer import LinearStylizer

__version__ = "0.1.0"


def build(config: LinearConfig) -> LinearStylizer:
    """A stylizer that has learnt no style yet."""
    from agile3d_linear.stylizer import LinearStylizer

    return LinearStylizer(config)


def load(path: Path) -> LinearStylizer:
    """A stylizer from the file that it saved."""
    from agile3d_linear.state import read_state
    from agile3d_linear.stylizer import LinearStylizer

    return LinearStylizer(*read_state(path))


@hookimpl
def agile3d_stylizers() -> list[StylizerDescription]:
    """The one stylizer of this package."""
    return [
        StylizerDescription(
            name="linear",
            summary="Landmark mesh and blended exemplar features: fitted in under a minute, nothing trained",
            config=LinearConfig,
            build=build,
            load=load,
            licenses=(
                LicenseNote("agile3d-linear, code", "Apache-2.0", "made by this project; no weights", commercial=True),
            ),
            origin="this project; the scheme (encode, then decode in the style) follows Song et al., AgileGAN, 2021",
            seconds=(160.0, 0.35),
        )
    ]
