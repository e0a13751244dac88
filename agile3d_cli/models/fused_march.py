"""The rays of an imported generator in four steps on CUDA: shade, draw, shade again and mix, see ``fused_kernels.py``.

``fused.py`` says when they are taken. Needs ``triton``, which comes with torch for CUDA.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from agile3d_cli.models.fused_kernels import draw, mix, shade
from agile3d_cli.models.published_rays import FLOOR, SMALLEST
from agile3d_cli.models.ray_field import March, Marched, RayField, in_parts

FAR = 1e30
"""Where samples lie that a ray does not have."""


class Setting(NamedTuple):
    """How the work is cut; results differ by rounding only."""

    block: int = 64
    """Samples that are shaded together."""
    warps: int = 4
    """Of 32 threads, that do it."""
    product: str = "tf32x3"
    """How the decoder's products are made: three of TF32 keep float32's bits, ``ieee`` takes no tensor cores."""
    ray_warps: int = 1
    """That mix one ray."""


def marching(setting: Setting) -> March:
    """``ray_field.march_rays`` of fields that ``fused.fits``."""
    part = partial(_march_part, setting)

    def march(
        field: RayField, origin: Tensor, direction: Tensor, first: Tensor, draws: Tensor | None, fine: int
    ) -> Marched:
        with torch.cuda.device_of(first):
            return in_parts(part, field, origin, direction, first, draws, fine)

    return march


def _march_part(
    setting: Setting, field: RayField, origin: Tensor, direction: Tensor, first: Tensor, draws: Tensor | None, fine: int
) -> Marched:
    """Rays (R, 3), coarse depths (R, S), draws (R or 1, fine); the samples of both passes share their tables."""
    (rays, coarse), decoder = first.shape, field.decoder
    samples, colours = coarse + fine, decoder.output.shape[1] - 1
    depths, raw = first.new_empty(rays, samples), first.new_empty(rays, samples)
    shown = first.new_empty(rays, samples, colours)
    order = torch.empty_like(depths, dtype=torch.int32)
    depths[:, :coarse] = first
    origin, direction = origin.contiguous(), direction.contiguous()

    def shaded(begin: int, count: int) -> None:
        (height, width), pairs = field.planes.size, field.planes.pairs
        shade[(triton.cdiv(rays * count, setting.block),)](
            field.planes.table,
            origin,
            direction,
            depths,
            decoder.hidden,
            decoder.hidden_bias,
            decoder.output,
            decoder.output_bias,
            raw,
            shown,
            rays * count,
            count,
            begin,
            samples,
            2 / field.box,
            height,
            width,
            PLANES=len(pairs),
            AXES=sum((4 * along + across) << (4 * k) for k, (along, across) in enumerate(pairs)),
            C=decoder.hidden.shape[0],
            H=decoder.hidden.shape[1],
            F=colours,
            BLOCK=setting.block,
            PRODUCT=setting.product,
            num_warps=setting.warps,
            enable_fp_fusion=True,
        )

    shaded(0, coarse)
    draw[(rays,)](
        raw,
        depths,
        order,
        raw if draws is None else draws.contiguous(),
        0 if draws is None or len(draws) == 1 else fine,
        coarse,
        fine,
        DRAWN=draws is not None,
        LEAST=FLOOR + SMALLEST,
        NARROW=SMALLEST,
        FAR=FAR,
        S=triton.next_power_of_2(coarse),
        N=triton.next_power_of_2(fine),
        num_warps=1,
        enable_fp_fusion=True,
    )
    shaded(coarse, fine)
    summed, rest = first.new_empty(rays, colours), first.new_empty(4, rays)
    mix[(rays,)](
        raw,
        depths,
        order,
        shown,
        summed,
        rest,
        rays,
        samples,
        F=colours,
        S=triton.next_power_of_2(samples),
        num_warps=setting.ray_warps,
        enable_fp_fusion=True,
    )
    return Marched(summed, *rest)
