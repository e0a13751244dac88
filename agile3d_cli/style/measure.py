"""Face and its stylized picture -> how far landmarks, person and look moved: what pairs are filtered by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.image import to_array
from agile3d_cli.models.identity import embed_faces
from agile3d_cli.models.perceptual import style_features


@dataclass(frozen=True)
class Moved:
    """One pair's measures."""

    landmarks: Tensor
    """(468, 2) landmarks of the stylized picture minus those of the real one, crop fractions."""
    identity: Tensor
    """() distance of the two embeddings."""
    look: Tensor
    """(384,) style features of the stylized picture."""


@torch.no_grad()
def measure_pair(real: Tensor, drawn: Tensor) -> Moved | None:
    """Measures pictures (3, S, S) in [-1, 1]; None where either shows no face.

    Both pictures are measured by the same detector, so that its own bias cancels.
    """
    before, after = landmarks(real), landmarks(drawn)
    if before is None or after is None:
        return None
    known, seen = (embed_faces(image[None], _five(points)) for image, points in ((real, before), (drawn, after)))
    return Moved(after - before, (known - seen).norm(), style_features(drawn[None])[0])


def landmarks(image: Tensor) -> Tensor | None:
    """(468, 2) landmarks of the largest face, crop fractions; None without one."""
    found = face_mesh(image)
    return None if found is None else found[:, :2]


def face_mesh(image: Tensor) -> Tensor | None:
    """(468, 3) the same with their depths in the same unit, smaller is nearer."""
    faces = find_faces(to_array(image), FaceConfig())
    if not faces or len(faces[0].points) != 468:
        return None
    return torch.from_numpy(faces[0].points) / image.shape[-1]


def _five(points: Tensor) -> Tensor:
    return torch.from_numpy(five_of(points.numpy()))[None]
