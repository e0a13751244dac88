"""Convolutions of one subject: styles, norms and gains multiplied into plain weights, once, for all of its pictures.

What is left of a layer is a convolution with a bias and a leaky ReLU in place. The gain of the ReLU is in weights, bias
and noise too, as it passes through. Pictures lie channels last, which a CPU's convolutions want, and the filter behind
an enlarging convolution is one of its own for each channel. Accelerators want neither: ``folded`` gives them layers of
``device_conv.py``, and ``_layout`` their pictures. ``layers.ModulatedConv`` is the plain twin.
Source: Karras et al. 2020 (StyleGAN2), equations 1 to 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.backbone import Backbone, Block
from agile3d_cli.models.device_conv import DeviceConv, device_conv
from agile3d_cli.models.layers import GAIN, SLOPE, ModulatedConv, blur_kernel, upsample
from agile3d_cli.models.precision import multiplied
from agile3d_cli.models.superresolution import EnlargeBlock, Superresolution
from agile3d_cli.models.winograd import TiledWeight, tiled_conv, tiled_weight

LARGE = 64
"""Pixels along a side of the backbone's pictures from which on tiles pay."""
LAST = torch.channels_last
STRIP = 1 << 22
"""Numbers that an enlarging convolution makes at a time, 16 MB: a CPU has them still at hand when they are smoothed."""
Smooth = Callable[[Tensor, Tensor, Tensor | None, float, Tensor], None]
"""As ``smooth``, or compiled, see ``native.py``."""


@dataclass(frozen=True)
class FoldedConv:
    """A layer of one subject on a CPU."""

    weight: Tensor | TiledWeight
    """(outputs, inputs, K, K); of enlarging ones (inputs, outputs, K, K)."""
    bias: Tensor
    """(outputs,)."""
    noise: Tensor | None
    """(1, 1, H, W), added before the ReLU."""
    up: bool
    plain: bool
    clamp: float
    smooth: Smooth

    def __call__(self, x: Tensor) -> Tensor:
        """(1, inputs, H, W) -> (1, outputs, H', W')."""
        if isinstance(self.weight, TiledWeight):
            return tiled_conv(x, self.weight, self.bias, self.noise, SLOPE, self.clamp)
        if self.up:
            return self._enlarged(x)
        if self.weight.shape[-1] == 1:
            x = F.linear(x.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        return _finished(x, self.noise, 1.0 if self.plain else SLOPE, self.clamp)

    def _enlarged(self, x: Tensor) -> Tensor:
        """(1, inputs, H, W) -> (1, outputs, 2 H, 2 W), some rows at a time."""
        assert isinstance(self.weight, Tensor)
        outputs, (height, width) = self.weight.shape[1], x.shape[2:]
        found = x.new_empty(1, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)
        rows = max(1, STRIP // (2 * (2 * width + 1) * outputs))
        for top in range(0, height, rows):
            end = min(height, top + rows)
            # The filter sees one row more on both sides; outside there are zeros.
            strip = F.pad(x[:, :, max(0, top - 1) : end + 1], (0, 0, int(top == 0), int(end == height)))
            strip = F.conv_transpose2d(strip, self.weight, stride=2, padding=(1, 0))
            part = slice(2 * top, 2 * end)
            noise = None if self.noise is None else self.noise[:, :, part]
            self.smooth(strip, self.bias, noise, self.clamp, found[:, :, part])
        return found


def smooth(x: Tensor, bias: Tensor, noise: Tensor | None, clamp: float, found: Tensor) -> None:
    """What follows an enlarging convolution: (1, C, H + 3, W + 1), zeros at the sides, to ``found`` (1, C, H, W)."""
    kernel = blur_kernel(4.0, x).expand(x.shape[1], 1, 4, 4)
    smoothed = F.conv2d(x, kernel, bias, padding=(0, 1), groups=x.shape[1])
    torch.clamp(_finished(smoothed, noise, SLOPE, math.inf), -clamp, clamp, out=found)


def _finished(x: Tensor, noise: Tensor | None, slope: float, clamp: float) -> Tensor:
    if noise is not None:
        x += noise
    if slope != 1:
        F.leaky_relu_(x, slope)
    return x if math.isinf(clamp) else x.clamp_(-clamp, clamp)


Conv = FoldedConv | DeviceConv


@dataclass(frozen=True)
class FoldedBlock:
    """One resolution: convolutions, and the output that is added to the image so far."""

    convs: tuple[Conv, ...]
    output: Conv

    def __call__(self, x: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor]:
        """Features (1, C, H, W) and image (1, I, H, W) -> both at the block's size, the image in single precision."""
        for conv in self.convs:
            x = conv(x)
        shown = self.output(x).float()
        if image is None:
            return x, shown
        return x, shown.add_(upsample(image) if self.convs[0].up else image)


def folded(
    layer: ModulatedConv,
    w: Tensor,
    dtype: torch.dtype,
    clamp: float = math.inf,
    tile: int = 0,
    smooth: Smooth = smooth,
) -> Conv:
    """A layer with the style w (1, w_dim) in its weights; ``tile`` lets it work in tiles, see ``winograd.py``."""
    if w.device.type != "cpu":
        return device_conv(layer, w, dtype, clamp)
    style = layer.affine(w)[0]
    if layer.plain:
        scale, gain = style[None] * layer.gain, 1.0
    else:
        scale, gain = style[None] * _norms(layer.weight, style, layer.floor)[:, None], GAIN
    scale = scale * gain
    noise = (layer.noise_const * (layer.noise_strength * gain)).to(dtype)[None, None] if layer.noise else None
    bias = (layer.bias * gain).to(dtype)
    if tile and dtype == torch.float32 and not (layer.up or layer.plain):
        weight = _turned(layer.weight, scale).permute(3, 0, 1, 2)
        return FoldedConv(tiled_weight(weight, tile), bias, noise, False, False, clamp, smooth)
    if layer.up:
        weight = _turned(layer.weight, scale).permute(0, 3, 1, 2)
    else:
        weight = torch.empty_like(layer.weight, memory_format=LAST)
        torch.mul(layer.weight, scale[:, :, None, None], out=weight)
    weight = weight.to(dtype).contiguous(memory_format=LAST)
    return FoldedConv(weight, bias, noise, layer.up, layer.plain, clamp, smooth)


def _turned(weight: Tensor, scale: Tensor) -> Tensor:
    """(outputs, inputs, K, K) times (outputs, inputs) as (inputs, K, K, outputs): quickest as one matrix."""
    outputs, inputs, height, width = weight.shape
    turned = weight.flatten(1).t().contiguous().view(inputs, height, width, outputs)
    return turned.mul_(scale.t().contiguous()[:, None, None])


def _norms(weight: Tensor, style: Tensor, floor: float) -> Tensor:
    """What each output of (outputs, inputs, K, K) with inputs times ``style`` is multiplied by."""
    each = style.square().repeat_interleave(weight[0, 0].numel())
    return torch.rsqrt(weight.flatten(1).square() @ each + floor)


def folded_planes(
    backbone: Backbone,
    ws: Tensor,
    dtype: torch.dtype = torch.float32,
    smooth: Smooth = smooth,
    tf32: bool = False,
) -> Tensor:
    """``Backbone.forward`` of one subject's styles (1, num_ws, w_dim); folded weights are dropped block by block.

    On a CPU the planes lie channels last, as ``merged.py`` wants them. ``tf32``: see ``precision.py``.
    """
    with multiplied(ws.device, tf32):
        _, image = _run(_backbone_blocks(backbone, ws, dtype, smooth), _entry(backbone, dtype), None)
    assert image is not None
    if backbone.mean_planes is not None:
        image += backbone.mean_planes.flatten(0, 1).to(image)
    return image.unflatten(1, (3, -1))


def _entry(backbone: Backbone, dtype: torch.dtype) -> Tensor:
    first = backbone.blocks[0]
    assert isinstance(first, Block)
    return first.const[None].to(dtype).contiguous(memory_format=_layout(first.const))


def _layout(like: Tensor) -> torch.memory_format:
    """How pictures lie on the device of ``like``."""
    return LAST if like.device.type == "cpu" else torch.contiguous_format


def _backbone_blocks(backbone: Backbone, ws: Tensor, dtype: torch.dtype, smooth: Smooth) -> Iterator[FoldedBlock]:
    c = backbone.config
    assert not (c.bank.shares or c.tinted or c.mean_planes or c.bias_maps), "imported networks have none of these"
    used = 0
    for block in backbone.blocks:
        assert isinstance(block, Block)
        layers = [block.conv1] if block.resolution == 4 else [block.conv0, block.conv1]
        # Small tiles, as rounding is seen where density rises steeply; small pictures do not pay for their weights.
        tile = 2 if block.resolution >= LARGE else 0
        convs = tuple(folded(layer, ws[:, used + k], dtype, tile=tile, smooth=smooth) for k, layer in enumerate(layers))
        used += len(layers)
        yield FoldedBlock(convs, folded(block.output, ws[:, used], dtype))


def superresolution_blocks(
    network: Superresolution, ws: Tensor, dtype: torch.dtype, smooth: Smooth = smooth
) -> tuple[FoldedBlock, ...]:
    """The blocks of one subject's styles (1, num_ws, w_dim)."""
    w, blocks = ws[:, -1], []
    for block in network.blocks:
        assert isinstance(block, EnlargeBlock)
        layers = (block.conv0, block.conv1)
        convs = tuple(folded(layer, w, dtype, block.clamp, tile=4, smooth=smooth) for layer in layers)
        blocks.append(FoldedBlock(convs, folded(block.output, w, dtype, block.clamp)))
    return tuple(blocks)


def enlarged_view(
    blocks: Iterable[FoldedBlock], features: Tensor, entry: int, dtype: torch.dtype, tf32: bool = False
) -> Tensor:
    """``Superresolution.forward`` of one picture (1, F, R, R). ``tf32``: see ``precision.py``."""
    if features.shape[-1] != entry:
        features = F.interpolate(features, (entry, entry), mode="bilinear", align_corners=False, antialias=True)
    # A copy: layers may overwrite what they are given.
    x = features.to(dtype).clone(memory_format=_layout(features))
    with multiplied(features.device, tf32):
        _, image = _run(blocks, x, features[:, :3])
    assert image is not None
    return image.contiguous()


def _run(blocks: Iterable[FoldedBlock], x: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
    for block in blocks:
        x, image = block(x, image)
    return x, image
