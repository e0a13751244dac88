"""A fitted stylizer <-> one safetensors file: settings, terms, the tiny base's hash, and the style's tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from agile3d_cli.errors import ConfigError, RefusedError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.safefile import file_sha256, read_card, read_tensors, write_file
from agile3d_diffusion.config import TINY, DiffusionConfig
from agile3d_diffusion.stylizer import DiffusionStylizer
from agile3d_diffusion.tiny import SHIPPED, read_tiny


def write_stylizer(
    path: Path, config: DiffusionConfig, licenses: Sequence[LicenseNote], state: dict[str, Tensor]
) -> None:
    """Writes a file that ``read_stylizer`` reads; the same style gives the same bytes."""
    meta = {
        "format": "stylizer",
        "version": 1,
        "stylizer": "diffusion",
        "config": asdict(config),
        "licenses": [note.as_json() for note in licenses],
    }
    if config.base == TINY:
        meta["base_sha256"] = file_sha256(SHIPPED)
    write_file(path, meta, state)


def read_stylizer(path: Path) -> DiffusionStylizer:
    """Reads what ``write_stylizer`` wrote. A large base is looked for on this machine only.

    Raises:
        RefusedError: the file is damaged, not of this stylizer, or made for another version of the tiny base.
        MissingError: the base is not here.
    """
    card = read_card(path, "stylizer")
    if card.meta.get("stylizer") != "diffusion":
        raise RefusedError(f"{path} is not a file of the diffusion stylizer; fit it again.")
    try:
        config = DiffusionConfig(**card.meta["config"])
    except (KeyError, TypeError, ConfigError) as error:
        raise RefusedError(f"{path} holds settings that diffusion does not know ({error}); fit it again.") from error
    if config.base == TINY:
        read_tiny()
    if config.base == TINY and card.meta.get("base_sha256") != file_sha256(SHIPPED):
        raise RefusedError(f"{path} was made with another version of the tiny base; fit it again.")
    try:
        return DiffusionStylizer(config, read_tensors(card))
    except RefusedError as error:
        raise RefusedError(f"{path}: {error}") from error
