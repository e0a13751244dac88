"""How fast a device could march the rays of one picture of an EG3D-type generator, by its FLOPs and bytes.

The bound is the longer of two times, for R rays of S samples (both passes), K planes of C channels after merging,
H hidden units, F features, t texels of all planes:

    multiplications   R S (8 K C + 2 C H + 2 H (1 + F) + 2 F) FLOPs, by what a product of large matrices reaches
    memory            4 (t C + R S + R (F + 2)) bytes, by what a copy reaches (read and written)

that is, look-ups, decoder and mixing; planes and draws read once, features, depth and share written once. Softplus,
sorting and whatever is kept between steps count nothing, so no program that multiplies as that product does is faster.
``with_look_ups`` counts the 16 R S K C bytes of texels that samples read too, as if they came from memory each time;
most come from a cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.texels import AXES
from benchmarks.clock import Clock

WARM_UP, REPEATS = 3, 10
"""Copies and products that do not count, and those of which the best does."""
COPIED = {"cpu": 1 << 24}
"""Numbers that are copied, here and elsewhere: more than any cache holds."""
MULTIPLIED = {"cpu": 1024}
"""Rows and columns of the matrices that are multiplied."""
FLOAT = 4
"""Bytes."""


@dataclass(frozen=True)
class Work:
    """What a picture's rays need at least, see the top of this file."""

    flops: int
    bytes: int
    look_up_bytes: int

    def bound_ms(self, rates: dict[str, float], look_ups: bool = False) -> float:
        """The longer of the two times."""
        moved = self.bytes + (self.look_up_bytes if look_ups else 0)
        return 1000 * max(self.flops / rates["product_flops_per_second"], moved / rates["copy_bytes_per_second"])


def work_of_rays(config: GeneratorConfig) -> Work:
    """Of one picture."""
    rays, samples = config.superresolution.rendered**2, config.coarse_samples + config.fine_samples
    channels, hidden, features = config.plane_channels, config.decoder_hidden, config.feature_channels
    planes = len({frozenset(pair) for pair in AXES[config.plane_axes]})
    each = 8 * planes * channels + 2 * channels * hidden + 2 * hidden * (1 + features) + 2 * features
    numbers = planes * config.plane_size**2 * channels + rays * samples + rays * (features + 2)
    return Work(rays * samples * each, FLOAT * numbers, FLOAT * 4 * rays * samples * planes * channels)


def renderer(config: GeneratorConfig, render_ms: float, device: torch.device) -> dict[str, float]:
    """How far the rays' time is from their bound."""
    work, rates = work_of_rays(config), measured_rates(device)
    bound, wide = work.bound_ms(rates), work.bound_ms(rates, look_ups=True)
    return {
        **rates,
        "flops": work.flops,
        "bytes": work.bytes,
        "look_up_bytes": work.look_up_bytes,
        "render_ms": render_ms,
        "bound_ms": bound,
        "over_bound": render_ms / bound,
        "bound_ms_with_look_ups": wide,
        "over_bound_with_look_ups": render_ms / wide,
    }


def measured_rates(device: torch.device) -> dict[str, float]:
    """What the device reaches: bytes per second of a copy, read and written, and FLOPs per second of a product."""
    clock = Clock(device)
    here = torch.zeros(COPIED.get(device.type, 1 << 28), device=device)
    there = torch.empty_like(here)
    side = MULTIPLIED.get(device.type, 8192)
    one, other = torch.randn(2, side, side, device=device)
    product = torch.empty_like(one)
    for _ in range(WARM_UP + REPEATS):
        clock.time("copy", lambda: there.copy_(here))
        clock.time("product", lambda: torch.mm(one, other, out=product))
    copy_ms, product_ms = (min(clock.spent[stage][WARM_UP:]) for stage in ("copy", "product"))
    return {
        "copy_bytes_per_second": 2000 * FLOAT * here.numel() / copy_ms,
        "product_flops_per_second": 2000 * side**3 / product_ms,
    }
