"""Imported EG3D generator + subject + cameras -> its picture, exactly as its weights were trained to make it.

In: styles, labels. Out: the small rendered picture, its depth, and the full picture. The flows of this project render
with ``volume.py``; the published renderer differs from it in where samples lie and in what is averaged, which matters
only where equal output is wanted.

``published_plain.py`` is the plain twin. Here everything that depends on the subject alone is made once
(``published_subject``), and a CPU takes rays in parts that stay in its cache. No gradients.
Source: EG3D (Chan et al., CVPR 2022), section 4.1 and supplement. Written from the paper and checked against recorded
tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.folded import FoldedBlock, enlarged_view, folded_planes, smooth, superresolution_blocks
from agile3d_cli.models.fused import fused_march
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.merged import merged_planes
from agile3d_cli.models.native import compiled, fits
from agile3d_cli.models.precision import PRECISIONS, multiplied, rounds
from agile3d_cli.models.published_rays import PublishedView, coarse_depths, rays
from agile3d_cli.models.ray_field import March, RayField, folded_decoder, march_rays

WIDER = 1.002
"""Colours reach a little beyond [0, 1]: 1.002 sigmoid - 0.001."""


@dataclass(frozen=True)
class PublishedSubject:
    """Everything that the pictures and the surface of one subject share."""

    config: GeneratorConfig
    field: RayField
    blocks: tuple[FoldedBlock, ...]
    """Of the super-resolution; none where the generator has none."""
    dtype: torch.dtype
    """Of the convolutions."""
    march: March
    """Torch's steps, or compiled ones, see ``native.py`` and ``fused.py``."""
    tf32: bool = False
    """Whether CUDA's convolutions may round, see ``precision.py``."""


@torch.no_grad()
def published_subject(
    generator: TriplaneGenerator,
    ws: Tensor,
    planes: Tensor | None = None,
    precision: str = "float32",
    native: bool | None = None,
) -> PublishedSubject:
    """Makes a subject of styles (1, num_ws, w_dim).

    Args:
        generator: an imported one, without deformation.
        ws: styles.
        planes: (1, 3, C, S, S) of ``ws``, where they are known already.
        precision: of the convolutions, a key of ``PRECISIONS``. bf16 moves pixels by some grey levels, tf32 (on CUDA)
            by half a one; rays are always float32.
        native: use compiled code for what it fits: on a CPU what was built; on CUDA what Triton makes, only if True.
    """
    with multiplied(ws.device):
        return _subject(generator, ws, planes, precision, native)


def _subject(
    generator: TriplaneGenerator, ws: Tensor, planes: Tensor | None, precision: str, native: bool | None
) -> PublishedSubject:
    dtype, tf32, config = PRECISIONS[precision], rounds(precision), generator.config
    quick = compiled() if native is not False and ws.device.type == "cpu" else None
    after = quick.smooth if quick else smooth
    if planes is None:
        planes = folded_planes(generator.backbone, ws, dtype, after, tf32)
    larger = config.superresolution.sizes
    blocks = superresolution_blocks(generator.superresolution, ws, dtype, after) if larger else ()
    merged = merged_planes(planes[0], config.plane_axes)
    field = RayField(merged, folded_decoder(generator.decoder), config.box)
    march: March = march_rays
    if quick and fits(field, (config.coarse_samples, config.fine_samples)):
        march = quick.march
    elif native and ws.device.type == "cuda":
        march = fused_march(field, config) or march_rays
    return PublishedSubject(config, field, blocks, dtype, march, tf32)


@torch.no_grad()
def render_published(
    generator: TriplaneGenerator,
    ws: Tensor,
    labels: Tensor,
    coarse: Tensor | float = 0.5,
    fine: Tensor | None = None,
    planes: Tensor | None = None,
    precision: str = "float32",
) -> PublishedView:
    """Renders labels (N, 25) of styles (N, num_ws, w_dim), each picture its own subject.

    Args:
        generator: an imported one, without deformation.
        ws: styles.
        labels: cameras.
        coarse: (N or 1, R * R, coarse_samples) draws in [0, 1), where in its stratum a sample lies; the reference
            draws them anew for each picture, 0.5 puts them in the middle.
        fine: (N or 1, R * R, fine_samples) draws in [0, 1); evenly spread without it.
        planes: of ``ws``, where they are known already.
        precision: of the convolutions, see ``published_subject``.
    """
    subjects = (
        published_subject(generator, ws[n : n + 1], None if planes is None else planes[n : n + 1], precision)
        for n in range(len(labels))
    )
    return _together([_shown(subject, labels, n, coarse, fine) for n, subject in enumerate(subjects)])


@torch.no_grad()
def render_subject(
    subject: PublishedSubject, labels: Tensor, coarse: Tensor | float = 0.5, fine: Tensor | None = None
) -> PublishedView:
    """``render_published`` for the labels (N, 25) of one subject."""
    return _together([_shown(subject, labels, n, coarse, fine) for n in range(len(labels))])


@dataclass(frozen=True)
class RayPicture:
    """What the rays of one picture saw."""

    rendered: Tensor
    """(1, F, R, R)."""
    depth: Tensor
    """(1, 1, R, R), infinite where a ray met nothing."""
    nearest: Tensor
    """Depth of the first sample of all."""
    farthest: Tensor
    """Depth of the last one."""
    seen: Tensor
    """(1, 1, R, R) share of a ray's light that met something; where it is not ``CLEAR``, depth means little."""

    @property
    def held_depth(self) -> Tensor:
        """(1, 1, R, R), between these."""
        return self.depth.clamp(self.nearest, self.farthest)


@torch.no_grad()
def ray_picture(subject: PublishedSubject, label: Tensor, coarse: Tensor | float, fine: Tensor | None) -> RayPicture:
    """Marches the rays of a label (1, 25); draws are (1, R * R, samples)."""
    size = subject.config.superresolution.rendered
    drawn = None if fine is None else fine.reshape(-1, subject.config.fine_samples)
    with multiplied(label.device):
        origin, direction = rays(label, size)
        first = coarse_depths(subject.config, origin, coarse)
        seen = subject.march(subject.field, origin[0], direction[0], first[0], drawn, subject.config.fine_samples)
    # What all samples' colours have in common, and from [0, 1] to [-1, 1].
    light = seen.seen[:, None]
    features = seen.mix * (2 * WIDER) - light * (WIDER - 1)
    features = features + (1 - 2 * light if subject.config.published.white_back else -1)
    square = features.T.reshape(1, -1, size, size)
    depth, light = seen.depth.reshape(1, 1, size, size), seen.seen.reshape(1, 1, size, size)
    return RayPicture(square, depth, seen.nearest.min(), seen.farthest.max(), light)


@torch.no_grad()
def full_picture(subject: PublishedSubject, rendered: Tensor) -> Tensor:
    """The super-resolution (1, 3, S, S) of what was rendered (1, F, R, R)."""
    entry = subject.config.superresolution.entry
    return enlarged_view(subject.blocks, rendered, entry, subject.dtype, subject.tf32)


def _shown(
    subject: PublishedSubject, labels: Tensor, n: int, coarse: Tensor | float, fine: Tensor | None
) -> tuple[RayPicture, Tensor | None]:
    """Picture ``n``, with draws of its own or those that all share."""
    if isinstance(coarse, Tensor) and len(coarse) > 1:
        coarse = coarse[n : n + 1]
    if fine is not None and len(fine) > 1:
        fine = fine[n : n + 1]
    seen = ray_picture(subject, labels[n : n + 1], coarse, fine)
    return seen, full_picture(subject, seen.rendered) if subject.blocks else None


def _together(shown: list[tuple[RayPicture, Tensor | None]]) -> PublishedView:
    """One view of several pictures; depths are held between the nearest and the farthest sample of all."""
    nearest = torch.stack([seen.nearest for seen, _ in shown]).min()
    farthest = torch.stack([seen.farthest for seen, _ in shown]).max()
    images = [image for _, image in shown if image is not None]
    return PublishedView(
        torch.cat([seen.rendered for seen, _ in shown]),
        torch.cat([seen.depth for seen, _ in shown]).clamp(nearest, farthest),
        torch.cat(images) if images else None,
    )
