"""Building blocks of StyleGAN2-type networks in plain torch.

Source: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (CVPR 2020), sections 2-4 and the
equalised learning rate of Karras et al. 2018. Written from the papers.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.2
GAIN = math.sqrt(2.0)
"""Keeps the variance after a leaky ReLU of that slope close to one."""
LARGE = 80.0
"""exp of it is still a float32."""
BLUR = (1.0, 3.0, 3.0, 1.0)
MANY = 1 << 20
"""Points that an accelerator takes at a time: all samples of a picture of 128 x 128 rays, some hundred MB."""


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU with its gain."""
    return F.leaky_relu(x, SLOPE) * GAIN


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)); where no gradient is wanted on a CPU by quicker steps that overwrite x (1e-7 of 1 + x)."""
    if x.requires_grad or x.device.type != "cpu" or x.dtype != torch.float32:
        return F.softplus(x)
    soft = x.clamp(max=LARGE).exp_().add_(1).log_()
    return torch.maximum(soft, x, out=x)


def at_once(like: Tensor, on_cpu: int) -> int:
    """How many points to take at a time where ``like`` lies: what a CPU's cache holds, or ``MANY``, as each step that
    is started on an accelerator has its price, however small it is."""
    return on_cpu if like.device.type == "cpu" else MANY


def blur_kernel(gain: float, like: Tensor) -> Tensor:
    """Separable binomial filter (4, 4) that sums to ``gain``."""
    return _blur(gain, like.dtype, like.device)


@cache
def _blur(gain: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Kept, as an accelerator would wait for the numbers each time; and usable with gradients, whoever asks first.
    with torch.inference_mode(False):
        taps = torch.tensor(BLUR, dtype=dtype, device=device)
        kernel = taps[:, None] * taps[None]
        return kernel * (gain / kernel.sum())


@cache
def constant(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number that lies on a device, kept like the filter above."""
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


def upsample(x: Tensor) -> Tensor:
    """Doubles (N, C, H, W) by zero insertion and the binomial filter."""
    channels = x.shape[1]
    kernel = blur_kernel(4.0, x).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


class Linear(nn.Module):
    """Fully connected layer with equalised learning rate: weights are stored at unit variance over ``lr``."""

    def __init__(self, inputs: int, outputs: int, lr: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr))
        self.gain, self.lr = lr / math.sqrt(inputs), lr

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.gain, self.bias * self.lr)


class ModulatedConv(nn.Module):
    """Convolution whose input channels are scaled by a style and whose output is renormalised (equations 1 to 3).

    The style scales the input and the norm divides the output, which equals modulating the weights but needs no
    grouped convolution. Noise is a fixed map times a learned strength, as at inference in the published networks.
    ``floor`` is added to the squared norm of the weights as they are stored, before their gain. ``folded`` modulates
    the weights all the same, picture by picture: equal up to rounding, and rounded as the published networks are.
    """

    noise_const: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        w_dim: int,
        size: int,
        kernel: int = 3,
        up: bool = False,
        plain: bool = False,
        noise: bool = True,
        floor: float = 1e-8,
        folded: bool = False,
    ):
        super().__init__()
        self.affine = Linear(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.gain, self.up, self.plain, self.pad = 1 / math.sqrt(inputs * kernel * kernel), up, plain, kernel // 2
        self.noise, self.floor, self.folded = noise and not plain, floor, folded
        if self.noise:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise_const", torch.randn(size, size))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """(N, inputs, H, W) and styles (N, w_dim) -> (N, outputs, H', W'); plain ones have no norm, noise or ReLU.

        ``noise`` (N or 1, 1, H', W') takes the place of the layer's own.
        """
        style = self.affine(w)
        if self.folded:
            x = self._folded(x, style)
            return x + self.bias[:, None, None].to(x.dtype) if self.plain else self._finished(x, noise)
        if self.plain:
            x = x * (style * self.gain)[:, :, None, None].to(x.dtype)
            return F.conv2d(x, self.weight.to(x.dtype), padding=self.pad) + self.bias[:, None, None].to(x.dtype)
        norm = torch.rsqrt(style.square() @ self.weight.square().sum((2, 3)).T + self.floor)
        x = x * style[:, :, None, None].to(x.dtype)
        x = self._convolved(x, self.weight.to(x.dtype))
        return self._finished(x * norm[:, :, None, None].to(x.dtype), noise)

    def _folded(self, x: Tensor, style: Tensor) -> Tensor:
        """(N, inputs, H, W) and scales (N, inputs) -> (N, outputs, H', W'), each picture with weights of its own."""
        weight = self.weight * (style * self.gain if self.plain else style)[:, None, :, None, None]
        if not self.plain:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4)) + self.floor)[:, :, None, None, None]
        each = zip(x.split(1), weight.to(x.dtype), strict=True)
        return torch.cat([self._convolved(one, own) for one, own in each])

    def _convolved(self, x: Tensor, weight: Tensor) -> Tensor:
        if not self.up:
            return F.conv2d(x, weight, padding=self.pad)
        x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        kernel = blur_kernel(4.0, x).expand(x.shape[1], 1, 4, 4)
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), kernel, groups=x.shape[1])

    def _finished(self, x: Tensor, noise: Tensor | None) -> Tensor:
        if self.noise:
            own = self.noise_const if noise is None else noise
            x = x + (own * self.noise_strength).to(x.dtype)
        return activate(x + self.bias[:, None, None].to(x.dtype))
