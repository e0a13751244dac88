"""Shards of pictures with depth -> points in the planes' space with their colour and whether they are solid.

Exact supervision in place of ray marching: behind a first hit matter is opaque and has the pixel's colour, in front
of it space is empty, and a ray that met nothing is empty all along. A point costs one field evaluation where a pixel
costs dozens, and speckles never form.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.models.generator import TriplaneGenerator

CLOSE_VIEWS = 5
"""The first views of a subject fill the picture with the face; half of the solid points come from them."""
BEHIND = 0.012
"""Depth of the opaque shell behind a hit, world units."""
FEATURES = tuple(1 + PARTS.index(name) for name in ("eyes", "iris", "brows", "lashes", "teeth", "glasses"))
"""Part labels of the small things that make a face; their regions are drawn alike often."""
BORDER = 2
"""Pixels around a part that are drawn with it."""
AROUND, BESIDE = 12, (2.3, 3.05)
"""Half of the rays that met nothing pass within so many pixels of the outline; their points lie so far from the camera,
where the head is."""
PAIRED, APART = 4, 0.006
"""One in so many empty points gets a neighbour, this far away in world units: matter should seldom begin in between."""
SKIN_OUT = 0.005
"""Colour is also asked this far in front of a hit, where a soft surface still counts."""


@dataclass(frozen=True)
class PointBatch:
    """P points of B subjects, in canonical space."""

    z: Tensor
    """(B, z_dim)."""
    surface: Tensor
    """(B, S, 3) near first hits, mostly behind them."""
    colour: Tensor
    """(B, S, 3) of the hits, in [0, 1]."""
    part: Tensor
    """(B, S) numbers of the parts of ``PARTS`` that were hit."""
    solid: Tensor
    """(B, S) 1 for points behind the hit, which are opaque; nothing is known of those in front."""
    empty: Tensor
    """(B, E, 3) empty points."""
    beside: Tensor
    """(B, E / PAIRED, 3) neighbours of every so many empty points, of which nothing else is known."""
    inside: Tensor
    """(B, I, 3) opaque points deep inside the head, without a colour."""

    def to(self, device: torch.device) -> PointBatch:
        """The same points there."""
        return PointBatch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


class HeadPoints:
    """All shards of a folder in memory; the last ``held_out`` subjects are kept for judging."""

    def __init__(
        self, folder: Path, generator: TriplaneGenerator, interior: Tensor, held_out: int = 50, features: float = 0.2
    ):
        shards = [load_file(path) for path in sorted(folder.glob("heads-*.safetensors"))]
        if not shards:
            raise FileNotFoundError(f"{folder} holds no heads-*.safetensors; run prior.subjects first")
        self.z = torch.cat([s["z"] for s in shards])
        self.labels = torch.cat([s["labels"] for s in shards])
        self._pixels = [row for s in shards for row in s["pixels"]]
        self._depth = [row for s in shards for row in s["depth"]]
        self._parts = [row for s in shards for row in s["part"]]
        # Points are made on the CPU, wherever the generator learns.
        self._deformation, self._interior, self._features = (
            copy.deepcopy(generator.deformation).cpu(),
            interior,
            features,
        )
        self._backward: dict[int, Tensor] = {}
        self.train = len(self.z) - held_out
        self.size = self._pixels[0].shape[1]

    def __len__(self) -> int:
        return len(self.z)

    def view(self, subject: int, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (4, S, S) in [0, 1], depth (S, S) and label (25,)."""
        pixels = self._pixels[subject][view].permute(2, 0, 1).float() / 255
        return pixels, self._depth[subject][view].float(), self.labels[subject, view]

    def batches(self, size: int, points: int, rng: torch.Generator) -> Iterator[PointBatch]:
        """Endless batches of ``size`` training subjects with ``points`` solid and as many empty points each."""
        while True:
            order = torch.randperm(self.train, generator=rng)
            for start in range(0, self.train - size + 1, size):
                yield self.batch([int(i) for i in order[start : start + size]], points, rng)

    def batch(self, subjects: list[int], points: int, rng: torch.Generator) -> PointBatch:
        """Points of the given subjects."""
        rows = [self._subject_points(i, points, rng) for i in subjects]
        surface, solid, empty, colour, part = (torch.stack(column) for column in zip(*rows, strict=True))
        backward = torch.stack([self.backward(i) for i in subjects]).float()
        with torch.no_grad():
            warp = self._deformation.to_canonical
            surface, empty = warp(surface, backward), warp(empty, backward)
        paired = empty[:, ::PAIRED]
        beside = paired + APART * F.normalize(torch.randn(paired.shape, generator=rng), dim=-1)
        inside = self._interior[torch.randint(len(self._interior), (len(subjects), points // 8), generator=rng)]
        return PointBatch(self.z[subjects], surface, colour, part, solid, empty, beside, inside)

    @torch.no_grad()
    def backward(self, subject: int) -> Tensor:
        """The subject's displacement into canonical space (3, I, I, I), half precision, kept once made."""
        if subject not in self._backward:
            weights = self._deformation.weights(self.z[subject : subject + 1])
            self._backward[subject] = self._deformation.invert(self._deformation.displacement(weights))[0].half()
        return self._backward[subject]

    def _subject_points(self, subject: int, points: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        pixels, depth, labels = self._pixels[subject], self._depth[subject], self.labels[subject]
        hit = depth.reshape(len(labels), -1) > 0
        around = _grown(depth > 0, AROUND).reshape(hit.shape)
        close, wide = hit.clone(), hit.clone()
        close[CLOSE_VIEWS:], wide[:CLOSE_VIEWS] = False, False
        regions = [self._region(subject, part) & close[:CLOSE_VIEWS] for part in FEATURES]
        small = [region for region in regions if bool(region.any())]
        each = int(points // 2 * self._features) // len(small) if small else 0
        drawn = [_draw(close, points // 2 - each * len(small), rng), _draw(wide, points - points // 2, rng)]
        picks = torch.cat(drawn + [_draw(mask, each, rng) for mask in small])
        near_misses = points // 6
        misses = torch.cat([_draw(~hit & around, near_misses, rng), _draw(~hit, points // 3 - near_misses, rng)])
        origin, direction = self._rays(labels, picks)
        t = depth.reshape(-1)[picks].float()[:, None]
        random = torch.rand(len(picks), 3, generator=rng)
        near = t - 0.003 - 0.02 * random[:, :1]
        far = t - 0.02 - 0.5 * random[:, :1] ** 2
        offset = -SKIN_OUT + (BEHIND + SKIN_OUT) * random[:, 2:3]
        surface, solid = origin + direction * (t + offset), (offset[:, 0] > 0.001).float()
        front = origin + direction * torch.where(random[:, 1:2] < 0.6, near, far)
        origin, direction = self._rays(labels, misses)
        along = torch.rand(len(misses), 1, generator=rng)
        along[:near_misses] = BESIDE[0] + (BESIDE[1] - BESIDE[0]) * along[:near_misses]
        along[near_misses:] = 2.1 + 1.2 * along[near_misses:]
        empty = torch.cat([front, origin + direction * along])
        colour = pixels.reshape(-1, 4)[picks, :3].float() / 255
        part = self._parts[subject].reshape(-1)[picks].long() - 1
        return surface, solid, empty, colour, part

    def _region(self, subject: int, part: int) -> Tensor:
        """Where a part is in the close views, (CLOSE_VIEWS, S * S), and what is next to it: brows and lashes drawn
        without the skin between their hairs would be learnt too dense and too dark."""
        return _grown(self._parts[subject][:CLOSE_VIEWS] == part, BORDER).flatten(1)

    def _rays(self, labels: Tensor, picks: Tensor) -> tuple[Tensor, Tensor]:
        view, pixel = picks // self.size**2, picks % self.size**2
        u, v = (pixel % self.size + 0.5) / self.size, (pixel // self.size + 0.5) / self.size
        matrix, intrinsic = camera.split_label(labels[view])
        origin, direction = camera.rays_through(matrix, intrinsic, torch.stack([u, v], -1)[:, None])
        return origin[:, 0], direction[:, 0]


def _grown(mask: Tensor, reach: int) -> Tensor:
    """Where a mask (V, S, S) is set within ``reach`` pixels along rows and columns."""
    grown = mask.clone()
    for along in (1, 2):
        left = reach
        while left:
            # Shifts of what has grown already leave no gap, at a border neither, up to one more than it has grown.
            step = min(left, reach - left + 1)
            before, length = grown.clone(), grown.shape[along] - step
            grown.narrow(along, step, length).logical_or_(before.narrow(along, 0, length))
            grown.narrow(along, 0, length).logical_or_(before.narrow(along, step, length))
            left -= step
    return grown


def _draw(mask: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Flat numbers of ``count`` random set entries of a mask."""
    options = mask.reshape(-1).nonzero()[:, 0]
    return options[torch.randint(len(options), (count,), generator=rng)]
