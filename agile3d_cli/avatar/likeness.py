"""Landmarks + camera -> the shape of a person: first step of the inversion, in closed form and quick.

In: 468 landmarks of an aligned face and its camera. Out: the leading coordinates of z (shape, expression) and a small
displacement of its own that takes up what the linear shapes cannot reach. Everything later paints onto this shape.
Source: own; regularised fitting of a linear model as in Blanz and Vetter 1999, kernel ridge for the remainder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.deformation import Deformation, look_up
from agile3d_cli.models.generator import TriplaneGenerator

NOISE = 0.006
"""Expected error of a landmark, crop fractions: decides landmarks against the prior on z."""
ROUNDS = 40
KERNELS = (0.03, 0.08, 0.2)
"""Widths of the remainder's Gaussian kernels, world units."""
KERNEL_WEIGHTS = (0.25, 0.5, 1.0)
RIDGE = 0.08
SHARE = 0.85
"""How much of the remainder is taken up; the rest is landmark noise."""
LIMIT = 0.035
"""Largest remainder of one landmark, world units."""


@dataclass(frozen=True)
class Shape:
    """One person's geometry in canonical terms."""

    z: Tensor
    """(1, components) leading latent coordinates."""
    displacement: Tensor
    """(1, 3, G, G, G) world units, added to the generator's forward field."""
    error: float
    """Root mean square landmark distance left, crop fractions, before the displacement."""


def fit_shape(deformation: Deformation, landmarks: Tensor, mean: Tensor, label: Tensor, strength: float = 1.0) -> Shape:
    """Fits the linear shapes, then the remainder.

    Args:
        deformation: of the generator.
        landmarks: (468, 2 or 3) in crop fractions.
        mean: (468, 3) the landmarks on the mean head.
        label: (25,) camera of the crop.
        strength: share of the remainder's displacement, 0 to 1.
    """
    seen, label = landmarks[:, :2].to(mean), label.to(mean)
    basis = _basis_at(deformation, mean)
    z = torch.zeros(1, deformation.config.components, device=mean.device, requires_grad=True)
    with torch.enable_grad():
        optimizer = torch.optim.LBFGS([z], max_iter=ROUNDS, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            miss = _place(deformation, z, basis, mean, label) - seen
            # Robust: a few landmarks behind hair or glasses must not bend the face.
            distance = (miss / NOISE).square().sum(1)
            loss = torch.log1p(distance / 9).sum() * 9 / 8 + z.square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)
    z = z.detach()
    points = _points(deformation, z, basis, mean)
    miss = seen - camera.project(label[None], points[None])[0, :, :2]
    moved = _into_world(label, points, miss)
    moved = moved * (LIMIT / moved.norm(dim=1, keepdim=True).clamp(min=LIMIT))
    nodes = deformation.focus.nodes(deformation.config.grid).to(mean)
    displacement = strength * SHARE * spread(moved, mean, nodes)
    return Shape(z, displacement[None], float(miss.square().sum(1).mean().sqrt()))


def lead_of(shape: Shape | None, generator: TriplaneGenerator) -> Tensor:
    """Leading coordinates of z (1, components); without a whole mesh of landmarks the head keeps its mean shape."""
    like = next(generator.parameters())
    lead = torch.zeros(1, generator.config.deformation.components) if shape is None else shape.z
    return lead.to(like)


def landmarks_of(base: BaseModel, z: Tensor, label: Tensor) -> Tensor:
    """Exact landmarks (468, 3) of a latent z (1, z_dim) seen by a label (25,): u, v, relative depth; crop fractions."""
    points = landmark_points(base, z)
    place = camera.project(label[None], points[None])[0]
    focal = camera.split_label(label)[1][0, 0]
    middle = place[:, 2:].mean()
    return torch.cat([place[:, :2], (place[:, 2:] - middle) * focal / middle], 1)


def landmark_points(base: BaseModel, z: Tensor) -> Tensor:
    """World positions (468, 3) of the landmarks of a latent z (1, z_dim)."""
    assert base.landmarks is not None, "this generator has no landmarks"
    deformation = base.generator.deformation
    return _points(deformation, z, _basis_at(deformation, base.landmarks), base.landmarks)


def spread(moved: Tensor, anchors: Tensor, nodes: Tensor) -> Tensor:
    """Kernel ridge interpolation of displacements (P, 3) at anchors (P, 3) onto a grid's nodes (G, G, G, 3).

    Returns:
        (3, G, G, G).
    """
    gram = _kernel(anchors, anchors).double()
    weights = torch.linalg.solve(gram + RIDGE * torch.eye(len(anchors)).to(gram), moved.double())
    field = _kernel(nodes.reshape(-1, 3), anchors) @ weights.to(anchors)
    return field.T.reshape(3, *nodes.shape[:3])


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    distance = torch.cdist(a, b).square()
    parts = [k * torch.exp(-distance / (2 * s * s)) for k, s in zip(KERNEL_WEIGHTS, KERNELS, strict=True)]
    return sum(parts[1:], parts[0])


def _basis_at(deformation: Deformation, points: Tensor) -> Tensor:
    """Displacement of each component at canonical points (P, 3) -> (K, P, 3)."""
    place = deformation.focus.forward(points).expand(deformation.config.components, -1, -1)
    return look_up(deformation.basis, place)


def _points(deformation: Deformation, z: Tensor, basis: Tensor, mean: Tensor) -> Tensor:
    return mean + torch.einsum("k,kpc->pc", deformation.weights(z)[0], basis)


def _place(deformation: Deformation, z: Tensor, basis: Tensor, mean: Tensor, label: Tensor) -> Tensor:
    return camera.project(label[None], _points(deformation, z, basis, mean)[None])[0, :, :2]


def _into_world(label: Tensor, points: Tensor, miss: Tensor) -> Tensor:
    """World displacements (P, 3), parallel to the picture, that move the projections by ``miss`` (P, 2)."""
    matrix, intrinsic = camera.split_label(label)
    depth = camera.project(label[None], points[None])[0, :, 2:]
    focal = torch.stack([intrinsic[0, 0], intrinsic[1, 1]])
    return (miss * depth / focal) @ matrix[:3, :2].T
