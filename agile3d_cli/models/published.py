"""Imported EG3D generator + subject + cameras -> its picture, exactly as its weights were trained to make it.

In: styles, labels. Out: the small rendered picture, its depth, and the full picture. The flows of this project render
with ``volume.py``; the published renderer differs from it in where samples lie and in what is averaged, which matters
only where equal output is wanted.

``published_plain.py`` is the plain twin. Here everything that depends on the subject alone is made once
(``published_subject``), and rays are taken in parts that stay in a CPU's cache. No gradients.
Source: EG3D (Chan et al., CVPR 2022), section 4.1 and supplement. Written from the paper and checked against recorded
tensors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.folded import FoldedBlock, enlarged_view, folded_planes, superresolution_blocks
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.layers import softplus
from agile3d_cli.models.merged import MergedPlanes, merged_planes
from agile3d_cli.models.published_rays import PublishedView, coarse_depths, fine_depths, march, rays
from agile3d_cli.models.triplane import Decoder
from agile3d_cli.models.volume import sample_shares

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
POINTS = 12288
"""Samples that are taken at a time: what is known of them stays in a CPU's cache."""


@dataclass(frozen=True)
class FoldedDecoder:
    """The decoder with its gains in the weights."""

    hidden: Tensor
    """(C, H)."""
    hidden_bias: Tensor
    """(H,)."""
    output: Tensor
    """(H, 1 + F)."""
    output_bias: Tensor
    """(1 + F,)."""

    def __call__(self, features: Tensor) -> Tensor:
        """Features (P, C) -> raw density and colours (P, 1 + F)."""
        return torch.addmm(
            self.output_bias, softplus(torch.addmm(self.hidden_bias, features, self.hidden)), self.output
        )


@dataclass(frozen=True)
class PublishedSubject:
    """Everything that the pictures and the surface of one subject share."""

    config: GeneratorConfig
    planes: MergedPlanes
    decoder: FoldedDecoder
    blocks: tuple[FoldedBlock, ...]
    """Of the super-resolution; none where the generator has none."""
    dtype: torch.dtype
    """Of the convolutions."""


@torch.no_grad()
def published_subject(
    generator: TriplaneGenerator, ws: Tensor, planes: Tensor | None = None, precision: str = "float32"
) -> PublishedSubject:
    """Makes a subject of styles (1, num_ws, w_dim).

    Args:
        generator: an imported one, without deformation.
        ws: styles.
        planes: (1, 3, C, S, S) of ``ws``, where they are known already.
        precision: of the convolutions, a key of ``PRECISIONS``. bf16 halves their time and moves pixels by some grey
            levels; rays are always float32.
    """
    dtype, config = PRECISIONS[precision], generator.config
    if planes is None:
        planes = folded_planes(generator.backbone, ws, dtype)
    larger = config.superresolution.sizes
    blocks = superresolution_blocks(generator.superresolution, ws, dtype) if larger else ()
    merged = merged_planes(planes[0], config.plane_axes)
    return PublishedSubject(config, merged, folded_decoder(generator.decoder), blocks, dtype)


def folded_decoder(decoder: Decoder) -> FoldedDecoder:
    """Of a decoder with one hidden layer, as all imported ones have."""
    assert not decoder.more, "imported networks have one hidden layer"
    first, last = decoder.hidden, decoder.output
    return FoldedDecoder(
        (first.weight * first.gain).T.contiguous(),
        first.bias * first.lr,
        (last.weight * last.gain).T.contiguous(),
        last.bias * last.lr,
    )


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

    @property
    def held_depth(self) -> Tensor:
        """(1, 1, R, R), between these."""
        return self.depth.clamp(self.nearest, self.farthest)


@torch.no_grad()
def ray_picture(subject: PublishedSubject, label: Tensor, coarse: Tensor | float, fine: Tensor | None) -> RayPicture:
    """Marches the rays of a label (1, 25); draws are (1, R * R, samples)."""
    size = subject.config.superresolution.rendered
    origin, direction = rays(label, size)
    first = coarse_depths(subject.config, origin, coarse)
    features = first.new_empty(size * size, subject.decoder.output.shape[1] - 1)
    depth, nearest, farthest = first.new_empty(3, size * size)
    together = max(1, POINTS // max(first.shape[-1], subject.config.fine_samples))
    for start in range(0, size * size, together):
        part = slice(start, start + together)
        drawn = fine if fine is None else fine[:, part]
        features[part], depth[part], nearest[part], farthest[part] = _march_part(
            subject, origin[0, part], direction[0, part], first[:, part], drawn
        )
    square = features.T.reshape(1, -1, size, size)
    return RayPicture(square, depth.reshape(1, 1, size, size), nearest.min(), farthest.max())


@torch.no_grad()
def full_picture(subject: PublishedSubject, rendered: Tensor) -> Tensor:
    """The super-resolution (1, 3, S, S) of what was rendered (1, F, R, R)."""
    return enlarged_view(subject.blocks, rendered, subject.config.superresolution.entry, subject.dtype)


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


def _march_part(
    subject: PublishedSubject,
    origin: Tensor,
    direction: Tensor,
    first: Tensor,
    fine: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Some rays (R, 3) with their coarse depths (1, R, S): features (R, F), depth, first and last sample, each (R,).

    Colours stay where they were made: the samples are put in order by depth, and their shares are put back.
    """
    raw, colour = _ask(subject, origin, direction, first[0])
    weights, _ = march(raw, first[0])
    second = fine_depths(first, weights[None], subject.config.fine_samples, fine)
    raw_second, colour_second = _ask(subject, origin, direction, second[0])
    depths, order = torch.sort(torch.cat([first[0], second[0]], -1), -1)
    weights, middle = march(torch.cat([raw, raw_second], -1).gather(-1, order), depths)
    shares = torch.empty_like(depths).scatter_(-1, order, sample_shares(weights))
    samples = first.shape[-1]
    features = torch.bmm(shares[:, None, :samples], colour) + torch.bmm(shares[:, None, samples:], colour_second)
    seen = weights.sum(-1)
    # What all samples' colours have in common, and from [0, 1] to [-1, 1].
    features = features[:, 0] * (2 * 1.002) - seen[:, None] * (2 * 0.001)
    features = features + (1 - 2 * seen[:, None] if subject.config.published.white_back else -1)
    # Where a ray met nothing the quotient has no value; it becomes the farthest depth of the whole batch.
    depth = ((weights * middle).sum(-1) / seen).nan_to_num(float("inf"))
    return features, depth, depths[:, 0], depths[:, -1]


def _ask(subject: PublishedSubject, origin: Tensor, direction: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Raw density (R, S) and the sigmoid of the colours (R, S, F) along rays (R, 3)."""
    points = (origin[:, None] + direction[:, None] * depths[..., None]).flatten(0, 1)
    raw = subject.decoder(subject.planes.features(points * (2 / subject.config.box)))
    return raw[:, 0].reshape(depths.shape), torch.sigmoid(raw[:, 1:]).unflatten(0, tuple(depths.shape))
