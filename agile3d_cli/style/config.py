"""Settings of the flow exemplars -> style. Imports no torch, so the command line takes its defaults from here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agile3d_cli.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRESETS = ("fast", "standard", "full")


@dataclass(frozen=True)
class NewStyleConfig:
    """How a folder of pictures becomes a style."""

    name: str
    """Name of the style: lower-case letters, digits, dashes and underscores, at most 40."""
    stylizer: str = "agilegan"
    """Plugin that learns the style in 2D."""
    base: str = "mini"
    """Generator that the style belongs to."""
    preset: str = "fast"
    """How long to train: "fast", "standard" or "full"."""
    resume: bool = False
    """Go on where an interrupted run of the same name stopped."""
    seed: int = 0
    """All chance comes from it."""
    device: str = "auto"
    """Where to compute: "auto", "cpu", "cuda" or "mps"."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", self.name) or self.name == "none":
            raise ConfigError(
                f"--name is {self.name!r}; use up to 40 lower-case letters, digits, dashes and underscores, not 'none'."
            )
        if self.preset not in PRESETS:
            raise ConfigError(f"--preset is {self.preset!r}; choose one of {', '.join(PRESETS)}.")
        if self.device not in DEVICES:
            raise ConfigError(f"--device is {self.device!r}; choose one of {', '.join(DEVICES)}.")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}; it must lie between 0 and {2**63 - 1}.")


@dataclass(frozen=True)
class TransferConfig:
    """How the base generator is fine-tuned on the pairs."""

    steps: int = 500
    batch: int = 2
    patch: int = 36
    """Edge of the compared picture patches, pixels."""
    rate: float = 0.02
    """Adam's learning rate of the mean planes; falls to a tenth."""
    output_rate: float = 2e-3
    """The same of the plane outputs."""
    coarse: int = 22
    fine: int = 10
    """Samples along a ray: to find the surface, and to compare it."""
    edges: float = 0.7
    outline: float = 0.4
    hold: float = 0.02
    smooth: float = 0.5
    """Weights against a mean colour difference in [-1, 1]: edges, coverage, unchanged density, smooth planes."""
    checkpoint: int = 50
    """Steps between two saved states."""
    seed: int = 0


@dataclass(frozen=True)
class Preset:
    """How much work goes into a style."""

    pairs: int
    """Stylized faces."""
    size: int
    """Their edge, pixels."""
    steps: int
    """Steps of the transfer."""


PRESET_WORK = {
    "fast": Preset(pairs=80, size=192, steps=300),
    "standard": Preset(pairs=300, size=256, steps=1200),
    "full": Preset(pairs=2000, size=256, steps=6000),
}
