"""Triton's kernels for the rays of an imported generator, in the order in which ``fused_march.py`` calls them.

    shade   places samples, looks up the planes, decodes: raw density and colour; nothing in between reaches memory
    draw    one ray: weights of the coarse pass -> depths of the fine one, and the order of all its samples
    mix     one ray: marches its samples in that order, sums up their colours

``ray_field.march_rays`` is the plain twin, which says what the steps mean; ``native.cpp`` is the counterpart on a CPU.
Source: EG3D (Chan et al., CVPR 2022), section 4.1 and supplement.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def shade(
    table: tl.tensor,
    origin: tl.tensor,
    direction: tl.tensor,
    depths: tl.tensor,
    hidden: tl.tensor,
    hidden_bias: tl.tensor,
    output: tl.tensor,
    output_bias: tl.tensor,
    raw: tl.tensor,
    shown: tl.tensor,
    points: tl.tensor,
    count: tl.tensor,
    begin: tl.tensor,
    samples: tl.tensor,
    scale: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    PLANES: tl.constexpr,
    AXES: tl.constexpr,
    C: tl.constexpr,
    H: tl.constexpr,
    F: tl.constexpr,
    BLOCK: tl.constexpr,
    PRODUCT: tl.constexpr,
) -> None:
    """``count`` samples of each ray, from number ``begin`` of its ``samples`` on."""
    point = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = point < points
    ray = point // count
    row = ray * samples + begin + point % count
    depth = tl.load(depths + row, mask=live, other=0.0)
    channel = tl.arange(0, C)
    features = tl.zeros((BLOCK, C), tl.float32)
    for k in tl.static_range(PLANES):
        along, across = (AXES >> (4 * k + 2)) & 3, (AXES >> (4 * k)) & 3
        left, u = _cell(origin, direction, ray, along, depth, live, scale, width)
        top, v = _cell(origin, direction, ray, across, depth, live, scale, height)
        texel = ((k * (height + 2) + top) * (width + 2) + left)[:, None] * C + channel[None, :]
        both = u * v
        features += (1.0 - u - v + both)[:, None] * tl.load(table + texel)
        features += (u - both)[:, None] * tl.load(table + texel + C)
        features += (v - both)[:, None] * tl.load(table + texel + (width + 2) * C)
        features += both[:, None] * tl.load(table + texel + (width + 3) * C)
    unit, colour = tl.arange(0, H), tl.arange(0, F)
    weights = tl.load(hidden + channel[:, None] * H + unit[None, :])
    layer = tl.dot(features, weights, input_precision=PRODUCT) + tl.load(hidden_bias + unit)[None, :]
    layer = _softplus(layer)
    density = tl.load(output + unit * (1 + F))
    tl.store(raw + row, tl.sum(layer * density[None, :], 1) + tl.load(output_bias), mask=live)
    weights = tl.load(output + unit[:, None] * (1 + F) + 1 + colour[None, :])
    light = tl.dot(layer, weights, input_precision=PRODUCT) + tl.load(output_bias + 1 + colour)[None, :]
    light = 1.0 / (1.0 + tl.exp(-light))
    tl.store(shown + row[:, None] * F + colour[None, :], light, mask=live[:, None])


@triton.jit
def _cell(
    origin: tl.tensor,
    direction: tl.tensor,
    ray: tl.tensor,
    axis: tl.constexpr,
    depth: tl.tensor,
    live: tl.tensor,
    scale: tl.tensor,
    size: tl.tensor,
) -> tuple[tl.tensor, tl.tensor]:
    """Texel before a sample along one axis of a plane, counted with its frame, and how far the sample lies behind."""
    start = tl.load(origin + 3 * ray + axis, mask=live, other=0.0)
    step = tl.load(direction + 3 * ray + axis, mask=live, other=0.0)
    place = ((start + step * depth) * scale + 1.0) * (size * 0.5) + 0.5
    place = tl.minimum(tl.maximum(place, 0.0), size + 1.0)
    cell = tl.minimum(place.to(tl.int32), size)
    return cell, place - cell.to(tl.float32)


@triton.jit
def _softplus(x: tl.tensor) -> tl.tensor:
    """log(1 + exp(x)), relative error some 1e-7: beside x there is a polynomial of exp(-|x|), as in ``native.cpp``."""
    e = tl.exp(-tl.abs(x))
    y = e * 5.1261021234e-03 - 2.9074064607e-02
    y = y * e + 7.7516086624e-02
    y = y * e - 1.3602247612e-01
    y = y * e + 1.9076880731e-01
    y = y * e - 2.4835398987e-01
    y = y * e + 3.3318121707e-01
    y = y * e - 4.9999444976e-01
    y = y * e + 9.9999996593e-01
    return tl.maximum(x, 0.0) + y * e


@triton.jit
def _absorbed(raw: tl.tensor, raw_behind: tl.tensor, step: tl.tensor) -> tl.tensor:
    """Share of the light that an interval takes. Exact where it takes next to nothing, as 1 - exp is not."""
    depth = _softplus((raw_behind + raw) / 2 - 1.0) * step
    series = depth * (1.0 - depth * (0.5 - depth * (1 / 6 - depth * (1 / 24 - depth / 120))))
    return tl.where(depth < 0.05, series, 1.0 - tl.exp(-depth))


@triton.jit
def draw(
    raw: tl.tensor,
    depths: tl.tensor,
    order: tl.tensor,
    draws: tl.tensor,
    draws_step: tl.tensor,
    coarse: tl.tensor,
    fine: tl.tensor,
    DRAWN: tl.constexpr,
    LEAST: tl.constexpr,
    NARROW: tl.constexpr,
    FAR: tl.constexpr,
    S: tl.constexpr,
    N: tl.constexpr,
) -> None:
    """Depths of the fine pass, see ``published_rays.fine_depths``; coarse ones increase."""
    ray = tl.program_id(0)
    raw += ray * (coarse + fine)
    depths += ray * (coarse + fine)
    order += ray * (coarse + fine)
    k = tl.arange(0, S)
    # Of the interval behind sample k - 1, and of what is left in front of sample k.
    inside = (k > 0) & (k < coarse)
    lost = _absorbed(
        tl.load(raw + k - 1, mask=inside, other=0.0),
        tl.load(raw + k, mask=inside, other=0.0),
        tl.load(depths + k, mask=inside, other=0.0) - tl.load(depths + k - 1, mask=inside, other=0.0),
    )
    left = tl.cumprod(tl.where(inside, 1.0 - lost + 1e-10, 1.0), 0)
    weight = tl.where(inside, lost * tl.gather(left, tl.maximum(k - 1, 0), 0), 0.0)
    # Weight k lies in front of sample k; the first and the last are only looked at.
    bins = coarse - 3
    second = tl.gather(weight, tl.minimum(k + 1, S - 1), 0)
    third = tl.gather(weight, tl.minimum(k + 2, S - 1), 0)
    inner = (tl.maximum(weight, second) + tl.maximum(second, third)) / 2 + LEAST
    # The bin that ends at edge k.
    inner = tl.where((k > 0) & (k <= bins), inner, 0.0)
    cdf = tl.cumsum(inner / tl.sum(inner, 0), 0)
    n = tl.arange(0, N)
    wanted = n < fine
    u = (n + 0.5) / fine
    if DRAWN:
        u = tl.load(draws + ray * draws_step + n, mask=wanted, other=0.0)
    passed = (cdf[None, :] <= u[:, None]) & (k <= bins)[None, :]
    upper = tl.sum(passed.to(tl.int32), 1)
    lower = tl.maximum(upper - 1, 0)
    upper = tl.minimum(upper, bins)
    low, high = tl.gather(cdf, lower, 0), tl.gather(cdf, upper, 0)
    wide = tl.where(high - low < NARROW, 1.0, high - low)
    start = (tl.load(depths + lower + 1, mask=wanted) + tl.load(depths + lower, mask=wanted)) / 2
    end = (tl.load(depths + upper + 1, mask=wanted) + tl.load(depths + upper, mask=wanted)) / 2
    found = start + (u - low) / wide * (end - start)
    tl.store(depths + coarse + n, found, mask=wanted)
    # How many samples lie in front of each.
    first = tl.load(depths + k, mask=k < coarse, other=FAR)
    found = tl.where(wanted, found, FAR)
    behind = found[:, None] < first[None, :]
    in_front = (found[None, :] < found[:, None]) | ((found[None, :] == found[:, None]) & (n[None, :] < n[:, None]))
    place = k + tl.sum(behind.to(tl.int32), 0)
    tl.store(order + place, k, mask=k < coarse)
    place = coarse - tl.sum((behind & (k < coarse)[None, :]).to(tl.int32), 1) + tl.sum(in_front.to(tl.int32), 1)
    tl.store(order + place, coarse + n, mask=wanted)


@triton.jit
def mix(
    raw: tl.tensor,
    depths: tl.tensor,
    order: tl.tensor,
    shown: tl.tensor,
    mix: tl.tensor,
    rest: tl.tensor,
    rays: tl.tensor,
    samples: tl.tensor,
    F: tl.constexpr,
    S: tl.constexpr,
) -> None:
    """Colours by their shares, sum of the shares, depth, first and last depth of one ray."""
    ray = tl.program_id(0)
    k = tl.arange(0, S)
    real, inside, begin = k < samples, k < samples - 1, ray * samples
    here = begin + tl.load(order + begin + k, mask=real, other=0)
    behind = begin + tl.load(order + begin + k + 1, mask=inside, other=0)
    near, far = tl.load(depths + here), tl.load(depths + behind)
    lost = _absorbed(tl.load(raw + here), tl.load(raw + behind), tl.where(inside, far - near, 0.0))
    left = tl.cumprod(tl.where(inside, 1.0 - lost + 1e-10, 1.0), 0)
    before = tl.where(k > 0, tl.gather(left, tl.maximum(k - 1, 0), 0), 1.0)
    weight = tl.where(inside, lost * before, 0.0)
    seen = tl.sum(weight, 0)
    total = tl.sum(weight * (near + far) / 2, 0)
    # A sample has half of the interval behind it, and half of the one in front.
    in_front = tl.where(k > 0, tl.gather(weight, tl.maximum(k - 1, 0), 0), 0.0)
    share = tl.where(real, (weight + in_front) / 2, 0.0)
    colour = tl.arange(0, F)
    light = tl.load(shown + here[:, None] * F + colour[None, :])
    tl.store(mix + ray * F + colour, tl.sum(light * share[:, None], 0))
    tl.store(rest + ray, seen)
    tl.store(rest + rays + ray, tl.where(seen > 0, total / seen, float("inf")))
    tl.store(rest + 2 * rays + ray, tl.min(tl.where(real, near, float("inf")), 0))
    tl.store(rest + 3 * rays + ray, tl.max(tl.where(real, near, -float("inf")), 0))
