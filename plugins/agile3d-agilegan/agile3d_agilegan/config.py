"""Settings of the stylizer. Imports nothing heavy, so that listing plugins stays quick."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError

ATTRIBUTES = ("male", "old", "heavy", "african", "asian")
"""Named coordinates of the prior's codes, in their order, by which faces can be sent to branches."""


@dataclass(frozen=True)
class AgileganConfig:
    """How a style is learnt and drawn. The dials and ``branch`` need no new fit."""

    coarse: float = 1.0
    """Dial of the layers of 4 and 8 pixels (build of the head): 0 draws as before the style was learnt, 1 in it."""
    middle: float = 1.0
    """Dial of the layers of 16 and 32 pixels (features and proportions)."""
    fine: float = 1.0
    """Dial of the layers from 64 pixels up (line, surface, colour)."""
    branch: int = -1
    """Branch that draws every face; -1 lets the face's attribute choose."""
    attribute: str = "male"
    """What divides exemplars and faces into two branches: one of ``ATTRIBUTES``, or "" for a single branch."""
    apart: float = 0.5
    """Exemplars are divided where the halves' mean attributes differ by at least this, standard deviations of faces."""
    fewest: int = 6
    """Exemplars that each branch needs; with fewer there is one branch."""
    steps: int = 450
    """Steps of the training at most; a measured score may end it earlier."""
    half_share: float = 0.4
    """Share of the steps in which pictures of half the prior's size are drawn, where the prior can draw such, and all
    branches are still one."""
    shown: int = 2
    """Exemplars in each step."""
    drawn: int = 3
    """Pictures of random codes in each step."""
    faces: int = 32
    """Realistic faces whose codes tell where photos lie."""
    crowd: int = 128
    """Realistic faces whose drawings tell what tones the style has as a crowd; the mean of a few is that of chance."""
    pool: int = 160
    """Random codes that are drawn by the unstylized generator once, and by the stylized one again and again."""
    refine: int = 8
    """Descents that bring the exemplars' codes nearer to the exemplars."""
    jitter: float = 0.3
    """Share of its told spread with which an exemplar's code varies; all of it would hide whose code it is."""
    rate: float = 6e-3
    """Adam's rate of the generator, and of the critic; it falls along a cosine."""
    redraw_weight: float = 1.0
    """Of redrawing exemplars at their own codes."""
    critic_weight: float = 0.3
    """Of what the critic misses."""
    crowd_weight: float = 1.0
    """Of how far drawn pictures are, as a crowd, from the exemplars."""
    layout_weight: float = 1.5
    """Of keeping what tells one head from another at low frequencies: place, pose, tones."""
    near_weight: float = 0.05
    """Of the weights' distance from where they started."""
    measure_every: int = 30
    """Steps between two measurements of the score."""
    patience: int = 6
    """Measurements without a better score after which the training ends."""
    prior: str = ""
    """File of a flat prior; the shipped one if empty."""
    encoder: str = ""
    """The official ``encoder.pt`` on your own disk; used together with ``generator``."""
    generator: str = ""
    """An official ``<style>.pt`` on your own disk: a style that needs no training."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("coarse", 0, 1.5), ("middle", 0, 1.5), ("fine", 0, 1.5), ("branch", -1, 1), ("apart", 0, 10),
            ("fewest", 1, 1000), ("steps", 1, 100_000), ("half_share", 0, 1), ("shown", 1, 64), ("drawn", 1, 64),
            ("faces", 2, 10_000), ("crowd", 1, 10_000),
            ("pool", 4, 100_000), ("refine", 0, 1000), ("jitter", 0, 2), ("rate", 1e-6, 1),
            ("redraw_weight", 0, 100), ("critic_weight", 0, 100), ("crowd_weight", 0, 100),
            ("layout_weight", 0, 100), ("near_weight", 0, 100),
            ("measure_every", 1, 100_000), ("patience", 1, 1000),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"AgileganConfig.{name} is {value}; it lies between {low} and {high}.")
        if self.attribute not in ("", *ATTRIBUTES):
            known = ", ".join(ATTRIBUTES)
            raise ConfigError(f"AgileganConfig.attribute is {self.attribute!r}; choose one of {known}, or '' for none.")
        if bool(self.encoder) != bool(self.generator):
            raise ConfigError("AgileganConfig.encoder and .generator are used together; give both official files.")
