"""Aligned face -> latent: the person in the generator's terms.

In: crop, wide picture, matte, landmarks, camera. Out: a latent whose rendering at that camera is the photo.
Four steps, each a smaller change than the one before it: landmarks give the shape (``likeness``) and the encoder
guesses the other latent coordinates; these are searched around the guess in few steps, first for colour and outline
(``search``), then for the identity network (``resemble``); what is left is painted onto the surface as it is.
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
from agile3d_cli.avatar.likeness import Shape, fit_shape, lead_of
from agile3d_cli.avatar.photo import photo_pixels, zoomed
from agile3d_cli.avatar.resemble import resemble
from agile3d_cli.avatar.residual import paint_residual
from agile3d_cli.avatar.search import search_latent
from agile3d_cli.avatar.spectacles import with_bridge
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.encoder import Guess, agreed
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.styled import in_style

Progress = Callable[[float], None]
BROAD, TONE = 2.0, 10.0
"""Widths of the filters that take the broad forms, and the tones alone, from painted planes, texels."""
DRAWN, FINE, NEAR = 0.5, 4.0, 1.5
"""What a style changes from which on it draws something of its own there, when what is broader than the second is taken
off; and how far that reaches, texels."""


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

    def moved(self, generator: TriplaneGenerator) -> Tensor:
        """The forward field (1, 3, G, G, G) of a generator that deforms."""
        field = generator.deformation.displacement(generator.deformation.weights(self.z))
        return field if self.displacement is None else field + self.displacement

    def subject(
        self,
        generator: TriplaneGenerator,
        painter: TriplaneGenerator | None = None,
        displacement: Tensor | None = None,
        identity: float = 1.0,
        color: float = 1.0,
    ) -> Subject:
        """The head of this latent.

        Args:
            generator: the base, whose surfaces it has.
            painter: a stylized copy whose colours it has; the base's own without one.
            displacement: a style's own part of the deformation.
            identity: how much of what was painted shows, 0 to 1. Up to the middle its tones and broad forms come in,
                beyond it the fine detail. Where the style draws something of its own, only the tones do.
            color: how much of the style's colours the painter has, 0 to 1.
        """
        weights = generator.deformation.weights(self.z) if generator.deforms else None
        moved = self.displacement
        if displacement is not None:
            moved = displacement if moved is None else moved + displacement
        subject = generator.subject(self.ws, weights, moved)
        if painter is not None:
            subject = replace(in_style(subject, generator, painter, self.ws), strength=color)
        if self.paint is not None:
            tones, broad = soften(self.paint, TONE), soften(self.paint, BROAD)
            early, late = min(1.0, 2 * identity), max(0.0, 2 * identity - 1)
            shown = early * broad + late * (self.paint - broad)
            if subject.style is not None:
                shown = torch.lerp(shown, early * tones, drawn(subject.style - subject.planes))
            subject = replace(subject, paint=subject.planes + shown)
        return subject


def drawn(change: Tensor) -> Tensor:
    """Where a style's change of the planes (1, 3, C, S, S) draws something, such as its own eyes, beside which the
    photo's would be a second pair: (1, 3, 1, S, S) from 0 to 1."""
    fine = (change - soften(change, FINE)).abs().mean(2, keepdim=True)
    return (soften(fine, NEAR) / DRAWN).clamp(max=1)


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
    guess = first_guess(face, base, wide, shape)
    z = search_latent(base, shape, guess, target, config, rng, lambda share: progress(0.4 * share))
    with torch.no_grad():
        ws = base.generator.mapping(z, None)
    if config.identity_steps and shape is not None:
        with torch.no_grad():
            backward = base.generator.backward(base.generator.deformation.weights(z), shape.displacement)
        ws = resemble(base.generator, ws, backward, face, config, lambda share: progress(0.4 + 0.2 * share))
    latent = Latent(z, ws, None if shape is None else shape.displacement, None)
    if config.paint_steps == 0:
        return latent
    with torch.no_grad():
        subject = latent.subject(base.generator)
    paint = paint_residual(base.generator, subject, target, config, rng, lambda share: progress(0.6 + 0.4 * share))
    return replace(latent, paint=paint)


@torch.no_grad()
def first_guess(face: AlignedFace, base: BaseModel, wide: float, shape: Shape | None) -> Guess:
    """The encoder's guess of the coordinates beyond the shape; the prior, where there is no encoder."""
    like = next(base.generator.parameters())
    if base.encoder is None:
        config = base.generator.config
        none = torch.zeros(1, config.z_dim - config.deformation.components).to(like)
        return Guess(none, torch.ones_like(none))
    crop, beyond, matte = (part[None].to(like) for part in (face.image, face.wide, face.matte))
    seen = base.encoder(crop=(crop, zoomed(face.matte, wide)[None].to(like)), wide=(beyond, matte))
    lead = lead_of(shape, base.generator)
    guess = agreed(seen, lead, base.generator.mapping)
    return guess if shape is None else with_bridge(guess, face, lead.shape[1], base.generator.config.choices)


def _shape(face: AlignedFace, base: BaseModel) -> Shape | None:
    if base.landmarks is None or len(face.landmarks) != len(base.landmarks):
        return None
    return fit_shape(base.generator.deformation, torch.from_numpy(face.landmarks), base.landmarks, face.label)
