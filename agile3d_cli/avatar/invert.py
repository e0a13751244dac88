"""Aligned face -> latent: the person in the generator's terms.

In: crop, wide picture, matte, landmarks, camera. Out: a latent whose rendering at that camera is the photo.
Three steps, each a smaller change than the one before it: landmarks give the shape (``likeness``); the other latent
coordinates are searched under a normal prior and few steps; what is left is painted onto the surface as it is. The
paper trains an encoder for this; here it is optimised, as long as there is none.
Source: AgileGAN3D (arXiv 2303.14297).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.likeness import Shape, fit_shape
from agile3d_cli.avatar.photo import Pixels, photo_pixels
from agile3d_cli.avatar.residual import paint_residual
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.volume import composite, importance_depths, interval_weights, spread_depths

Progress = Callable[[float], None]
BROAD = 2.0
"""Width of the filter that takes broad tones from painted planes, texels."""


@dataclass(frozen=True)
class Latent:
    """A person in one generator."""

    z: Tensor
    """(1, z_dim)."""
    ws: Tensor
    """(1, num_ws, w_dim)."""
    displacement: Tensor | None
    """(1, 3, G, G, G) the person's own part of the deformation."""
    paint: Tensor | None
    """(1, 3, C, S, S) added to the planes where colours are read: what the photo shows, on the surface as it is."""

    def subject(
        self,
        generator: TriplaneGenerator,
        painter: TriplaneGenerator | None = None,
        displacement: Tensor | None = None,
        identity: float = 1.0,
    ) -> Subject:
        """The head of this latent.

        Args:
            generator: the base, whose surfaces it has.
            painter: a stylized copy whose colours it has; the base's own without one.
            displacement: a style's own part of the deformation.
            identity: how much of what was painted shows, 0 to 1. Up to the middle its broad tones come in, beyond it
                the fine detail, which works against a style.
        """
        weights = generator.deformation.weights(self.z) if generator.deforms else None
        moved = self.displacement
        if displacement is not None:
            moved = displacement if moved is None else moved + displacement
        subject = generator.subject(self.ws, weights, moved)
        paint = subject.planes if painter is None else painter.backbone(self.ws)
        if self.paint is not None:
            broad = soften(self.paint, BROAD)
            paint = paint + min(1.0, 2 * identity) * broad + max(0.0, 2 * identity - 1) * (self.paint - broad)
        return Subject(subject.planes, subject.backward, paint)


def soften(planes: Tensor, width: float) -> Tensor:
    """Gaussian filter of standard deviation ``width`` texels over planes (N, 3, C, S, S)."""
    reach = math.ceil(3 * width)
    away = torch.arange(-reach, reach + 1, dtype=planes.dtype, device=planes.device)
    taps = torch.exp(-away.square() / (2 * width**2))
    taps = (taps / taps.sum())[None, None]
    lines = planes.reshape(-1, 1, planes.shape[-1])
    lines = F.conv1d(F.pad(lines, (reach, reach), mode="replicate"), taps)
    lines = lines.reshape(planes.shape).transpose(-1, -2).reshape(-1, 1, planes.shape[-2])
    lines = F.conv1d(F.pad(lines, (reach, reach), mode="replicate"), taps)
    return lines.reshape(planes.shape).transpose(-1, -2)


def invert(face: AlignedFace, base: BaseModel, config: InvertConfig, wide: float, progress: Progress) -> Latent:
    """Finds the latent of a face.

    Args:
        face: the aligned face.
        base: the unstylized generator.
        config: steps and weights.
        wide: focal length of ``face.wide`` over the crop's.
        progress: told the share that is done, 0 to 1.
    """
    rng = torch.Generator().manual_seed(config.seed)
    target = photo_pixels(face, wide, next(base.generator.parameters()))
    shape = _shape(face, base)
    z = _search(base.generator, shape, target, config, rng, lambda share: progress(0.5 * share))
    with torch.no_grad():
        ws = base.generator.mapping(z, None)
    latent = Latent(z, ws, None if shape is None else shape.displacement, None)
    if config.paint_steps == 0:
        return latent
    with torch.no_grad():
        subject = latent.subject(base.generator)
    paint = paint_residual(base.generator, subject, target, config, rng, lambda share: progress(0.5 + 0.5 * share))
    return replace(latent, paint=paint)


def _shape(face: AlignedFace, base: BaseModel) -> Shape | None:
    if base.landmarks is None or len(face.landmarks) != len(base.landmarks):
        return None
    return fit_shape(base.generator.deformation, torch.from_numpy(face.landmarks), base.landmarks, face.label)


def _search(
    generator: TriplaneGenerator,
    shape: Shape | None,
    target: Pixels,
    config: InvertConfig,
    rng: torch.Generator,
    progress: Progress,
) -> Tensor:
    """Latent coordinates beyond the shape, by rendering loss under the normal prior. Returns z (1, z_dim)."""
    # Without a whole mesh of landmarks the head keeps its mean shape.
    fixed = torch.zeros(1, generator.config.deformation.components) if shape is None else shape.z.cpu()
    z = torch.zeros(1, generator.config.z_dim - fixed.shape[1], device=target.colour.device, requires_grad=True)
    lead = fixed.to(z.device)
    backward = None
    if generator.deforms:
        with torch.no_grad():
            moved = None if shape is None else shape.displacement
            backward = generator.backward(generator.deformation.weights(lead), moved)
    optimizer = torch.optim.Adam([z], lr=config.search_rate, betas=(0.9, 0.99))
    for step in range(config.search_steps):
        picked = _draw(target, config.rays, rng)
        full = torch.cat([lead, z], 1)
        subject = Subject(generator.backbone(generator.mapping(full, None)), backward)
        seen = _look(generator, subject, target, picked, config, rng)
        alpha, weight = target.alpha[picked], target.weight[picked]
        colour = seen.colour + (1 - seen.alpha)[:, None] * config.background
        wanted = target.colour[picked] * alpha[:, None] + (1 - alpha)[:, None] * config.background
        loss = (weight * (colour - wanted).abs().mean(1)).mean()
        loss = loss + config.outline * (weight * (seen.alpha - alpha).abs()).mean()
        loss = loss + config.prior * z.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / config.search_steps)
    return torch.cat([lead, z.detach()], 1)


def _draw(target: Pixels, count: int, rng: torch.Generator) -> Tensor:
    return torch.randint(len(target.alpha), (count,), generator=rng).to(target.alpha.device)


@dataclass(frozen=True)
class _Seen:
    """What the rendering shows at P pixels: colour (P, 3), multiplied by alpha (P,)."""

    colour: Tensor
    alpha: Tensor


def _look(
    generator: TriplaneGenerator,
    subject: Subject,
    target: Pixels,
    picked: Tensor,
    config: InvertConfig,
    rng: torch.Generator,
) -> _Seen:
    """Renders picked pixels: a coarse pass finds the surface, gradients flow through the fine one."""
    origin, direction = target.origin[picked][None], target.direction[picked][None]
    settings = generator.config
    jitter = torch.rand(1, len(picked), config.coarse, generator=rng).to(origin)
    coarse = spread_depths(settings.near, settings.far, config.coarse, origin, jitter)
    with torch.no_grad():
        points = (origin[..., None, :] + direction[..., None, :] * coarse[..., None]).flatten(1, 2)
        density, _ = generator.field(Subject(subject.planes, subject.backward), points)
        jitter = torch.rand(1, len(picked), config.fine, generator=rng).to(origin)
        depths = importance_depths(coarse, interval_weights(density.reshape(coarse.shape), coarse), config.fine, jitter)
    points = (origin[..., None, :] + direction[..., None, :] * depths[..., None]).flatten(1, 2)
    density, features = generator.field(subject, points)
    pixels = composite(density.reshape(depths.shape), features.reshape(*depths.shape, -1)[..., :3], depths)
    return _Seen(pixels.colour[0], pixels.alpha[0])
