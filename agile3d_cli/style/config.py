"""Settings of the flow exemplars -> style. Imports no torch, so the command line takes its defaults from here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from agile3d_cli.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRESETS = ("fast", "standard", "full")


@dataclass(frozen=True)
class NewStyleConfig:
    """How a folder of pictures becomes a style."""

    name: str
    """Name of the style: lower-case letters, digits, dashes and underscores, at most 40."""
    stylizer: str = "linear"
    """Plugin that learns the style in 2D."""
    base: str = "mini"
    """Generator that the style belongs to."""
    preset: str = "fast"
    """How long to train: "fast", "standard" or "full"."""
    resume: bool = False
    """Go on where an interrupted run of the same name stopped."""
    strict: bool = False
    """Refuse exemplars about which there is a warning."""
    photos: Path | None = None
    """Folder of real photos that are stylized too; None without."""
    dataset: Path | None = None
    """Folder that the stylized pictures are written to in EG3D's layout; None without."""
    log: Path | None = None
    """Folder of a TensorBoard log; None without."""
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

    steps: int = 1200
    batch: int = 4
    patch: int = 48
    """Edge of the compared picture patches, pixels; a quarter of the pictures'."""
    rate: float = 0.045
    """Adam's learning rate of the mean planes and of details; falls to a twentieth."""
    output_rate: float = 4.5e-3
    """The same of the plane outputs."""
    accents: bool = True
    """Whether planes may follow how light a person's skin and brows are: lips of one red on all skins need it."""
    accent_rate: float = 0.02
    """The learning rate of that."""
    details: bool = True
    """Whether what is drawn on faces gets finer texels than planes have."""
    laid: bool = True
    """Whether each picture may be bent a little, so that what it shows lies where the others have it on the head."""
    laid_rate: float = 8e-4
    """The learning rate of that, picture widths."""
    bent: float = 20.0
    """The weight, against a mean colour difference, of how far and how unevenly pictures are bent, picture widths."""
    tones: bool = True
    """Whether the colours of the head's parts are the style's; they show at the back and the shoulders too, which
    pictures hardly show."""
    contour: bool = True
    """Whether a line that the exemplars draw around heads is drawn on views, along hair too if that looks like them."""
    brows: bool = True
    """Whether brows are all of one colour where the exemplars' are and people look more like them for it."""
    light: bool = True
    """Whether a light models heads where people look more like the exemplars in it."""
    calm: float = 0.75
    """How much of a sitter's own form of eyes and mouth is taken back where the style draws these by itself, 0 to 1."""
    edges: float = 0.5
    smooth: float = 0.03
    small: float = 2e-3
    """Weights against a mean colour difference in [0, 1]: differences of neighbours, smooth planes, small change."""
    depth: float = 2.0
    """The same of how far depths are from the base's, world units, in imported generators, whose surfaces learn."""
    checkpoint: int = 50
    """Steps between two saved states; slow ones are saved sooner, see ``state.SECONDS``."""
    early: bool = False
    """Whether to stop where people come no nearer to the exemplars any more, see ``stopping.py``."""
    seed: int = 0


@dataclass(frozen=True)
class FilterConfig:
    """Which pairs are left out; see ``filters.py``."""

    drift: float = 0.04
    """Largest distance of a pair's landmark shifts from the style's usual ones, root mean square, crop fractions.
    Measured on 40 faces in the style of the example exemplars: 0.003 to 0.017."""
    identity: float = 1.0
    """Largest distance of the embeddings of a face and its stylized version. Measured in that style: 0.56 to 0.82, and
    0.61 to 0.72 to another person's, so it finds gross failures only."""
    look: float = 3.0
    """Largest distance of a stylized picture's features to its nearest pictures, over the usual one. Measured: at most
    1.9."""

    def __post_init__(self) -> None:
        for name in ("drift", "identity", "look"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"FilterConfig.{name} is {getattr(self, name)}; it must be above 0.")


@dataclass(frozen=True)
class Preset:
    """How much work goes into a style."""

    pairs: int
    """Stylized faces."""
    size: int
    """Their edge, pixels."""
    steps: int
    """Steps of the transfer."""
    early: bool = False
    """Whether these are the most, see ``TransferConfig.early``."""


PRESET_WORK = {
    "fast": Preset(pairs=120, size=192, steps=1200),
    "standard": Preset(pairs=150, size=320, steps=2000),
    "full": Preset(pairs=600, size=320, steps=6000, early=True),
}
