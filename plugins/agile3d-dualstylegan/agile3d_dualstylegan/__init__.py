"""The hook: what this package offers to agile3d. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agile3d_cli.hookspecs import hookimpl
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import StylizerDescription
from agile3d_dualstylegan.config import DualstyleganConfig

if TYPE_CHECKING:
    from agile3d_dualstylegan.stylizer import DualstyleganStylizer

__version__ = "0.2.0"


def build(config: DualstyleganConfig) -> DualstyleganStylizer:
    """A stylizer that has learnt no style yet."""
    from agile3d_dualstylegan.stylizer import DualstyleganStylizer

    return DualstyleganStylizer(config)


def load(path: Path) -> DualstyleganStylizer:
    """A stylizer from the file that it saved."""
    from agile3d_dualstylegan.state import read_state
    from agile3d_dualstylegan.stylizer import DualstyleganStylizer

    return DualstyleganStylizer(*read_state(path))


@hookimpl
def agile3d_stylizers() -> list[StylizerDescription]:
    """The one stylizer of this package."""
    ours = "made by this project"
    return [
        StylizerDescription(
            name="dualstylegan",
            summary="DualStyleGAN: an exemplar's path beside the face's, with a dial for shapes and colours",
            config=DualstyleganConfig,
            build=build,
            load=load,
            licenses=(
                LicenseNote("agile3d-dualstylegan, code", "Apache-2.0", f"{ours}; no weights", commercial=True),
                LicenseNote("flat prior weights", "Apache-2.0", ours, commercial=True),
            ),
            origin="Yang et al., Pastiche Master: Exemplar-based high-resolution portrait style transfer, CVPR 2022",
        )
    ]
