"""The work of a view and of a surface as a general program does it that follows EG3D's description: the yardstick.

Each operation is a pass of its own: convolutions of each picture's weights in groups with channels first, filters over
pictures with zeros put between their pixels, bias, ReLU, gain and clamp one after another, three look-ups and their
mean, all samples of all rays at once, colours carried along when depths are sorted, and the backbone anew for every
view and for every million points of a surface. Same results as ours. Written from the paper and from a profile of where
the reference program spends its time (docs/import.md).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from skimage import measure
from torch import Tensor

from agile3d_cli.models.backbone import Block
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.layers import GAIN, SLOPE, ModulatedConv, blur_kernel
from agile3d_cli.models.published_rays import coarse_depths, fine_depths, rays
from agile3d_cli.models.superresolution import EnlargeBlock
from agile3d_cli.models.texels import AXES
from agile3d_cli.models.triplane import Decoder

BATCH = 1_000_000
"""Points of a surface that are asked at a time, each time with the backbone anew."""


def planes_of(generator: TriplaneGenerator, ws: Tensor) -> Tensor:
    """(1, 3, C, S, S)."""
    x, image, used = None, None, 0
    for block in generator.backbone.blocks:
        assert isinstance(block, Block)
        if block.resolution == 4:
            x = block.const[None].repeat(len(ws), 1, 1, 1)
        else:
            assert x is not None
            x = _layer(block.conv0, x, ws[:, used])
            used += 1
        x = _layer(block.conv1, x, ws[:, used])
        used += 1
        shown = _layer(block.output, x, ws[:, used])
        image = shown if image is None else _doubled(image).add_(shown)
    assert image is not None
    return image.unflatten(1, (3, -1))


def enlarged(generator: TriplaneGenerator, rendered: Tensor, ws: Tensor) -> Tensor:
    """(1, 3, S, S) of what was rendered."""
    w, entry = ws[:, -1], generator.config.superresolution.entry
    x = rendered
    if rendered.shape[-1] != entry:
        x = F.interpolate(rendered, (entry, entry), mode="bilinear", align_corners=False, antialias=True)
    image = x[:, :3]
    for block in generator.superresolution.blocks:
        assert isinstance(block, EnlargeBlock)
        x = _layer(block.conv1, _layer(block.conv0, x, w, block.clamp), w, block.clamp)
        image = _doubled(image) if block.up else image
        image = image + _layer(block.output, x, w, block.clamp)
    return image


def _layer(layer: ModulatedConv, x: Tensor, w: Tensor, clamp: float = math.inf) -> Tensor:
    n, style = len(x), layer.affine(w)
    weight = layer.weight[None] * (style * layer.gain if layer.plain else style)[:, None, :, None, None]
    if not layer.plain:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4)) + layer.floor)[:, :, None, None, None]
    x = x.reshape(1, -1, *x.shape[2:])
    if layer.up:
        own = weight.transpose(1, 2).reshape(-1, weight.shape[1], *weight.shape[3:])
        x = _filtered(F.conv_transpose2d(x, own, stride=2, groups=n), (1, 1, 1, 1))
    else:
        x = F.conv2d(x, weight.flatten(0, 1), padding=layer.pad, groups=n)
    x = x.reshape(n, -1, *x.shape[2:])
    if layer.noise:
        x = x.add_(layer.noise_const * layer.noise_strength)
    x = x + layer.bias.reshape(1, -1, 1, 1)
    if not layer.plain:
        x = F.leaky_relu(x, SLOPE) * GAIN
    return x if math.isinf(clamp) else x.clamp(-clamp, clamp)


def _doubled(image: Tensor) -> Tensor:
    n, channels, height, width = image.shape
    stuffed = F.pad(image.reshape(n, channels, height, 1, width, 1), [0, 1, 0, 0, 0, 1])
    return _filtered(stuffed.reshape(n, channels, 2 * height, 2 * width), (2, 1, 2, 1))


def _filtered(x: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    kernel = blur_kernel(4.0, x)[None, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(F.pad(x, pad), kernel, groups=x.shape[1])


def rendered(generator: TriplaneGenerator, planes: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """(1, F, R, R) and depth (1, 1, R, R)."""
    config, size = generator.config, generator.config.superresolution.rendered
    origin, direction = rays(label, size)
    first = coarse_depths(config, origin, 0.5)[..., None]
    raw, colour = _asked(generator, planes, origin, direction, first)
    _, _, weights = _marched(raw, colour, first)
    second = fine_depths(first[..., 0], weights[..., 0], config.fine_samples, None)[..., None]
    raw_second, colour_second = _asked(generator, planes, origin, direction, second)
    depths, order = torch.sort(torch.cat([first, second], -2), -2)
    colour = torch.cat([colour, colour_second], -2)
    colour = torch.gather(colour, -2, order.expand(-1, -1, -1, colour.shape[-1]))
    raw = torch.gather(torch.cat([raw, raw_second], -2), -2, order)
    features, depth, _ = _marched(raw, colour, depths)
    square = features.permute(0, 2, 1).reshape(1, -1, size, size).contiguous()
    return square, depth.permute(0, 2, 1).reshape(1, 1, size, size)


def _asked(
    generator: TriplaneGenerator, planes: Tensor, origin: Tensor, direction: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    points = (origin[:, :, None] + depths * direction[:, :, None]).reshape(1, -1, 3)
    raw = _raw(generator, planes, points).reshape(*depths.shape[:3], -1)
    return raw[..., :1], torch.sigmoid(raw[..., 1:]) * 1.002 - 0.001


def _raw(generator: TriplaneGenerator, planes: Tensor, points: Tensor) -> Tensor:
    points = points * (2 / generator.config.box)
    where = torch.cat([points[..., list(pair)] for pair in AXES[generator.config.plane_axes]])
    found = F.grid_sample(planes[0], where[:, None], mode="bilinear", padding_mode="zeros", align_corners=False)
    found = found.permute(0, 3, 2, 1).reshape(1, 3, points.shape[1], -1).mean(1)
    return _decoded(generator.decoder, found[0])[None]


def _decoded(decoder: Decoder, features: Tensor) -> Tensor:
    for layer in (decoder.hidden, decoder.output):
        features = torch.addmm((layer.bias * layer.lr)[None], features, (layer.weight * layer.gain).T)
        features = F.softplus(features) if layer is decoder.hidden else features
    return features


def _marched(raw: Tensor, colour: Tensor, depths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    deltas = depths[:, :, 1:] - depths[:, :, :-1]
    shade = (colour[:, :, :-1] + colour[:, :, 1:]) / 2
    density = F.softplus((raw[:, :, :-1] + raw[:, :, 1:]) / 2 - 1)
    middle = (depths[:, :, :-1] + depths[:, :, 1:]) / 2
    alpha = 1 - torch.exp(-density * deltas)
    left = torch.cat([torch.ones_like(alpha[:, :, :1]), 1 - alpha + 1e-10], -2)
    weights = alpha * torch.cumprod(left, -2)[:, :, :-1]
    total = weights.sum(2)
    depth = ((weights * middle).sum(-2) / total).nan_to_num(float("inf")).clamp(depths.min(), depths.max())
    return (weights * shade).sum(-2) * 2 - 1, depth, weights


def field_batch(generator: TriplaneGenerator, z: Tensor, label: Tensor, resolution: int) -> Tensor:
    """Raw density of the first million points of a grid: the backbone anew, as for each million."""
    total = min(BATCH, resolution**3)
    flat = torch.arange(total, device=z.device)
    nodes = torch.stack([flat // resolution**2, flat // resolution % resolution, flat % resolution], -1)
    points = (nodes / (resolution - 1) - 0.5) * generator.config.box
    planes = planes_of(generator, generator.mapping(z, label))
    return _raw(generator, planes, points[None])[0, :, 0]


def batches(resolution: int) -> int:
    """How many of these a grid takes."""
    return math.ceil(resolution**3 / BATCH)


def surface_bytes(values: np.ndarray, level: float) -> bytes:
    """The surface of the whole grid as PLY, vertex by vertex."""
    vertices, faces, _, _ = measure.marching_cubes(values, level)
    points = np.zeros(len(vertices), [("x", "f4"), ("y", "f4"), ("z", "f4")])
    for k in range(len(vertices)):
        points[k] = tuple(vertices[k])
    corners = [(face.tolist(),) for face in faces]
    table = np.array(corners, [("vertex_indices", "i4", (3,))])
    return points.tobytes() + table.tobytes()
