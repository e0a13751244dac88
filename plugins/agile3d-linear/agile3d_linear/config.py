"""Settings of the stylizer. Imports nothing heavy, so that listing plugins stays quick."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError


@dataclass(frozen=True)
class LinearConfig:
    """How faces are redrawn. Changing a setting needs no new fit, apart from ``faces`` and ``layout``."""

    structure: float = 1.0
    """How far the face takes on the style's proportions: 0 keeps the photo's, 1 is the style's."""
    color: float = 1.0
    """How far skin and hair take on the style's palette: 0 keeps the photo's tones, 1 is the style's."""
    exaggeration: float = 1.3
    """Factor on what tells the sitter's face from the average one; 1 is as in the photo."""
    smoothing: float = 1.0
    """Strength of the smoothing of hair, neck and background; 0 leaves the photo's detail."""
    light: float = 0.3
    """How much of the photo's own light lies on the face, 0 to 1; the rest is the style's light."""
    likeness: float = 0.6
    """How much of the sitter's own relief (nose, folds, sockets) is drawn on the style's skin, 0 to 1."""
    faces: int = 128
    """Realistic faces that the average face is taken from."""
    layout: int = 384
    """Side of the square in which the style's face is kept, pixels; the eyes are about 0.32 of it apart."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("structure", 0, 1.5),
            ("color", 0, 1),
            ("exaggeration", 0, 2),
            ("smoothing", 0, 2),
            ("light", 0, 1),
            ("likeness", 0, 1),
            ("faces", 1, 100_000),
            ("layout", 64, 1024),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"LinearConfig.{name} is {value}; it lies between {low} and {high}.")
