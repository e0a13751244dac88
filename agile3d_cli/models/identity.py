"""Who is it: the 128 numbers that dlib's face recognition network gives a face, differentiable.

Network and weights: Davis E. King's dlib face recognition ResNet (29 layers, CC0), 8-bit copy from @vladmandic/face-api
1.7.15 (MIT). Source: He et al., Deep residual learning, 2015, with dlib's choices named below. Distances are Euclidean;
below about 0.57 two pictures show one person. Measured on 102 people, neutral against smiling: 0.22 for one person,
0.82 for two. ``tools/convert_identity.py`` makes the file.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

CHIP = 150
"""Side of the network's input, pixels."""
SAME_PERSON = 0.57
"""Largest distance between two pictures of one person, measured as the best threshold on 227 pairs."""
CHIP_POINTS = ((47.0, 55.0), (103.0, 55.0), (75.0, 115.0))
"""Where the eye centres and the middle of the mouth lie in the chip, pixels."""
MEAN = (122.782, 117.001, 104.298)
"""Mean colour that the network subtracts, in [0, 255]."""
BLOCKS = (
    ("32_1", 32, 32), ("32_2", 32, 32), ("32_3", 32, 32), ("64_down", 32, 64), ("64_1", 64, 64), ("64_2", 64, 64),
    ("64_3", 64, 64), ("128_down", 64, 128), ("128_1", 128, 128), ("128_2", 128, 128), ("256_down", 128, 256),
    ("256_1", 256, 256), ("256_2", 256, 256), ("256_down_out", 256, 256),
)  # fmt: skip
"""Name, channels in and channels out of each residual block; names with "down" halve the picture."""


def identity_network(device: torch.device | str = "cpu") -> IdentityNetwork:
    """The shipped network, read once per process and device, without gradients to its weights."""
    return _load(str(torch.device(device)))


@cache
def _load(device: str) -> IdentityNetwork:
    with as_file(files("agile3d_cli") / "assets" / "identity.safetensors") as path:
        packed = load_file(path)
    state = {
        name: values
        if values.dtype != torch.uint8
        else values.float() * packed[f"{name}:scale"] + packed[f"{name}:low"]
        for name, values in packed.items()
        if not name.endswith((":scale", ":low"))
    }
    network = IdentityNetwork()
    network.load_state_dict({name: values.float() for name, values in state.items()})
    return network.to(device).eval().requires_grad_(False)


def embed(chips: Tensor) -> Tensor:
    """Embeddings (N, 128) of face chips (N, 3, 150, 150) in [-1, 1]; see ``cut_chips``."""
    embedding: Tensor = identity_network(chips.device)(chips)
    return embedding


def embed_faces(images: Tensor, five: Tensor) -> Tensor:
    """Embeddings (N, 128) of faces in pictures (N, 3, H, W) with known five points (N, 5, 2); see ``cut_chips``."""
    return embed(cut_chips(images, five))


def identity_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of embeddings (N, 128), (N,)."""
    return (a - b).norm(dim=-1)


def cut_chips(images: Tensor, five: Tensor) -> Tensor:
    """Face chips by a similarity through eyes and mouth; gradients reach the images.

    Args:
        images: (N, 3, H, W) in [-1, 1].
        five: (N, 5, 2) eye, eye, nose tip, mouth corner, mouth corner as fractions of the picture (u right, v down).

    Returns:
        (N, 3, 150, 150) in [-1, 1].
    """
    height, width = images.shape[-2:]
    pixels = five[..., :2].double() * torch.tensor([width, height], dtype=torch.float64, device=five.device)
    seen = torch.stack([pixels[:, 0], pixels[:, 1], pixels[:, 3:5].mean(1)], 1)
    chip = torch.tensor(CHIP_POINTS, dtype=torch.float64, device=five.device)
    matrix = _similarity(chip.expand_as(seen), seen)
    centres = torch.arange(CHIP, dtype=torch.float64, device=five.device) + 0.5
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    place = torch.stack([u, v, torch.ones_like(u)], -1) @ matrix.transpose(1, 2)[:, None]
    # One sample per chip pixel is too few where the picture is much larger; soften it first by that factor.
    step = float(torch.linalg.det(matrix[:, :, :2]).clamp(min=1e-12).sqrt().mean())
    if step > 1.5:
        size = (max(1, round(height / step)), max(1, round(width / step)))
        images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
    grid = place / torch.tensor([width, height], dtype=torch.float64, device=five.device) * 2 - 1
    return F.grid_sample(images, grid.to(images.dtype), "bilinear", "border", align_corners=False)


def _similarity(source: Tensor, target: Tensor) -> Tensor:
    """(N, 2, 3) least-squares similarity from points ``source`` (N, P, 2) to ``target`` (N, P, 2)."""
    source_mean, target_mean = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    s, t = source - source_mean, target - target_mean
    norm = (s**2).sum((1, 2))
    real = (s * t).sum((1, 2)) / norm
    imaginary = (s[..., 0] * t[..., 1] - s[..., 1] * t[..., 0]).sum(1) / norm
    linear = torch.stack([torch.stack([real, -imaginary], -1), torch.stack([imaginary, real], -1)], 1)
    return torch.cat([linear, (target_mean - source_mean @ linear.transpose(1, 2)).transpose(1, 2)], -1)


class IdentityNetwork(nn.Module):
    """Chips (N, 3, 150, 150) in [-1, 1] to embeddings (N, 128)."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = ScaledConvolution(3, 32, kernel=7, stride=2)
        self.blocks = nn.ModuleList(Residual(cin, cout, "down" in name) for name, cin, cout in BLOCKS)
        self.last = nn.Linear(256, 128, bias=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        x = ((chips + 1) * 127.5 - self.mean) / 255
        x = F.max_pool2d(F.relu(self.first(x)), 3, 2)
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.last(x.mean((2, 3)))
        return embedding


class ScaledConvolution(nn.Module):
    """Convolution, then a factor and an offset per channel; a stride of 2 goes without padding."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding=0 if stride == 2 else 1)
        self.scale = nn.Parameter(torch.ones(channels_out))
        self.offset = nn.Parameter(torch.zeros(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) * self.scale[:, None, None] + self.offset[:, None, None]
        return y


class Residual(nn.Module):
    """Two convolutions beside a shortcut. On the way down the shortcut is averaged and widened with zeros."""

    def __init__(self, channels_in: int, channels_out: int, down: bool) -> None:
        super().__init__()
        self.down = down
        self.first = ScaledConvolution(channels_in, channels_out, stride=2 if down else 1)
        self.second = ScaledConvolution(channels_out, channels_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x)))
        if self.down:
            x = F.avg_pool2d(x, 2, 2)
            # The convolution path may come out one row and column short: dlib fills with zeros.
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.relu(x + y)
