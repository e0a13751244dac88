"""Base generator -> realistic faces whose latent, camera and landmarks are known exactly.

Source: AgileGAN3D (arXiv 2303.14297), style prior creation: the stylizer's inputs come from the 3D generator itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.avatar.likeness import landmarks_of
from agile3d_cli.avatar.published_head import PublishedHead, sampled_styles
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.errors import PhotoError
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.style.measure import face_mesh
from agile3d_cli.stylizer import FaceBatch

YAW, PITCH = 0.32, 0.12
"""Spread of the sampled cameras: uniform within +-YAW, normal with PITCH, radians."""
TRUNCATION = 0.8
"""Share of the latent's normal spread; the far tails teach a style little."""
TRIES = 20
"""Heads of an imported generator that are drawn until a face is found in one."""
BACKGROUND = 0.55
"""Grey behind the faces, in [-1, 1]."""


@dataclass(frozen=True)
class KnownFaces:
    """Pictures of the base generator with all that made them, on the CPU."""

    z: Tensor
    """(N, z_dim)."""
    labels: Tensor
    """(N, 25)."""
    images: Tensor
    """(N, 3, S, S) in [-1, 1]."""
    alphas: Tensor
    """(N, 1, S, S)."""
    landmarks: Tensor
    """(N, 468, 3) crop fractions."""


class GeneratorFaces:
    """Draws faces from a base model; a ``FaceSampler`` for stylizers."""

    def __init__(self, base: BaseModel, size: int):
        self._base, self._size = base, size

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        """Faces as stylizers see them."""
        faces = self.draw(count, generator)
        return FaceBatch(faces.images, faces.labels, faces.landmarks)

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator) -> KnownFaces:
        """Faces with their latents; the same state of ``generator`` gives the same faces.

        Raises:
            PhotoError: an imported generator draws no faces.
        """
        return KnownFaces(*(torch.cat(row) for row in zip(*(self._face(generator) for _ in range(count)), strict=True)))

    def _face(self, generator: torch.Generator) -> list[Tensor]:
        """The parts of one ``KnownFaces``."""
        like = next(self._base.generator.parameters())
        for _ in range(TRIES):
            z = TRUNCATION * torch.randn(1, self._base.generator.config.z_dim, generator=generator)
            yaw = YAW * (2 * float(torch.rand((), generator=generator)) - 1)
            pitch = PITCH * float(torch.randn((), generator=generator))
            label = camera.portrait_label(yaw, max(-2 * PITCH, min(2 * PITCH, pitch)))
            z, label = z.to(like), label.to(like)
            view, landmarks = self._seen(z, label)
            if landmarks is not None:
                return [part.cpu() for part in (z, label[None], view.image, view.alpha, landmarks[None])]
        raise PhotoError(
            f"No face is found in {TRIES} pictures of the generator {self._base.reference.name!r}; "
            "styles can be learnt with generators of faces only."
        )

    def _seen(self, z: Tensor, label: Tensor) -> tuple[Rendering, Tensor | None]:
        """The view of a latent, and its landmarks (468, 3): known exactly, or else as they are found."""
        model = self._base.generator
        if self._base.imported:
            head = PublishedHead(model, sampled_styles(model, z, TRUNCATION))
            # As its rays see it, for with that the stylized picture will be compared.
            view = head.render(label[None], self._size, None)
            return view, face_mesh(view.image[0])
        view = GeneratorHead(model, model.from_latent(z)).render(label[None], self._size, BACKGROUND)
        return view, landmarks_of(self._base, z, label)


def turned(label: Tensor) -> float:
    """Degrees by which a label's camera (25,) looks from the side."""
    return abs(math.degrees(camera.angles(label)[0]))
