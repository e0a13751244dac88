"""Generator + subject + cameras -> views, fast enough for a plain CPU.

A coarse density grid is made once per subject and guides every ray: the generator itself is only asked at the few
depths where the grid says there is something. The plain two-pass renderer beside it (``render_plain``) is what the
fast path is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import label as label_parts
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.contour import with_contour
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.avatar.relief import Relief
from agile3d_cli.models.contour import Contour
from agile3d_cli.models.generator import Look, Subject, TriplaneGenerator
from agile3d_cli.models.volume import (
    TINY,
    composite,
    importance_depths,
    interval_weights,
    matter_colour,
    matter_share,
    sample_shares,
    spread_depths,
)

GUIDE = 96
"""Nodes per axis of the guiding density grid."""
GUIDE_COARSE = 4
"""The grid is evaluated around occupied nodes of a grid this many times coarser."""
PASSING_SAMPLES, GUIDE_SAMPLES, PROBES = 20, 20, 8
"""Depths along a ray at which the guide is asked: whether it passes the head and how deep it can be seen into, where in
between it meets something, and where exactly."""
FINE_SAMPLES = 8
"""Depths at which the generator is asked."""
AROUND, BEFORE, BEYOND = 0.01, 0.005, 0.018
"""World units by which probes reach around what the guide met, and by which the generator is asked before and behind
it: between its nodes the guide is fuller than the generator."""
SOLID, OPAQUE = 8.0, 60.0
"""Density from which a node of the guide is part of something, and from which nothing is seen behind a cell of them."""
FULL, WIDE = 0.98, 0.06
"""A ray is looked at again where its alpha is below the first, or where its depths lie over more than the second, world
units: then they belong to several surfaces and are too few for each."""
EDGE_GUIDE, EDGE_SAMPLES = 40, 24
"""The same for rays that are looked at again: depths in the guide and in the generator. The latter are 0.004 to 0.008
apart where a head begins: a lip or a lock is 0.015 thick, and if it were stepped over, teeth or skin would show."""
VEIL = 5.0
"""Density that the guide has for them at most, so that what is behind a near miss is asked for as well."""
SEEN = 2e-3
"""Coarse alpha below which a ray counts as background."""
FAINT = 5e-4
"""Part of a ray from which a sample's colour is made: FINE_SAMPLES of less cannot change a pixel by a grey level."""
CHUNK = 1 << 17
"""Points evaluated at a time."""
RAYS = 1 << 14
"""Rays handled at a time."""


class GeneratorHead:
    """One head of a generator as a ``Head``. Holds caches, so make one per subject and keep it.

    A style's contour is drawn on its views; the field knows nothing of it. Its light is part of all colours.
    """

    def __init__(
        self, generator: TriplaneGenerator, subject: Subject, contour: Contour | None = None, light: float = 0.0
    ):
        """``light`` is how strong the style's is, 0 for none."""
        self._generator, self._subject, self._contour, self._light = generator, subject, contour, light
        self._outlines_hair = contour is not None and contour.hair > 0 and generator.config.parts > 0
        self._guide = self._make_guide()
        self._cells = self._make_cells()
        self._relief = Relief(self._guide, self.box) if light else None

    @property
    def box(self) -> float:
        """Half-width of the cube that holds everything, world units."""
        return self._generator.config.box / 2

    @property
    def subject(self) -> Subject:
        """Planes and deformation."""
        return self._subject

    @torch.no_grad()
    def field(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density (P,) per world unit and colour (P, 3) in [0, 1] at world points (P, 3)."""
        points = points.to(self._subject.planes)
        parts = [self._generator.field(self._subject, block[None]) for block in points.split(CHUNK)]
        density = torch.cat([d[0] for d, _ in parts])
        return density, self._lit(torch.cat([c[0, :, :3] for _, c in parts]), points)

    @torch.no_grad()
    def density(self, points: Tensor) -> Tensor:
        """``field`` without its colours, (P,)."""
        points = points.to(self._subject.planes)
        return torch.cat([self._generator.look(self._subject, part[None]).density[0] for part in points.split(CHUNK)])

    @torch.no_grad()
    def render(self, labels: Tensor, size: int, background: float = 1.0) -> Rendering:
        """Views (N, 3, size, size) of labels (N, 25) on a plain background grey in [-1, 1]."""
        views = [self._view(label[None].to(self._subject.planes), size) for label in labels]
        colour, alpha, depth = (torch.cat(column) for column in zip(*views, strict=True))
        image = (2 * colour[:, :3] - alpha) + (1 - alpha) * background
        seen = Rendering(image.clamp(-1, 1), alpha, depth)
        if self._contour is None:
            return seen
        return with_contour(seen, self._contour, background, colour[:, 3:] if self._outlines_hair else None)

    def _view(self, label: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
        origins, directions = camera.rays(label, size, size)
        channels = 3 + self._outlines_hair
        colour = torch.zeros(size * size, channels).to(label)
        alpha = torch.zeros(size * size).to(label)
        depth = torch.full((size * size,), self._generator.config.far).to(label)
        for start in range(0, size * size, RAYS):
            block = slice(start, start + RAYS)
            self._rays(origins[0, block], directions[0, block], colour[block], alpha[block], depth[block])
        shape = (1, 1, size, size)
        return colour.T.reshape(1, channels, size, size), alpha.reshape(shape), depth.reshape(shape)

    def _rays(self, origin: Tensor, direction: Tensor, colour: Tensor, alpha: Tensor, depth: Tensor) -> None:
        """Fills ``colour`` (R, 3 or 4), ``alpha`` (R,) and ``depth`` (R,) in place for rays (R, 3)."""
        for seen, depths in self.looks(origin, direction, alpha):
            self._shade(seen, depths, origin, direction, colour, alpha, depth)

    def _shade(
        self,
        chosen: Tensor,
        depths: Tensor,
        origin: Tensor,
        direction: Tensor,
        colour: Tensor,
        alpha: Tensor,
        depth: Tensor,
    ) -> None:
        """Asks the field at ``depths`` (n, S) of the ``chosen`` rays (n,) and fills in their pixels."""
        if not len(chosen):
            return
        shape = depths.shape
        # Where the guide is empty there is nothing, or something that floats apart.
        there = self._guided(origin[chosen], direction[chosen], depths) > 0
        # The neighbours are asked as well, for an interval takes its colour from both ends.
        asked = F.max_pool1d(there.float(), 3, 1, 1).reshape(-1).nonzero()[:, 0]
        points = (origin[chosen, None] + direction[chosen, None] * depths[..., None]).reshape(-1, 3)
        asked_points = points[asked].split(CHUNK)
        looks = [self._generator.look(self._subject, part[None]) for part in asked_points]
        found = torch.cat([look.density[0] for look in looks]) if looks else points[:0, 0]
        density = depths.new_zeros(len(points)).index_copy(0, asked, found).reshape(shape) * there
        pixels = composite(density[None], density.new_zeros(1, *shape, 0), depths[None])
        # A pixel is a sum over samples: those without a share in it need no colour.
        share = matter_share(density, sample_shares(pixels.weights[0]))
        # What the others would have given is spread over the rest of the ray.
        whole = share.sum(1, keepdim=True)
        clear = share * (share > FAINT * whole)
        share = (clear * (whole / clear.sum(1, keepdim=True).clamp(min=TINY))).reshape(-1)[asked]
        total = depths.new_zeros(shape[0], colour.shape[1])
        rows = (share.split(CHUNK), (asked // shape[1]).split(CHUNK), asked_points)
        for look, own, rays, places in zip(looks, *rows, strict=True):
            kept = own.nonzero()[:, 0]
            total.index_add_(0, rays[kept], own[kept, None] * self._colours(look.at(kept), places[kept]))
        colour[chosen], alpha[chosen], depth[chosen] = total, pixels.alpha[0], pixels.depth[0]

    def _colours(self, look: Look, points: Tensor) -> Tensor:
        """RGB (P, 3) of what was looked at in world points (P, 3); where hair gets a line, how much of it is hair as
        well, (P, 4)."""
        seen = self._lit(self._generator.colours(self._subject, look)[0, :, :3], points)
        return torch.cat([seen, self._generator.hair(look).T], 1) if self._outlines_hair else seen

    def _lit(self, colours: Tensor, points: Tensor) -> Tensor:
        """Colours (P, 3) at world points (P, 3) as they are in the style's light, in [0, 1]."""
        if self._relief is None:
            return colours.clamp(0, 1)
        return (colours.clamp(min=0) * torch.exp(self._light * self._relief(points))[:, None]).clamp(max=1)

    def looks(self, origin: Tensor, direction: Tensor, alpha: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Twice: which of the rays (R, 3) to ask for, (n,), and the depths (n, S) at which to ask the field.

        Whoever asks fills in ``alpha`` (R,), zero before, how much of each ray the head covers: rays that the first
        look leaves weak are asked for again, for at an edge the guide may hide what lies behind a near miss, or its
        depths may step over what is thin.
        """
        near, start, end = self._reach(origin, direction)
        seen, depths = self._depths(origin, direction, near, start, end)
        close = depths[:, -1] - depths[:, 0] < WIDE
        yield seen[close], depths[close]
        weak = alpha[near] < FULL
        yield self._depths_again(origin, direction, near[weak], start[weak], end[weak])

    def _depths(
        self, origin: Tensor, direction: Tensor, near: Tensor, start: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The first look at the rays ``near`` (m,) between ``start`` and ``end`` (m, 1)."""
        coarse = spread_depths(start, end, GUIDE_SAMPLES, origin[near])
        weights = interval_weights(self._guided(origin[near], direction[near], coarse), coarse)
        dense = weights.sum(-1) > SEEN
        seen, coarse, weights = near[dense], coarse[dense], weights[dense]
        probes = importance_depths(coarse, weights, PROBES) + torch.linspace(-AROUND, AROUND, PROBES).to(coarse)
        weights = interval_weights(self._guided(origin[seen], direction[seen], probes), probes)
        fine = importance_depths(probes, weights, FINE_SAMPLES)
        return seen, fine + torch.linspace(-BEFORE, BEYOND, FINE_SAMPLES).to(fine)

    def _depths_again(
        self, origin: Tensor, direction: Tensor, near: Tensor, start: Tensor, end: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The second, (n,) and (n, EDGE_SAMPLES): along all the guide holds, mostly in front."""
        coarse = spread_depths(start, end, EDGE_GUIDE, origin[near])
        weights = interval_weights(self._guided(origin[near], direction[near], coarse).clamp(max=VEIL), coarse)
        dense = weights.sum(-1) > SEEN
        return near[dense], importance_depths(coarse[dense], _widen(weights[dense]), EDGE_SAMPLES)

    def _reach(self, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which of the rays (R, 3) pass near the head, (n,), and the depths (n, 1) where that begins and where they are
        out of it again or hidden in it."""
        config = self._generator.config
        depths = spread_depths(config.near, config.far, PASSING_SAMPLES, origin)
        points = (origin[:, None] + direction[:, None] * depths[..., None]) / self.box
        found = F.grid_sample(self._cells, points[None, :, :, None], "nearest", align_corners=False)[0, :, :, :, 0]
        near = found[0].any(1).nonzero()[:, 0]
        close, opaque = found[:, near]
        first, last = close.argmax(1), PASSING_SAMPLES - 1 - close.flip(1).argmax(1)
        last = torch.where(opaque.any(1), opaque.argmax(1), last)
        step = (config.far - config.near) / PASSING_SAMPLES
        ends = depths[near].gather(1, torch.stack([first, last], 1))
        return near, ends[:, :1] - step, ends[:, 1:] + step

    def _guided(self, origin: Tensor, direction: Tensor, depths: Tensor) -> Tensor:
        """Density from the guide, rays (R, 3) and depths (R, S) -> (R, S)."""
        points = (origin[:, None] + direction[:, None] * depths[..., None]) / self.box
        return F.grid_sample(self._guide, points[None, :, :, None], align_corners=True)[0, 0, :, :, 0]

    def _make_cells(self) -> Tensor:
        """Cells of four nodes (1, 2, G / 4, G / 4, G / 4): whether they or a neighbour hold anything, so that no two
        depths of PASSING_SAMPLES step over them, and whether nothing shows through them."""
        close = F.max_pool3d(F.max_pool3d((self._guide > 0).float(), 4), 3, 1, 1)
        return torch.cat([close, -F.max_pool3d(-(self._guide > OPAQUE).float(), 4)], 1)

    @torch.no_grad()
    def _make_guide(self) -> Tensor:
        """Density on a regular grid (1, 1, G, G, G) indexed [z, y, x], zero away from the head."""
        few = GUIDE // GUIDE_COARSE
        coarse = self._grid_density(_nodes(few, self.box, self._subject.planes).reshape(-1, 3))
        coarse = coarse.reshape(1, 1, few, few, few)
        near = F.max_pool3d((coarse > 1).float(), 3, 1, 1)
        wanted = F.interpolate(near, size=(GUIDE, GUIDE, GUIDE), mode="trilinear", align_corners=True).reshape(-1) > 0
        guide = torch.zeros(GUIDE**3).to(self._subject.planes)
        guide[wanted] = self._grid_density(_nodes(GUIDE, self.box, guide).reshape(-1, 3)[wanted])
        return _largest_part(guide.reshape(1, 1, GUIDE, GUIDE, GUIDE))

    def _grid_density(self, points: Tensor) -> Tensor:
        # The outermost nodes lie on the box, where the field ends; they are asked a hair inside.
        return self.density(points * (1 - 1e-4))


@torch.no_grad()
def render_plain(generator: TriplaneGenerator, subject: Subject, labels: Tensor, size: int) -> Rendering:
    """The same pictures by two full passes of the generator along every ray, on black: slow and simple."""
    config = generator.config
    origin, direction = camera.rays(labels, size, size)
    coarse = spread_depths(config.near, config.far, config.coarse_samples, origin)
    density, _ = _along(generator, subject, origin, direction, coarse)
    fine = importance_depths(coarse, interval_weights(density, coarse), config.fine_samples)
    depths = torch.sort(torch.cat([coarse, fine], -1), -1).values
    density, colour = _along(generator, subject, origin, direction, depths)
    pixels = composite(density, matter_colour(density, colour), depths)
    shape = (len(labels), 1, size, size)
    alpha = pixels.alpha.reshape(shape)
    image = 2 * pixels.colour[..., :3].transpose(1, 2).reshape(len(labels), 3, size, size) - 1
    return Rendering(image, alpha, pixels.depth.reshape(shape))


def _along(
    generator: TriplaneGenerator, subject: Subject, origin: Tensor, direction: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor]:
    points = origin[..., None, :] + direction[..., None, :] * depths[..., None]
    density, features = generator.field(subject, points.flatten(1, 2))
    return density.reshape(depths.shape), features.reshape(*depths.shape, -1)


def _nodes(size: int, half_width: float, like: Tensor) -> Tensor:
    line = torch.linspace(-half_width, half_width, size, device=like.device, dtype=like.dtype)
    z, y, x = torch.meshgrid(line, line, line, indexing="ij")
    return torch.stack([x, y, z], -1)


def _largest_part(guide: Tensor) -> Tensor:
    """The density grid without what floats apart from the head."""
    solid = guide[0, 0].cpu().numpy() > SOLID
    parts, count = label_parts(solid)
    if count < 2:
        return guide
    largest = 1 + int(np.bincount(parts.ravel())[1:].argmax())
    kept = torch.from_numpy(parts == largest).to(guide)[None, None]
    return guide * (F.max_pool3d(kept, 3, 1, 1) > 0)


def _widen(weights: Tensor) -> Tensor:
    """Lets a ray's neighbouring intervals take part, as the guide is coarse: (R, S) -> (R, S)."""
    padded = F.pad(weights, (1, 1))
    return torch.maximum(torch.maximum(padded[:, :-2], padded[:, 2:]), weights) + 0.01 * weights.amax(-1, keepdim=True)
