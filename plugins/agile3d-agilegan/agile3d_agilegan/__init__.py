"""The hook: what this package offers to agile3d. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agile3d_agilegan.config import AgileganConfig
from agile3d_cli.hookspecs import hookimpl
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import StylizerDescription

if TYPE_CHECKING:
    from agile3d_agilegan.stylizer import AgileganStylizer

__version__ = "0.2.0"


def build(config: AgileganConfig) -> AgileganStylizer:
    """A stylizer that has learnt no style yet."""
    from agile3d_agilegan.stylizer import AgileganStylizer

    return AgileganStylizer(config)


def load(path: Path) -> AgileganStylizer:
    """A stylizer from the file that it saved."""
    from agile3d_agilegan.state import read_state
    from agile3d_agilegan.stylizer import AgileganStylizer

    return AgileganStylizer(*read_state(path))


@hookimpl
def agile3d_stylizers() -> list[StylizerDescription]:
    """The one stylizer of this package."""
    return [
        StylizerDescription(
            name="agilegan",
            summary="AgileGAN: encodes a face into Z+ and draws it with a StyleGAN2 fine-tuned on the exemplars",
            config=AgileganConfig,
            build=build,
            load=load,
            licenses=(
                LicenseNote(
                    "agile3d-agilegan, code", "Apache-2.0", "made by this project; no weights", commercial=True
                ),
            ),
            origin="Song et al., AgileGAN: Stylizing portraits by inversion-consistent transfer learning, 2021",
        )
    ]
