"""One layer of one subject on an accelerator: few steps, as each that is started has its price, and channels first.

Measured on an H200: convolutions take the same either way, filters and sums over pictures a quarter of the time with
channels first. ``folded.FoldedConv`` is its counterpart on a CPU, ``layers.ModulatedConv`` the plain twin of both.
Source: Karras et al. 2020 (StyleGAN2), equations 1 to 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.models.layers import GAIN, SLOPE, ModulatedConv, blur_kernel, constant


@dataclass(frozen=True)
class DeviceConv:
    """A layer with the style in its weights."""

    weight: Tensor
    """(outputs, inputs, K, K); of enlarging ones (inputs, outputs, K, K)."""
    bias: Tensor
    """(outputs,)."""
    noise: Tensor | None
    """(H, W), added before the ReLU and its gain."""
    up: bool
    plain: bool
    clamp: float

    def __call__(self, x: Tensor) -> Tensor:
        """(1, inputs, H, W) -> (1, outputs, H', W')."""
        if self.weight.shape[-1] == 1:
            return self._mixed(x)
        if self.up:
            x = smoothed(F.conv_transpose2d(x, self.weight, stride=2)).add_(self.bias[:, None, None])
        else:
            x = F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        if self.noise is not None:
            x.add_(self.noise, alpha=GAIN)
        return self._held(x if self.plain else F.leaky_relu_(x, SLOPE))

    def _mixed(self, x: Tensor) -> Tensor:
        """One product for all pixels."""
        flat = torch.addmm(self.bias[:, None], self.weight[:, :, 0, 0], x[0].flatten(1))
        return self._held(flat.view(1, -1, *x.shape[2:]))

    def _held(self, x: Tensor) -> Tensor:
        return x if math.isinf(self.clamp) else x.clamp_(-self.clamp, self.clamp)


def smoothed(x: Tensor) -> Tensor:
    """The filter behind an enlarging convolution: (1, C, H + 1, W + 1) -> (1, C, H, W), each channel a picture."""
    return F.conv2d(x.transpose(0, 1), blur_kernel(4.0, x)[None, None], padding=1).transpose(0, 1)


def device_conv(layer: ModulatedConv, w: Tensor, dtype: torch.dtype, clamp: float = math.inf) -> DeviceConv:
    """A layer with the style w (1, w_dim) in its weights."""
    affine, gain = layer.affine, layer.gain if layer.plain else 1.0
    style = torch.addmm(affine.bias, w, affine.weight.T, beta=affine.lr * gain, alpha=affine.gain * gain)
    weight, noise = layer.weight * style[:, :, None, None], None
    bias: Tensor = layer.bias
    if not layer.plain:
        # The inverse of the norm, times the ReLU's gain.
        norm = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
        floor = constant(layer.floor / GAIN**2, norm.dtype, norm.device)
        weight.mul_(torch.addcmul(floor, norm, norm, value=1 / GAIN**2).rsqrt_())
        bias = bias * GAIN
        noise = (layer.noise_const * layer.noise_strength).to(dtype) if layer.noise else None
    weight = weight.to(dtype)
    if layer.up:
        weight = weight.transpose(0, 1).contiguous()
    return DeviceConv(weight, bias.to(dtype), noise, layer.up, layer.plain, clamp)
