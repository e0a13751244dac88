"""Settings of the flow photo -> avatar. Imports no torch, so the command line takes its defaults from here."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
POSES = ("mediapipe", "insightface")
"""Estimators of ``face/estimators.py``; the first is shipped."""


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
    """Who finds the landmarks and so the head pose: "mediapipe" or "insightface"."""
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


@dataclass(frozen=True)
class MeshConfig:
    """How a head becomes a mesh."""

    resolution: int = 192
    """Grid cells along each side of the head's box, a multiple of 8 from 32 to 768."""
    level: float | None = None
    """Density of the surface, per world unit; None measures it where rays lose half of their light."""
    dense: bool = False
    """Evaluate the whole grid instead of a band around the surface; the same mesh, several times slower."""
    smoothing: int = 6
    """Rounds of smoothing that keep the volume, 0 to 100."""
    faces: int | None = None
    """Simplify to about so many triangles, at least 500; None keeps all. Needs the package fast-simplification."""
    detail: int = 2
    """How often triangles are split where their colours differ (eyes, lips), 0 to 4."""
    texture: int = 0
    """Width and height of the texture, pixels, 256 to 4096; 0 colours the vertices. Needs the package xatlas."""

    def __post_init__(self) -> None:
        if self.resolution % 8 or not 32 <= self.resolution <= 768:
            raise ConfigError(f"The mesh resolution is {self.resolution}; it must be a multiple of 8 from 32 to 768.")
        if self.level is not None and not 0.0 < self.level < 1e6:
            raise ConfigError(f"The surface level is {self.level}; it must be positive, 5 to 50 is usual.")
        if self.faces is not None and self.faces < 500:
            raise ConfigError(f"A mesh of {self.faces} triangles is no head any more; ask for 500 or more.")
        if self.texture and not 256 <= self.texture <= 4096:
            raise ConfigError(f"The texture is {self.texture} pixels wide; it must be 0 (none) or 256 to 4096.")
        for name, low, high in (("smoothing", 0, 100), ("detail", 0, 4)):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"Mesh {name} is {getattr(self, name)}; it must lie between {low} and {high}.")


@dataclass(frozen=True)
class ViewsConfig:
    """Which pictures of a finished head are made."""

    sheet_yaws: tuple[float, ...] = (-60.0, -30.0, 0.0, 30.0, 60.0)
    """Angles of the view sheet from left to right, degrees."""
    zoom: float = 0.62
    """Focal length of sheet and turntable over that of the portrait camera; below 1 shows hair and neck too."""
    frames: int = 30
    """Pictures of one turn, 2 to 720."""
    frame_size: int = 256
    """Width and height of a turntable picture, pixels, 32 to 1024."""
    fps: float = 12.0
    """Pictures a second of the turntable, 1 to 60."""
    swing: float = 0.0
    """Degrees to either side for a turntable that swings there and back; 0 turns all the way round."""
    background: float = 1.0
    """Grey behind the head, -1 (black) to 1 (white)."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("zoom", 0.2, 2.0),
            ("frames", 2, 720),
            ("frame_size", 32, 1024),
            ("fps", 1, 60),
            ("swing", 0, 170),
            ("background", -1, 1),
        ):
            if not low <= getattr(self, name) <= high:
                raise ConfigError(f"Views: {name} is {getattr(self, name)}; it must lie between {low} and {high}.")
        if not self.sheet_yaws:
            raise ConfigError("A view sheet needs at least one angle.")


@dataclass(frozen=True)
class InvertConfig:
    """How a face becomes a latent."""

    tries: int = 2
    """Hair styles that are tried, those that fit the photo best as they are."""
    start_rays: int = 1024
    """Pixels compared for that."""
    try_steps: int = 10
    """Steps of each try."""
    search_steps: int = 35
    """Steps of the latent search from the best one."""
    search_rate: float = 0.15
    prior: float = 4e-3
    """Weight of the squared way from the start, in its deviations, against a mean colour error in [0, 1]."""
    identity_steps: int = 24
    """Steps that bring the latent nearer to the sitter in the eyes of the identity network."""
    identity_rate: float = 0.05
    identity_tone: float = 2.0
    """Weight of broad colours against the identity distance."""
    identity_surface: float = 3.0
    """Weight of the squared change of what is solid."""
    identity_brows: float = 6.0
    """Weight of how much lighter the photo is where brows grow meanwhile: strong ones ran together over the nose."""
    identity_prior: float = 0.25
    """Weight of the mean squared way from the latent's styles."""
    paint_steps: int = 150
    """Steps of the residual on the planes."""
    paint_rate: float = 0.04
    paint_rays: int = 4096
    """Pixels compared in one of them."""
    rays: int = 2048
    """Pixels compared in one step of the search."""
    reach: float = 1.3
    """No searched coordinate of the latent goes further from 0, in standard deviations: where several do, the generator
    has hardly ever seen it. Those that choose are free."""
    hold: int = 3
    """Steps for which the same pixels are compared, with the surface where the first of them found it."""
    coarse: int = 28
    fine: int = 10
    """Samples along a ray: to find the surface, and to compare it."""
    outline: float = 0.4
    """Weight of the person mask against colour."""
    smooth: float = 1.0
    small: float = 0.02
    """Weights of smoothness and size of the residual."""
    background: float = 0.5
    """Grey, in [0, 1], behind photo and rendering while they are compared."""
    seed: int = 0
