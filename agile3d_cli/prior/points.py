"""Shards of pictures with depth -> points in the planes' space with their colour and whether they are solid.

Exact supervision in place of ray marching: behind a first hit matter is opaque and has the pixel's colour, in front
of it space is empty, and a ray that met nothing is empty all along. A point costs one field evaluation where a pixel
costs dozens, and speckles never form.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
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
FIELDS = ("z", "labels", "depth", "part", "pixels")
"""What is read of a shard, for each subject: (z_dim,), (V, 25), (V, S, S), (V, S, S), (V, S, S, 4)."""
BORDER = 2
"""Pixels around a part that are drawn with it."""
AROUND, BESIDE = 12, (2.3, 3.05)
"""Half of the rays that met nothing pass within so many pixels of the outline; their points lie so far from the camera,
where the head is."""
PAIRED, APART = 4, 0.006
"""One in so many empty points gets a neighbour, this far away in world units: matter should seldom begin in between."""
SKIN_OUT = 0.005
"""Colour is also asked this far in front of a hit, where a soft surface still counts."""
EVEN = 0.5
"""How much of what small parts are drawn too often is taken back by the weights of density and parts: 0 makes frames of
glasses broad as goggles, 1 leaves the thinnest out."""


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
    weight: Tensor
    """(B, S) of density and part at ``surface`` and at as many first points of ``empty``, which lie on the same rays;
    below 1 where a small part was drawn more often than it is seen."""
    empty: Tensor
    """(B, E, 3) empty points."""
    beside: Tensor
    """(B, E / PAIRED, 3) neighbours of every so many empty points, of which nothing else is known."""
    inside: Tensor
    """(B, I, 3) opaque points deep inside the head, without a colour."""


class HeadPoints:
    """All shards of a folder, in memory where the generator learns; the last ``held_out`` subjects are for judging."""

    def __init__(
        self, folder: Path, generator: TriplaneGenerator, interior: Tensor, held_out: int = 50, features: float = 0.2
    ):
        self.device, self.train = generator.deformation.basis.device, -held_out
        self._folder, self._read = folder, set[Path]()
        self._rows: list[dict[str, Tensor]] = []
        self._backward: dict[int, Tensor] = {}
        self._deformation, self._features = copy.deepcopy(generator.deformation), features
        self._interior = interior.to(self.device)
        self._order: tuple[tuple[int, int, int], Tensor] | None = None
        if not self.grow():
            raise FileNotFoundError(f"{folder} holds no heads-*.safetensors; run prior.subjects first")
        self.size = self._rows[0]["depth"].shape[-1]

    def grow(self) -> int:
        """Takes up the shards that the folder holds beside those known; how many subjects they hold.

        They are trained on; those that are kept for judging stay the same.
        """
        paths = sorted(set(self._folder.glob("heads-*.safetensors")) - self._read)
        shards = [load_file(path, str(self.device)) for path in paths]
        rows = [{name: shard[name][k] for name in FIELDS} for shard in shards for k in range(len(shard["z"]))]
        self._read |= set(paths)
        self._backward = {number: field for number, field in self._backward.items() if number < self.train}
        place = max(self.train, 0)
        self._rows[place:place] = rows
        self.train += len(rows)
        return len(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def view(self, subject: int, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """Picture (4, S, S) in [0, 1], depth (S, S) and label (25,)."""
        row = self._rows[subject]
        return row["pixels"][view].permute(2, 0, 1).float() / 255, row["depth"][view].float(), row["labels"][view]

    def latent(self, subject: int) -> Tensor:
        """The subject's z (z_dim,)."""
        return self._rows[subject]["z"]

    def at_step(self, step: int, size: int, points: int, seed: int) -> PointBatch:
        """The batch of a numbered step: ``size`` training subjects with ``points`` solid and as many empty points
        each. Every subject is seen once before one is seen again."""
        epoch, place = divmod(step, self.train // size)
        if self._order is None or self._order[0] != (seed, epoch, self.train):
            rng = torch.Generator().manual_seed(_mixed(seed, epoch))
            self._order = (seed, epoch, self.train), torch.randperm(self.train, generator=rng)
        subjects = self._order[1][place * size : (place + 1) * size].tolist()
        return self.batch(subjects, points, torch.Generator(self.device).manual_seed(_mixed(seed + 1, step)))

    def batch(self, subjects: list[int], points: int, rng: torch.Generator) -> PointBatch:
        """Points of the given subjects."""
        z, labels, depth, parts, pixels = (torch.stack([self._rows[i][name] for i in subjects]) for name in FIELDS)
        picks, misses, weight = self._picked(depth, parts, points, rng)
        flat = picks.shape[1]
        origin, direction = self._rays(labels, picks)
        t = depth.flatten(1).gather(1, picks).float()[..., None]
        random = torch.rand(len(subjects), flat, 3, generator=rng, device=self.device)
        near = t - 0.003 - 0.02 * random[..., :1]
        far = t - 0.02 - 0.5 * random[..., :1] ** 2
        offset = -SKIN_OUT + (BEHIND + SKIN_OUT) * random[..., 2:3]
        surface, solid = origin + direction * (t + offset), (offset[..., 0] > 0.001).float()
        front = origin + direction * torch.where(random[..., 1:2] < 0.6, near, far)
        empty = torch.cat([front, self._along(labels, misses, rng)], 1)
        backward = torch.stack([self.backward(i) for i in subjects]).float()
        with torch.no_grad():
            warp = self._deformation.to_canonical
            surface, empty = warp(surface, backward), warp(empty, backward)
        paired = empty[:, ::PAIRED]
        aside = torch.randn(paired.shape, generator=rng, device=self.device)
        beside = paired + APART * F.normalize(aside, dim=-1)
        deep = torch.randint(len(self._interior), (len(subjects), points // 8), generator=rng, device=self.device)
        colour = pixels.flatten(1, 3).gather(1, picks[..., None].expand(-1, -1, 4))[..., :3].float() / 255
        part = parts.flatten(1).gather(1, picks).long() - 1
        return PointBatch(z, surface, colour, part, solid, weight, empty, beside, self._interior[deep])

    @torch.no_grad()
    def backward(self, subject: int) -> Tensor:
        """The subject's displacement into canonical space (3, I, I, I), half precision, kept once made."""
        if subject not in self._backward:
            weights = self._deformation.weights(self.latent(subject)[None])
            self._backward[subject] = self._deformation.invert(self._deformation.displacement(weights))[0].half()
        return self._backward[subject]

    def _picked(self, depth: Tensor, parts: Tensor, points: int, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of pixels that were hit (B, S) and that were missed (B, M), and the weights of the former (B, S)."""
        hit = depth > 0
        close, wide = hit.clone(), hit.clone()
        close[:, CLOSE_VIEWS:], wide[:, :CLOSE_VIEWS] = False, False
        close, wide = close.flatten(1), wide.flatten(1)
        # Brows and lashes drawn without the skin between their hairs would be learnt too dense and too dark.
        seen = parts[:, :CLOSE_VIEWS]
        near = close[:, : seen[0].numel()]
        small = torch.stack([_grown(seen == part, BORDER).flatten(1) & near for part in FEATURES], 1)
        extra = int(points // 2 * self._features)
        picks = [_draw(close, points // 2 - extra, close, rng), _draw(wide, points - points // 2, close, rng)]
        picks.append(_draw_of_each(small, extra, near, rng))
        # How often a pixel of the close views was drawn, relative to chance.
        share, sizes = extra / (points // 2), small.sum(2, keepdim=True)
        own = (small / sizes.clamp(min=1)).sum(1) / (sizes > 0).sum(1).clamp(min=1)
        often = 1 - share + share * own * near.sum(1, keepdim=True)
        weight = torch.ones(close.shape, device=self.device)
        weight[:, : near.shape[1]] = often.clamp(min=1) ** -EVEN
        around = (_grown(depth > 0, AROUND) & ~hit).flatten(1)
        missed, near_misses = ~hit.flatten(1), points // 6
        misses = [_draw(around, near_misses, missed, rng), _draw(missed, points // 3 - near_misses, missed, rng)]
        drawn = torch.cat(picks, 1)
        return drawn, torch.cat(misses, 1), weight.gather(1, drawn)

    def _along(self, labels: Tensor, misses: Tensor, rng: torch.Generator) -> Tensor:
        """Points (B, M, 3) somewhere on rays that met nothing; those of the first half are where the head is."""
        origin, direction = self._rays(labels, misses)
        along = torch.rand(*misses.shape, 1, generator=rng, device=self.device)
        half = misses.shape[1] // 2
        along[:, :half] = BESIDE[0] + (BESIDE[1] - BESIDE[0]) * along[:, :half]
        along[:, half:] = 2.1 + 1.2 * along[:, half:]
        return origin + direction * along

    def _rays(self, labels: Tensor, picks: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and directions (B, P, 3) of pixels ``picks`` (B, P), counted through all views of a subject."""
        view, pixel = picks // self.size**2, picks % self.size**2
        u, v = (pixel % self.size + 0.5) / self.size, (pixel // self.size + 0.5) / self.size
        own = labels.gather(1, view[..., None].expand(-1, -1, labels.shape[-1])).flatten(0, 1)
        matrix, intrinsic = camera.split_label(own)
        origin, direction = camera.rays_through(matrix, intrinsic, torch.stack([u, v], -1).reshape(-1, 1, 2))
        return origin.reshape(*picks.shape, 3), direction.reshape(*picks.shape, 3)


def _mixed(seed: int, number: int) -> int:
    """A seed for each number."""
    return seed * 1_000_003 + number


def _grown(mask: Tensor, reach: int) -> Tensor:
    """Where a mask (..., S, S) is set within ``reach`` pixels along rows and columns."""
    grown = mask.clone()
    for along in (-2, -1):
        left = reach
        while left:
            # Shifts of what has grown already leave no gap, at a border neither, up to one more than it has grown.
            step = min(left, reach - left + 1)
            before, length = grown.clone(), grown.shape[along] - step
            grown.narrow(along, step, length).logical_or_(before.narrow(along, 0, length))
            grown.narrow(along, 0, length).logical_or_(before.narrow(along, step, length))
            left -= step
    return grown


def _draw(mask: Tensor, count: int, otherwise: Tensor, rng: torch.Generator) -> Tensor:
    """Numbers (B, count) of random set entries of each row of a mask (B, N), of another mask where a row has none."""
    until, other = mask.cumsum(1, dtype=torch.int32), otherwise.cumsum(1, dtype=torch.int32)
    random = torch.rand(len(mask), count, generator=rng, device=mask.device)
    found = torch.searchsorted(until, _nth(random, until))
    return torch.where(until[:, -1:] > 0, found, torch.searchsorted(other, _nth(random, other)))


def _draw_of_each(masks: Tensor, count: int, otherwise: Tensor, rng: torch.Generator) -> Tensor:
    """Numbers (B, count) of random set entries of masks (B, K, N), as many of each of a row's masks that have any."""
    drawn = torch.stack([_draw(mask, count, otherwise, rng) for mask in masks.unbind(1)], 1)
    there = masks.any(2)
    turn = torch.arange(count, device=masks.device) % there.sum(1, keepdim=True).clamp(min=1)
    which = there.int().argsort(dim=1, descending=True, stable=True).gather(1, turn)
    return drawn.gather(1, which[:, None])[:, 0]


def _nth(random: Tensor, until: Tensor) -> Tensor:
    """Random numbers (B, count) in [0, 1) as 1 ... the last of each row of ``until`` (B, N)."""
    total = until[:, -1:]
    return torch.minimum((random * total).int() + 1, total.clamp(min=1))
