"""Settings of the flow photo -> avatar. Imports no torch, so the command line takes its defaults from here."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
POSES = ("mediapipe", "insightface")


@dataclass(frozen=True)
class ApplyConfig:
    """How one photo becomes a portrait."""

    style: str = "cartoon"
    """Name or file of a style; "none" gives the unstylized reconstruction."""
    refine: int = 150
    """Steps of refinement after the first guess of the latent, 0 to 5000: more is nearer to the photo and slower."""
    identity: float = 0.7
    """How much of the person is kept against the style, 0 to 1."""
    structure: float = 1.0
    """Strength of the style's shapes, 0 to 1."""
    color: float = 1.0
    """Strength of the style's colours, 0 to 1."""
    size: int = 512
    """Width and height of the pictures, pixels, 64 to 2048."""
    face: int = 0
    """Which face of the photo, 0 is the largest."""
    pose: str = "mediapipe"
    """How the head pose is estimated: "mediapipe" or "insightface"."""
    seed: int = 0
    """All chance comes from it."""
    device: str = "auto"
    """Where to compute: "auto", "cpu", "cuda" or "mps"."""

    def __post_init__(self) -> None:
        for name in ("identity", "structure", "color"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"--{name} is {getattr(self, name)}; it must lie between 0 and 1.")
        for name, low, high in (("refine", 0, 5000), ("size", 64, 2048), ("face", 0, 99), ("seed", 0, 2**63 - 1)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"--{name} is {getattr(self, name)}; it must lie between {low} and {high}.")
        for name, choices in (("pose", POSES), ("device", DEVICES)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"--{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}.")
