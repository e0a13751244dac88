"""A head given by a formula: stands in for a generator in tests, benchmarks and self-checks, with known true values.

It keeps the world of ``camera.py``: chin at y = -0.23, crown at y = 0.39, nose towards +z, the neck cut by the box.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering

SKIN, HAIR, EYE, LIP = (0.86, 0.66, 0.55), (0.24, 0.13, 0.07), (0.10, 0.22, 0.42), (0.72, 0.25, 0.27)
SKULL = ((0.0, 0.08, -0.01), (0.19, 0.30, 0.22))
"""Centre and half axes, world units; so are the parts below."""
JAW = ((0.0, -0.09, 0.07), (0.13, 0.14, 0.15))
NOSE = ((0.0, 0.0, 0.225), (0.03, 0.06, 0.08))
EARS = (((0.195, 0.04, -0.03), (0.03, 0.06, 0.04)), ((-0.195, 0.04, -0.03), (0.03, 0.06, 0.04)))
MOP = ((0.0, 0.11, -0.04), (0.22, 0.28, 0.24))
EYES = ((0.084, 0.085, 0.19), (-0.084, 0.085, 0.19))
NECK = (-0.05, 0.11)
"""Axis (z) and radius of the upright neck, world units."""


class FormulaHead:
    """Skull, jaw, nose, ears, hair and neck from ellipsoids, solid inside with a soft edge.

    Args:
        density: inside, per world unit.
        softness: width of the edge, world units.
        floaters: centres of loose balls (radius 0.03) beside the head.
        hollows: centres of hollow balls (radius 0.05) inside it.
    """

    def __init__(
        self,
        density: float = 200.0,
        softness: float = 0.006,
        floaters: tuple[tuple[float, float, float], ...] = (),
        hollows: tuple[tuple[float, float, float], ...] = (),
    ) -> None:
        self.density = density
        self.softness = softness
        self.floaters = floaters
        self.hollows = hollows

    @property
    def box(self) -> float:
        """Half-width of the head's cube, world units."""
        return 0.5

    def distance(self, points: Tensor) -> Tensor:
        """About the distance (P,) from the surface, world units, negative inside."""
        parts = [self._skin(points), self._hair(points)]
        parts += [_ellipsoid(points, centre, (0.03,) * 3) for centre in self.floaters]
        solid = torch.stack(parts).amin(0)
        for centre in self.hollows:
            solid = torch.maximum(solid, -_ellipsoid(points, centre, (0.05,) * 3))
        return solid

    def field(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density (P,) per world unit and colour (P, 3) in [0, 1]."""
        density = self.density * torch.sigmoid(-self.distance(points) / self.softness)
        color = torch.tensor(SKIN).to(points).expand(len(points), 3)
        for mask, paint in (
            (self._hair(points) < self._skin(points), HAIR),
            (_ellipsoid(points, (0.0, -0.1, 0.2), (0.06, 0.018, 0.06)) < 0, LIP),
            (torch.stack([_ellipsoid(points, eye, (0.035, 0.018, 0.05)) for eye in EYES]).amin(0) < 0, (1.0,) * 3),
            (torch.stack([_ellipsoid(points, eye, (0.014, 0.014, 0.06)) for eye in EYES]).amin(0) < 0, EYE),
        ):
            color = torch.where(mask[:, None], torch.tensor(paint).to(points), color)
        return density, color

    def render(self, labels: Tensor, size: int, background: float = 1.0, samples: int = 96) -> Rendering:
        """Marches ``samples`` steps along each ray through the box."""
        start, end = camera.RADIUS - 0.8, camera.RADIUS + 0.8
        step = (end - start) / samples
        along = start + step * (torch.arange(samples) + 0.5)
        images, alphas, depths = [], [], []
        for origin, direction in zip(*camera.rays(labels, size, size), strict=True):
            points = origin[:, None] + along[:, None] * direction[:, None]
            density, color = self.field(points.reshape(-1, 3))
            outside = (points.abs() > self.box).any(-1)
            passed = density.reshape(-1, samples).masked_fill(outside, 0.0) * step
            weight = torch.exp(passed - passed.cumsum(1)) * -torch.expm1(-passed)
            alpha = weight.sum(1)
            mixed = (weight[..., None] * color.reshape(-1, samples, 3)).sum(1) * 2 - alpha[:, None]
            images.append((mixed + (1 - alpha[:, None]) * background).T.reshape(3, size, size))
            alphas.append(alpha.reshape(1, size, size))
            depths.append(((weight * along).sum(1) / alpha.clamp(min=1e-6)).reshape(1, size, size))
        return Rendering(torch.stack(images), torch.stack(alphas), torch.stack(depths))

    def _skin(self, points: Tensor) -> Tensor:
        neck = torch.hypot(points[:, 0], points[:, 2] - NECK[0]) - NECK[1]
        neck = torch.maximum(neck, points[:, 1] + 0.05)
        return torch.stack([neck, *(_ellipsoid(points, *part) for part in (SKULL, JAW, NOSE, *EARS))]).amin(0)

    def _hair(self, points: Tensor) -> Tensor:
        behind = 0.7 * points[:, 2] - 0.7 * (points[:, 1] - 0.16) - 0.02
        return torch.maximum(_ellipsoid(points, *MOP), behind)


def _ellipsoid(points: Tensor, centre: tuple[float, ...], axes: tuple[float, ...]) -> Tensor:
    """About the distance (P,) from an ellipsoid: exact on its surface, right in sign everywhere."""
    local = (points - torch.tensor(centre).to(points)) / torch.tensor(axes).to(points)
    far = local.norm(dim=-1)
    slope = (local / torch.tensor(axes).to(points)).norm(dim=-1)
    return far * (far - 1) / slope.clamp(min=1e-6)
