"""The scores: one definition each, for reports, early stopping, tests and documents.

They work on what was measured (embeddings, features, pictures, depths, labels), so this file needs no network.
Embeddings come from ``models.identity``, style features from ``models.perceptual``. What was not measured is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.camera import project, rays, split_label

SAME_SURFACE = 0.02
"""Two depths that differ by less than this show the same place, world units (7 mm)."""
RESAMPLES = 1000
"""Resamplings behind an interval."""
NOT_MEASURED = "not measured"
"""How reports write a score that is None."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Rank:
    """How often a portrait finds its own person in a gallery."""

    top1: float
    """Share of portraits that find their own photo first."""
    top5: float
    """Share that find it among the first five."""
    gallery: int
    """Photos in the gallery."""


@dataclass(frozen=True)
class Consistency:
    """How well two views show one thing."""

    color: float
    """Mean absolute colour difference where both see, colours in [0, 1]; lower is better."""
    overlap: float
    """Share of the first view's visible pixels that the second one sees too."""


@dataclass(frozen=True)
class Scores:
    """Every score of a portrait or a style; None is "not measured"."""

    identity: float | None = None
    """Distance of the embeddings of the photo and a rendering at its camera; one person below about 0.57."""
    identity_rank: Rank | None = None
    view_consistency: Consistency | None = None
    view_identity: float | None = None
    """Largest identity distance between the views at yaw -30, 0 and 30 degrees."""
    style_distance: Interval | None = None
    baseline_style_distance: Interval | None = None
    """The same for the plain fine-tuning baseline."""
    relief: float | None = None
    """Depth range of the face over that of the unstylized head; below 1 it got flatter."""
    sharpness: float | None = None
    """Gradient energy over that of the exemplars."""
    pose_error: float | None = None
    """Degrees between the known cameras of renderings and the estimated ones."""

    def as_json(self) -> dict[str, Any]:
        """Plain data; what was not measured is None."""
        return asdict(self)


def identity(photo: Tensor, rendering: Tensor) -> float:
    """Mean distance of embeddings (N, 128) of photo crops and of renderings at the same cameras."""
    return float((photo - rendering).norm(dim=-1).mean())


def identity_rank(portraits: Tensor, gallery: Tensor, own: Tensor | None = None) -> Rank:
    """Ranks of the own photo for portraits (N, 128) in a gallery of photos (M, 128).

    Args:
        portraits: embeddings of renderings.
        gallery: embeddings of photos.
        own: (N,) index of each portrait's own photo; the same order without it.
    """
    own = torch.arange(len(portraits), device=portraits.device) if own is None else own
    distance = torch.cdist(portraits.double(), gallery.double())
    mine = distance.gather(1, own[:, None])
    # Ties count against the portrait: one face for all must not score.
    before = (distance <= mine).sum(1) - 1
    return Rank(float((before < 1).float().mean()), float((before < 5).float().mean()), len(gallery))


def rank_of_found(portraits: Sequence[Tensor | None], photos: Sequence[Tensor | None]) -> Rank | None:
    """``identity_rank`` of embeddings (1, 128), portrait and photo of each person, None where no face was found.

    A portrait without a face finds nobody; people whose photo has none are left out. None where fewer than two are
    left, as a gallery of one says nothing.
    """
    pairs = [(portrait, photo) for portrait, photo in zip(portraits, photos, strict=True) if photo is not None]
    if len(pairs) < 2:
        return None
    found = [(portrait, number) for number, (portrait, _) in enumerate(pairs) if portrait is not None]
    if not found:
        return Rank(0.0, 0.0, len(pairs))
    gallery = torch.cat([photo for _, photo in pairs])
    rank = identity_rank(torch.cat([one for one, _ in found]), gallery, torch.tensor([number for _, number in found]))
    share = len(found) / len(pairs)
    return Rank(share * rank.top1, share * rank.top5, rank.gallery)


def view_consistency(
    images: Tensor, alphas: Tensor, depths: Tensor, labels: Tensor, surface: float = SAME_SURFACE
) -> Consistency | None:
    """Carries the second view into the first by depth and compares colours; None where they show no place in common.

    Args:
        images: (2, 3, H, W) in [-1, 1].
        alphas: (2, 1, H, W) in [0, 1]; pixels below 0.9 are left out.
        depths: (2, 1, H, W) world units along the ray.
        labels: (2, 25).
        surface: depths closer than this show the same place, world units.
    """
    height, width = images.shape[-2:]
    origin, direction = rays(labels[:1], height, width)
    points = origin + direction * depths[:1].reshape(1, -1, 1)
    place = project(labels[1:], points)[..., :2].reshape(1, height, width, 2) * 2 - 1
    second = torch.cat([images[1:], alphas[1:], depths[1:]], 1)
    carried = F.grid_sample(second, place.to(second.dtype), "bilinear", "zeros", align_corners=False)
    distance = (points - split_label(labels[1:])[0][:, None, :3, 3]).norm(dim=-1).reshape(1, 1, height, width)
    shown = alphas[:1] > 0.9
    both = shown & (carried[:, 3:4] > 0.9) & ((carried[:, 4:5] - distance).abs() < surface)
    if not both.any():
        return None
    difference = (carried[:, :3] - images[:1]).abs().mean(1, keepdim=True) / 2
    return Consistency(float(difference[both].mean()), float(both.sum() / shown.sum()))


def view_identity(embeddings: Tensor) -> float:
    """Largest distance between the embeddings (N, 128) of several views of one head."""
    return float(torch.cdist(embeddings, embeddings).max())


def sharpness(images: Tensor, exemplars: Tensor) -> float:
    """Gradient energy of pictures (N, 3, H, W) over that of exemplars (M, 3, h, w), at the smaller of the two sizes."""
    size = min(images.shape[-1], exemplars.shape[-1])
    return float(_gradient_energy(images, size) / _gradient_energy(exemplars, size).clamp(min=1e-12))


def _gradient_energy(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
    grey = images.mean(1)
    return grey.diff(dim=1).square().mean() + grey.diff(dim=2).square().mean()


def relief(depth: Tensor, base_depth: Tensor, face: Tensor) -> float:
    """Depth range of the face over that of the base head seen by the same camera.

    Args:
        depth: (1, H, W) world units.
        base_depth: (1, H, W) of the unstylized head at the same latent.
        face: (1, H, W) bool, where both show the face.
    """
    return float(_depth_range(depth[face]) / _depth_range(base_depth[face]).clamp(min=1e-9))


def _depth_range(values: Tensor) -> Tensor:
    # A few stray pixels at the outline must not decide.
    low, high = torch.quantile(values.float(), torch.tensor([0.05, 0.95], device=values.device))
    return high - low


def pose_error(known: Tensor, estimated: Tensor) -> Tensor:
    """Angle between the cameras of labels (N, 25) and (N, 25), degrees, (N,)."""
    one, two = (split_label(labels)[0][:, :3, :3].double() for labels in (known, estimated))
    # The chord of the rotation is exact for small angles, where the cosine is not.
    chord = (one - two).flatten(1).norm(dim=1) / math.sqrt(8)
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def style_distance(renderings: Tensor, exemplars: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """Kernel distance (KID) of style features (N, D) and (M, D), with a 95 % bootstrap interval.

    The unbiased squared maximum mean discrepancy with the kernel (x . y / |x|^2 + 1)^3, where |x|^2 is the mean squared
    length. Zero for one distribution; small negative values are chance.
    Source: Binkowski et al., Demystifying MMD GANs, 2018; here on Lite0 features and with one resampling per side in
    which no picture is compared with itself.
    """
    parts = kernels(renderings, exemplars)
    random = torch.Generator().manual_seed(seed)
    sides = len(renderings), len(exemplars)
    values = [_discrepancy(parts, *(_times_drawn(count, random) for count in sides)) for _ in range(resamples)]
    return _interval(_discrepancy(parts, *(torch.ones(count).double() for count in sides)), values)


def style_gain(before: Tensor, after: Tensor, exemplars: Tensor, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """By how much ``after`` is nearer to the exemplars than ``before``: difference of two ``style_distance``.

    Both show the same heads in the same order, features (N, D) each. The same heads and exemplars are drawn on both
    sides of each resampling, so what they share says nothing about the difference; an interval above 0 is a clear gain.

    Raises:
        ValueError: fewer than two pictures, or not the same number before and after.
    """
    if len(before) != len(after):
        raise ValueError(f"style_gain compares the same heads, but got {len(before)} and {len(after)}.")
    parts = kernels(before, exemplars), kernels(after, exemplars)
    random = torch.Generator().manual_seed(seed)
    sides = len(before), len(exemplars)

    def gain(times: list[Tensor]) -> Tensor:
        return _discrepancy(parts[0], *times) - _discrepancy(parts[1], *times)

    values = [gain([_times_drawn(count, random) for count in sides]) for _ in range(resamples)]
    return _interval(gain([torch.ones(count).double() for count in sides]), values)


def kernels(renderings: Tensor, exemplars: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Kernel among the renderings, among the exemplars, and across."""
    both = torch.cat([renderings, exemplars]).double().cpu()
    count = len(renderings)
    if count < 2 or len(exemplars) < 2:
        raise ValueError("style_distance needs at least two pictures on each side.")
    kernel = (both @ both.T / both.square().sum(1).mean() + 1) ** 3
    return kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]


def _interval(value: Tensor, resampled: list[Tensor]) -> Interval:
    low, high = torch.quantile(torch.stack(resampled), torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(float(value), min(low, float(value)), max(high, float(value)))


def _times_drawn(count: int, random: torch.Generator) -> Tensor:
    drawn = torch.randint(count, (count,), generator=random)
    return torch.bincount(drawn, minlength=count).double()


def _discrepancy(parts: tuple[Tensor, Tensor, Tensor], first: Tensor, second: Tensor) -> Tensor:
    """Unbiased squared discrepancy when each picture counts as often as it was drawn."""

    def within(kernel: Tensor, times: Tensor) -> Tensor:
        pairs = times[:, None] * times[None] * (1 - torch.eye(len(times), dtype=times.dtype))
        return (pairs * kernel).sum() / pairs.sum().clamp(min=1)

    across = (first @ parts[2] @ second) / (first.sum() * second.sum())
    return within(parts[0], first) + within(parts[1], second) - 2 * across
