"""Settings of the stylizer. Imports nothing heavy, so that listing plugins stays quick."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError


@dataclass(frozen=True)
class MyStyleConfig:
    """How faces are recoloured."""

    strength: float = 1.0
    """How far colours go towards the style's: 0 keeps the photo's, 1 is the style's."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"MyStyleConfig.strength is {self.strength}; it lies between 0 and 1.")
