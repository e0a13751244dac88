"""Sizes of ``mini`` and the settings of its training."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.heads.parameters import CHOICES, EXPRESSION_RANGE, GLASSES, MIRROR, SWITCHES, Z_DIM, index
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.heads.template import FULL_SHAPES
from agile3d_cli.heads.traits import COUNT
from agile3d_cli.models.config import (
    BankConfig,
    ChoicesConfig,
    DeformationConfig,
    FocusConfig,
    GeneratorConfig,
    TraitsConfig,
)

GROUPS = [name for name, _ in CHOICES]
OPTIONS = [len(bias) for _, bias in CHOICES]
GLASSES_SHARE = sum(OPTIONS) + GLASSES
CROSSED = tuple(range(sum(OPTIONS) + len(SWITCHES), sum(OPTIONS) + len(SWITCHES) + OPTIONS[GROUPS.index("hair_style")]))
"""Shares of mirrored hair styles."""


def _shares(name: str) -> range:
    """Numbers of a group's shares."""
    first = sum(OPTIONS[: GROUPS.index(name)])
    return range(first, first + OPTIONS[GROUPS.index(name)])


CLOSE = 5
"""Views a subject in which the face fills the picture; they come first."""
PLAIN = ("brows", "hair", "glasses", "headwear", "painted_hair", "cloth")
"""Parts of one colour, to which a place only adds light and shadow."""

MINI = GeneratorConfig(
    z_dim=Z_DIM,
    w_dim=256 + COUNT,
    label_dim=0,
    normalize_z=False,
    mapping_layers=2,
    mapping_lr=0.5,
    plane_size=128,
    plane_channels=24,
    plane_axes="xy_xz_zy",
    channel_base=4096,
    channel_max=160,
    decoder_hidden=64,
    decoder_layers=2,
    feature_channels=3,
    density_gain=10.0,
    box=1.0,
    border=2,
    near=2.1,
    far=3.3,
    coarse_samples=40,
    fine_samples=24,
    mean_planes=True,
    tinted=True,
    bias_maps=64,
    choices=ChoicesConfig(
        tuple((index(name), bias) for name, bias in CHOICES),
        SWITCHES,
        crossed=((GROUPS.index("hair_style"), MIRROR),),
        sharpness=40.0,
    ),
    traits=TraitsConfig(COUNT),
    parts=len(PARTS),
    plain_parts=tuple(PARTS.index(name) for name in PLAIN),
    bank=BankConfig(shares=(*_shares("hair_style"), *_shares("headwear")[1:], GLASSES_SHARE, *CROSSED), size=48),
    focus=FocusConfig(strength=3.0, centre=(0.0, 0.0, 0.15)),
    deformation=DeformationConfig(shapes=FULL_SHAPES, expressions=EXPRESSION_RANGE, grid=24, inverse_grid=40),
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run; every value is written into the model's card."""

    batch: int = 4
    points: int = 4096
    """Solid points a subject and step; empty ones come on top."""
    features: float = 0.4
    """Share of the close views' points that are taken from eyes, brows, lashes, teeth and glasses."""
    steps: int = 6000
    """Length of the whole training; 0 is what fits into the time of one run."""
    warmup: int = 100
    rate: float = 3.5e-3
    """Adam's learning rate of backbone and mapping; falls to ``final`` of itself along a cosine."""
    decoder_rate: float = 2.5e-3
    mean_rate: float = 1.2e-2
    bank_rate: float = 1.2e-2
    """Of bank and tint, which are added to all of a head's planes and need not be careful."""
    final: float = 0.04
    average: float = 0.998
    """Decay of the averaged weights that are kept."""
    opaque_step: float = 0.008
    """World units over which a solid point must be opaque."""
    tone_weight: float = 2.0
    """Of the squared error of colours, which minds large errors, such as hair of another colour."""
    density_weight: float = 0.4
    part_weight: float = 0.1
    """Of the likelihood of the parts that places are of."""
    torn_weight: float = 0.3
    """Of the change of opacity between neighbouring points (total variation), which closes hair that was a sponge."""
    smooth_weight: float = 0.1
    seed: int = 0
