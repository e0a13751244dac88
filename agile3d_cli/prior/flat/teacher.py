"""Base generator -> many pictures of random heads with their codes: what the flat prior learns from.

On a processor heads are drawn one by one by ``GeneratorHead``, which looks only where something is. An accelerator
draws several at once in half precision, asking every ray equally often, so that nothing waits for a count.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.render import AROUND, BEFORE, BEYOND, FULL, SEEN, SOLID, GeneratorHead
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.triplane import plane_features
from agile3d_cli.models.volume import composite, importance_depths, interval_weights, matter_colour, spread_depths
from agile3d_cli.prior.flat.code import camera_labels, flat_code
from agile3d_cli.style.faces import BACKGROUND

HEADS = 16
"""Drawn at once on an accelerator."""
GUIDE, GUIDE_SAMPLES, PROBES, FINE_SAMPLES = 80, 64, 16, 12
"""Nodes per axis of the density grid, depths at which it is asked along a ray and then where it met something, depths
at which the generator is asked."""
EDGE_SHARE, EDGE_SAMPLES = 0.1, 32
"""Share of the rays that look again, and at how many depths."""
GROWTH = 40
"""Steps in which the head's main part is gathered from its middle outwards, cells of two nodes."""
MIDDLE = 0.12
"""Half-width of the cube that surely holds some of the head's main part, world units."""


@dataclass
class Pool:
    """Pictures with the codes that made them, on the device that trains."""

    codes: Tensor
    """(N, w_dim)."""
    pictures: Tensor
    """(N, 4, S, S) uint8: colour over the grey of ``BACKGROUND``, and coverage."""

    def __len__(self) -> int:
        return len(self.codes)

    def split(self, count: int) -> tuple[Pool, Pool]:
        """The first pictures, and the others."""
        first, others = slice(count), slice(count, None)
        return Pool(self.codes[first], self.pictures[first]), Pool(self.codes[others], self.pictures[others])

    @property
    def size(self) -> int:
        """Edge of the pictures, pixels."""
        return self.pictures.shape[-1]

    def take(self, rows: Tensor | slice, size: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Codes (B, w_dim), pictures (B, 3, S, S) in [-1, 1] and coverage (B, 1, S, S) in [0, 1] of some rows, reduced
        to ``size`` where it is given."""
        shown = self.pictures[rows].float() / 255
        if size is not None and size != self.size:
            shown = F.interpolate(shown, (size, size), mode="area")
        return self.codes[rows], shown[:, :3] * 2 - 1, shown[:, 3:]


class Teacher:
    """Draws random heads seen by random cameras."""

    def __init__(self, generator: TriplaneGenerator, size: int, spread: float, many: bool | None = None):
        self._generator, self._size, self._spread = generator, size, spread
        self._device = next(generator.parameters()).device
        self.many = self._device.type != "cpu" if many is None else many
        """Whether several heads are drawn at once."""
        self._type = torch.float32 if self._device.type == "cpu" else torch.float16
        self._decoder = copy.deepcopy(generator.decoder).to(self._type)

    def latents(self, count: int, rng: torch.Generator) -> Tensor:
        """Random z (count, z_dim), ``rng`` being on the generator's device."""
        width = self._generator.config.z_dim
        return self._spread * torch.randn(count, width, generator=rng, device=self._device)

    @torch.no_grad()
    def known(self, z: Tensor) -> Tensor:
        """What the generator itself makes of z (N, z_dim), (N, numbers): shape weights, traits, and what is chosen."""
        config, mapping = self._generator.config, self._generator.mapping
        looks = mapping(z)[:, 0, config.w_dim - config.traits.count - config.choices.features :]
        return torch.cat([self._generator.deformation.weights(z), looks], 1) if self._generator.deforms else looks

    @torch.no_grad()
    def draw(self, count: int, rng: torch.Generator) -> Pool:
        """``count`` heads; the same state of ``rng`` gives the same."""
        z = self.latents(count, rng)
        labels = camera_labels(torch.randn(count, 2, generator=rng, device=self._device))
        if self.many:
            images, alphas = self._drawn(z, labels)
        else:
            heads = (GeneratorHead(self._generator, self._generator.from_latent(row[None])) for row in z)
            views = [
                head.render(label[None], self._size, BACKGROUND) for head, label in zip(heads, labels, strict=True)
            ]
            images, alphas = torch.cat([view.image for view in views]), torch.cat([view.alpha for view in views])
        shown = torch.cat([(images + 1) / 2, alphas], 1).clamp(0, 1)
        return Pool(flat_code(z, labels, self._spread), (shown * 255 + 0.5).to(torch.uint8))

    def fill(self, most: int, seconds: float, rng: torch.Generator) -> Pool:
        """As many pictures as fit into the time, at least one batch and at most ``most``."""
        parts: list[Pool] = []
        start, count = time.monotonic(), 0
        while count < most and (not parts or time.monotonic() - start < seconds):
            parts.append(self.draw(min(HEADS, most - count), rng))
            count += len(parts[-1])
            if self._device.type == "cuda" and len(parts) % 4 == 0:
                # The processor must not run ahead of the clock.
                torch.cuda.synchronize(self._device)
        return Pool(torch.cat([part.codes for part in parts]), torch.cat([part.pictures for part in parts]))

    def _drawn(self, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures (N, 3, S, S) over the grey and coverage (N, 1, S, S)."""
        config, size = self._generator.config, self._size
        subject = self._generator.from_latent(z)
        planes = subject.planes.to(self._type)
        guide = self._guide(subject, planes)
        origin, direction = camera.rays(labels, size, size)
        coarse = spread_depths(config.near, config.far, GUIDE_SAMPLES, origin)
        density = _guided(guide, origin, direction, coarse, config.box)
        weights = interval_weights(density, coarse)
        met = weights.sum(-1) > SEEN
        probes = importance_depths(coarse, weights, PROBES) + torch.linspace(-AROUND, AROUND, PROBES).to(coarse)
        weights = interval_weights(_guided(guide, origin, direction, probes, config.box), probes)
        depths = importance_depths(probes, weights, FINE_SAMPLES)
        depths = depths + torch.linspace(-BEFORE, BEYOND, FINE_SAMPLES).to(depths)
        pixels = self._shaded(subject, planes, guide, origin, direction, depths)
        # At an outline the guide may hide what lies behind a near miss: the rays that most is missing of look again.
        weak = (met * (FULL - pixels[..., 3])).topk(int(EDGE_SHARE * size * size), 1).indices[..., None]
        origin, direction = origin.gather(1, weak.expand(-1, -1, 3)), direction.gather(1, weak.expand(-1, -1, 3))
        coarse, density = (
            rows.gather(1, weak.expand(-1, -1, GUIDE_SAMPLES)) for rows in (coarse, density.clamp(max=1))
        )
        depths = importance_depths(coarse, _widened((density[..., 1:] + density[..., :-1]) / 2), EDGE_SAMPLES)
        again = self._shaded(subject, planes, guide, origin, direction, depths)
        shown = pixels.scatter(1, weak.expand(-1, -1, 4), again).transpose(1, 2).reshape(-1, 4, size, size)
        rgb, alpha = shown[:, :3], shown[:, 3:]
        return 2 * rgb - alpha + (1 - alpha) * BACKGROUND, alpha

    def _shaded(
        self, subject: Subject, planes: Tensor, guide: Tensor, origin: Tensor, direction: Tensor, depths: Tensor
    ) -> Tensor:
        """Colour times coverage, and coverage (N, R, 4), of rays (N, R, 3) asked at depths (N, R, S)."""
        there = _guided(guide, origin, direction, depths, self._generator.config.box) > 0
        points = origin[:, :, None] + direction[:, :, None] * depths[..., None]
        density, colour = self._field(subject, planes, points.flatten(1, 2))
        density = density.reshape(depths.shape) * there
        pixels = composite(density, matter_colour(density, colour.reshape(*depths.shape, -1)), depths)
        return torch.cat([pixels.colour[..., :3], pixels.alpha[..., None]], -1)

    def _field(self, subject: Subject, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """``TriplaneGenerator.field`` at points (N, P, 3) with the planes and the decoder in their own precision."""
        raw, inside = self._raw(subject, planes, points)
        raw = raw.float()
        tone = None if subject.palette is None else self._decoder.tone(raw, subject.palette)
        return self._decoder.density(raw[..., 0]) * inside, self._decoder.colour(raw, tone)

    def _raw(self, subject: Subject, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's raw output (N, P, ...) at points (N, P, 3), and whether the field reaches there (N, P)."""
        generator = self._generator
        config = generator.config
        inside = points.abs().amax(-1) < config.box / 2
        place = generator.deformation.focus.forward(generator.to_canonical(subject, points))
        if config.border:
            inside = inside & (place.abs().amax(-1) < 1 - 2 * config.border / config.plane_size)
        return self._decoder.raw(plane_features(planes, place.to(planes.dtype), config.plane_axes)), inside

    def _guide(self, subject: Subject, planes: Tensor) -> Tensor:
        """Density of the head's main part on a regular grid (N, 1, G, G, G), indexed [z, y, x]."""
        half = self._generator.config.box / 2
        line = torch.linspace(-half, half, GUIDE, device=planes.device)
        z, y, x = torch.meshgrid(line, line, line, indexing="ij")
        points = torch.stack([x, y, z], -1).reshape(1, -1, 3) * (1 - 1e-4)
        raw, inside = self._raw(subject, planes, points.expand(len(planes), -1, -1))
        density = self._decoder.density(raw[..., 0].float()) * inside
        guide = density.reshape(-1, 1, GUIDE, GUIDE, GUIDE)
        solid = (guide > SOLID).to(guide)
        cells = F.max_pool3d(solid, 2)
        part = cells * F.max_pool3d((points[0].abs().amax(-1) < MIDDLE).to(guide).reshape(1, *guide.shape[1:]), 2)
        for _ in range(GROWTH):
            part = F.max_pool3d(part, 3, 1, 1) * cells
        part = solid * F.interpolate(part, scale_factor=2.0)
        return guide * (F.max_pool3d(part, 3, 1, 1) > 0)


def _guided(guide: Tensor, origin: Tensor, direction: Tensor, depths: Tensor, box: float) -> Tensor:
    """Density from the grid along rays (N, R, 3) at depths (N, R, S), (N, R, S)."""
    points = (origin[:, :, None] + direction[:, :, None] * depths[..., None]) * (2 / box)
    return F.grid_sample(guide, points[:, :, :, None], align_corners=True)[:, 0, :, :, 0]


def _widened(weights: Tensor) -> Tensor:
    """Lets an interval's neighbours take part, as the grid is coarse: (N, R, S) -> (N, R, S)."""
    return F.max_pool1d(weights, 3, 1, 1) + 0.01 * weights.amax(-1, keepdim=True)
