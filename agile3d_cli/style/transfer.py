"""Pairs + base generator -> stylized generator: guided transfer learning.

In: stylized pictures at known latents and cameras, and the style's displacement. Out: the weight difference. Trained
are the mean planes and the backbone's plane outputs; everything else, the decoder above all, stays as it is.
Source: AgileGAN3D (arXiv 2303.14297), guided transfer learning. The paper's losses are not published; here the pairs
guide by colour, gradients and outline on picture patches, and the density is held to the base in the face.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.styled import StyleDifference, stylized
from agile3d_cli.models.volume import composite, importance_depths, interval_weights, spread_depths
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.state import read_state, write_state
from agile3d_cli.stylizer import Progress


@dataclass(frozen=True)
class Transferred:
    """A learnt difference and how the learning went."""

    difference: StyleDifference
    steps: int
    losses: Mapping[str, float]
    """Mean of each term over the last tenth of the steps."""


def transfer(
    pairs: Pairs, base: BaseModel, displacement: Tensor | None, config: TransferConfig, state: Path, progress: Progress
) -> Transferred:
    """Fine-tunes the base on the pairs; ``state`` is a file from which an interrupted run goes on."""
    zero = StyleDifference({}, displacement)
    generator = stylized(base.generator, zero).requires_grad_(False)
    trained = _trained(generator)
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    rates = {name: config.rate if name.endswith("mean_planes") else config.output_rate for name in trained}
    groups = [{"params": [p.requires_grad_(True)], "base": rates[name]} for name, p in trained.items()]
    optimizer = torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.98))
    rng = torch.Generator().manual_seed(config.seed)
    first = read_state(state, trained, optimizer, rng)
    recent: list[dict[str, float]] = []
    for step in range(first, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * min(1.0, (step + 1) / 20) * (1 - 0.9 * step / config.steps)
        terms = _terms(generator, base, pairs, displacement, trained, start, config, rng)
        optimizer.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        optimizer.step()
        recent.append({name: float(value.detach()) for name, value in terms.items()})
        progress("transfer", (step + 1) / config.steps)
        if (step + 1) % config.checkpoint == 0:
            write_state(state, trained, optimizer, rng, step + 1)
    difference = {name: parameter.detach() - start[name] for name, parameter in trained.items()}
    last = recent[-max(1, config.steps // 10) :]
    losses = {name: sum(row[name] for row in last) / len(last) for name in (last[0] if last else {})}
    return Transferred(StyleDifference(difference, displacement), config.steps, losses)


def _trained(generator: TriplaneGenerator) -> dict[str, torch.nn.Parameter]:
    chosen = {}
    for name, parameter in generator.named_parameters():
        output = ".output." in name and "affine" not in name
        if name == "backbone.mean_planes" or (name.startswith("backbone.") and output):
            chosen[name] = parameter
    return chosen


def _terms(
    generator: TriplaneGenerator,
    base: BaseModel,
    pairs: Pairs,
    displacement: Tensor | None,
    trained: Mapping[str, Tensor],
    start: Mapping[str, Tensor],
    config: TransferConfig,
    rng: torch.Generator,
) -> dict[str, Tensor]:
    picked = torch.randint(len(pairs), (config.batch,), generator=rng)
    device = next(generator.parameters()).device
    z, labels = pairs.z[picked].to(device), pairs.labels[picked].to(device)
    with torch.no_grad():
        ws = generator.mapping(z, labels if generator.config.label_dim else None)
        weights = generator.deformation.weights(z) if generator.deforms else None
        backward = generator.backward(weights, None if displacement is None else displacement[None].to(device))
    subject = Subject(generator.backbone(ws), backward)
    window, scale = _windows(config, pairs.stylized.shape[-1], rng)
    wanted = _cut(pairs.stylized[picked].to(device).float(), window, scale, config.patch)
    covered = _cut(pairs.alphas[picked].to(device).float(), window, scale, config.patch)
    size = pairs.stylized.shape[-1]
    place = _places(window, scale, config.patch, size).expand(config.batch, -1, -1).to(labels)
    origin, direction = camera.rays_through(*camera.split_label(labels), place)
    colour, alpha, points, raw = _march(generator, subject, origin, direction, config, rng)
    shape = (config.batch, -1, config.patch, config.patch)
    colour, alpha = colour.transpose(1, 2).reshape(shape), alpha[:, None].reshape(shape)
    image = (2 * colour - alpha) + (1 - alpha) * BACKGROUND
    with torch.no_grad():
        before = base.generator.backbone(ws)
        held = base.generator.decoder.raw(_features(base.generator, before, points))[..., 0]
    smooth = edges = colour.new_zeros(())
    if "backbone.mean_planes" in trained:
        change = trained["backbone.mean_planes"] - start["backbone.mean_planes"]
        smooth = sum((change.diff(dim=d).square().mean() for d in (-1, -2)), smooth)
    edges = sum(((image.diff(dim=d) - wanted.diff(dim=d)).abs().mean() for d in (-1, -2)), edges)
    return {
        "colour": (image - wanted).abs().mean(),
        "edges": config.edges * edges,
        "outline": config.outline * (alpha - covered).abs().mean(),
        "hold": config.hold * (raw - held).abs().mean(),
        "smooth": config.smooth * smooth,
    }


def _windows(config: TransferConfig, size: int, rng: torch.Generator) -> tuple[tuple[int, int], int]:
    """Corner of a patch and the stride of its pixels; centred on the face more often than not."""
    scale = (1, 1, 2, 4)[int(torch.randint(4, (), generator=rng))]
    room = size - config.patch * scale
    if room <= 0:
        return (0, 0), max(1, size // config.patch)
    draw = torch.randn(2, generator=rng) * 0.2 + 0.5
    corner = (draw.clamp(0, 1) * room).round().long()
    return (int(corner[0]), int(corner[1])), scale


def _cut(pictures: Tensor, window: tuple[int, int], scale: int, patch: int) -> Tensor:
    top, left = window
    part = pictures[:, :, top : top + patch * scale, left : left + patch * scale]
    return F.avg_pool2d(part, scale) if scale > 1 else part


def _places(window: tuple[int, int], scale: int, patch: int, size: int) -> Tensor:
    """Picture places (1, patch * patch, 2) of the patch's pixels."""
    steps = (torch.arange(patch) + 0.5) * scale
    v, u = torch.meshgrid((window[0] + steps) / size, (window[1] + steps) / size, indexing="ij")
    return torch.stack([u, v], -1).reshape(1, -1, 2)


def _features(generator: TriplaneGenerator, planes: Tensor, points: Tensor) -> Tensor:
    from agile3d_cli.models.triplane import plane_features

    return plane_features(planes, generator.deformation.focus.forward(points), generator.config.plane_axes)


def _march(
    generator: TriplaneGenerator,
    subject: Subject,
    origin: Tensor,
    direction: Tensor,
    config: TransferConfig,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Colour (N, R, 3) times alpha, alpha (N, R), canonical sample points and the raw density there."""
    settings = generator.config
    shape = origin.shape[:2]
    coarse = spread_depths(
        settings.near, settings.far, config.coarse, origin, torch.rand(*shape, config.coarse, generator=rng).to(origin)
    )
    with torch.no_grad():
        points = (origin[..., None, :] + direction[..., None, :] * coarse[..., None]).flatten(1, 2)
        density, _ = generator.field(subject, points)
        jitter = torch.rand(*shape, config.fine, generator=rng).to(origin)
        depths = importance_depths(coarse, interval_weights(density.reshape(coarse.shape), coarse), config.fine, jitter)
        world = (origin[..., None, :] + direction[..., None, :] * depths[..., None]).flatten(1, 2)
        points = generator.to_canonical(subject, world)
    raw = generator.decoder.raw(_features(generator, subject.planes, points))
    density = generator.decoder.density(raw[..., 0])
    rgb = torch.sigmoid(raw[..., 1:4]) * 1.002 - 0.001
    pixels = composite(density.reshape(depths.shape), rgb.reshape(*depths.shape, 3), depths)
    return pixels.colour, pixels.alpha, points, raw[..., 0]
