"""Sizes of the flat prior, a small 2D generator that draws ``mini``'s heads, and the settings of its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from agile3d_cli.heads.parameters import Z_DIM
from agile3d_cli.models.flat import CAMERA_NUMBERS
from agile3d_cli.models.flat_encoder import FlatEncoderConfig
from agile3d_cli.models.stylegan2 import StyleGAN2Config

FLAT = StyleGAN2Config(
    widths=(160, 160, 160, 144, 112, 64, 32), w_dim=Z_DIM + CAMERA_NUMBERS, mapping_layers=4
)  # fmt: skip
"""256 pixels, 2.4 million numbers."""
FLAT_ENCODER = FlatEncoderConfig(w_dim=FLAT.w_dim, groups=(3, 4, 2, 5))
"""Layers of 4 and 8, of 16 and 32, of 64, and of 128 and 256 pixels (with the last output) share a code."""


@dataclass(frozen=True)
class FlatConfig:
    """One training; every value is written into the files."""

    student: StyleGAN2Config = FLAT
    encoder: FlatEncoderConfig = FLAT_ENCODER
    pictures: int = 10_000
    """Most pictures of the teacher that are kept."""
    held_out: int = 64
    spread: float = 0.9
    """Standard deviation of the latents that are drawn; the far tails teach little."""
    draw_share: float = 0.3
    """Of the wall-clock budget: drawing pictures, at most."""
    mapping_share: float = 0.06
    student_share: float = 0.57
    """Of what is left then: the mapping alone, and the whole student; the encoder has the rest."""
    half_share: float = 0.5
    """Of the student's time: pictures of half the size, which cost a third and tell where everything is."""
    latents: int = 65_536
    """Of which the mapping is told what the teacher makes of them."""
    mapping_batch: int = 2048
    batch: int = 32
    encoder_batch: int = 48
    mapping_rate: float = 1.5e-2
    """Adam's of the first stage; each rate rises over ``warmup`` steps and falls along a cosine of the time."""
    rate: float = 1e-2
    """Adam's of the student."""
    mapping_gain: float = 100.0
    """How many times higher the mapping's rates are: its layers take a hundredth of each step, which is little here."""
    encoder_rate: float = 2e-3
    warmup: int = 60
    average: float = 0.995
    """Decay of the averaged weights that are kept."""
    squared_weight: float = 1.0
    features_weight: float = 0.15
    face_weight: float = 3.0
    """How much more the middle of the face counts than the shoulders."""
    background_weight: float = 0.5
    known_weight: float = 0.05
    """Of what the teacher's own mapping makes of a latent, against squared error of a picture."""
    latent_weight: float = 0.5
    """Of the surprise at the true code, against the mean colour error of the picture drawn again."""
    prior_weight: float = 0.01
    """Of the Kullback-Leibler divergence from the normal distribution, a number of the code."""
    redraw_from: float = 0.4
    """Share of the encoder's time after which codes are drawn again by the student, which takes far longer."""
    seed: int = 0


def sized(config: FlatConfig, size: int) -> FlatConfig:
    """The same training with pictures of fewer pixels, a power of two: to try things on a processor."""
    count = size.bit_length() - 2
    student = replace(config.student, widths=config.student.widths[:count])
    ends = [min(end, student.num_ws) for end in accumulate(config.encoder.groups, initial=0)]
    groups = tuple(b - a for a, b in pairwise(ends) if b > a)
    encoder = replace(config.encoder, groups=groups, size=min(config.encoder.size, size))
    return replace(config, student=student, encoder=encoder)
