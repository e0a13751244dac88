"""Settings of the stylizer. Imports nothing heavy, so that listing plugins stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from agile3d_cli.errors import ConfigError

CHOICES = ("nearest", "mean", "sampled")
"""Whose style a face gets: of the exemplars most like it, of all alike, or one that the style sampler draws."""


@dataclass(frozen=True)
class DualstyleganConfig:
    """How faces are redrawn, and how long the fit takes: about one step a second on a core at 128 pixels."""

    structure: float = 1.0
    """How far shapes go towards the exemplar's, 0 to 1: weights 0 to 6 of the dial."""
    color: float = 1.0
    """How far colours and strokes go towards the exemplar's, 0 to 1: the other weights of the dial."""
    dial: tuple[float, ...] = ()
    """One weight for each style of the generator, each 0 to 1, in place of the two above; empty: those two."""
    choice: str = "nearest"
    """Whose style a face gets, one of ``CHOICES``."""
    exemplar: int = 0
    """Number of the exemplar whose style every face gets, from 1; 0 leaves it to ``choice``."""
    sample: int = 0
    """Which of the styles that the sampler can draw, for ``choice`` "sampled"."""
    prior: str = ""
    """File of the flat prior to start from; empty: the shipped one."""
    folder: str = ""
    """Folder of a published style on your disk: its networks are taken as they are, and no weight is learnt."""
    size: int = 128
    """Largest edge of the pictures that are learnt and drawn, pixels, a power of two; they are brought back to the
    size that was given."""
    faces: int = 32
    """Realistic faces that the style is tried on while it is learnt."""
    crowd: int = 128
    """Realistic faces whose drawings tell what tones the style has as a crowd; the mean of a few is that of chance."""
    destyle_steps: int = 24
    """Steps that look for the faces behind the exemplars."""
    structure_steps: int = 40
    """Steps in which the extrinsic path learns to carry the shapes of one face to another."""
    style_steps: int = 300
    """Most steps in which it learns the exemplars' style."""
    check_steps: int = 30
    """After so many of them the style is measured; the best one is kept."""
    patience: int = 4
    """Learning ends after so many measurements without a better one."""
    batch: int = 4
    """Pictures of a step, half of them exemplars."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dial", tuple(self.dial))
        for value in chain((self.structure, self.color), self.dial):
            if not 0 <= value <= 1:
                raise ConfigError(f"DualstyleganConfig has a weight of {value} in its dial; each lies between 0 and 1.")
        if self.choice not in CHOICES:
            raise ConfigError(f"DualstyleganConfig.choice is {self.choice!r}; choose {', '.join(CHOICES)}.")
        if self.size not in (32, 64, 128, 256, 512, 1024):
            raise ConfigError(f"DualstyleganConfig.size is {self.size}; take a power of two from 32 to 1024.")
        for name, low, high in (
            ("exemplar", 0, 100_000), ("sample", 0, 2**31), ("faces", 1, 10_000), ("crowd", 1, 10_000),
            ("destyle_steps", 0, 10_000),
            ("structure_steps", 0, 100_000), ("style_steps", 0, 1_000_000), ("check_steps", 1, 1_000_000),
            ("patience", 1, 1_000_000), ("batch", 2, 256),
        ):  # fmt: skip
            if not low <= getattr(self, name) <= high:
                raise ConfigError(
                    f"DualstyleganConfig.{name} is {getattr(self, name)}; it lies between {low} and {high}."
                )
