"""The hook: what this package offers to agile3d. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agile3d_cli.hookspecs import hookimpl
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.stylizer import StylizerDescription
from agile3d_diffusion.config import DiffusionConfig

if TYPE_CHECKING:
    from agile3d_diffusion.stylizer import DiffusionStylizer

__version__ = "0.1.0"
CODE = LicenseNote("agile3d-diffusion, code", "Apache-2.0", "made by this project", commercial=True)
TINY_TERMS = LicenseNote(
    "agile3d-diffusion, tiny base", "CC0-1.0", "made by this project from synthetic heads of CC0 parts", commercial=True
)


def build(config: DiffusionConfig) -> DiffusionStylizer:
    """A stylizer that has learnt no style yet."""
    from agile3d_diffusion.stylizer import DiffusionStylizer

    return DiffusionStylizer(config)


def load(path: Path) -> DiffusionStylizer:
    """A stylizer from the file that it saved."""
    from agile3d_diffusion.state import read_stylizer

    return read_stylizer(path)


@hookimpl
def agile3d_stylizers() -> list[StylizerDescription]:
    """The one stylizer of this package."""
    return [
        StylizerDescription(
            name="diffusion",
            summary="Diffusion: a large base of your own, or the tiny one that comes along, taught by LoRA",
            config=DiffusionConfig,
            build=build,
            load=load,
            licenses=(CODE, TINY_TERMS),
            origin="Meng et al., SDEdit, 2022; Ruiz et al., DreamBooth, 2023; Hu et al., LoRA, 2021",
        )
    ]
