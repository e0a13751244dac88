"""Faces as the detector sees them: landmarks of pictures, and what it takes drawn and realistic faces for.

Exemplars and sitters are measured by a detector whose habits are as large as a style's shifts. So the realistic faces
that exemplars are compared with are measured by it as well, and outlines are taken from the picture itself.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.camera import portrait_label, project
from agile3d_cli.errors import ConfigError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.template import face_template
from agile3d_cli.stylizer import FaceBatch
from agile3d_linear.outline import to_edge
from agile3d_linear.picture import resize
from agile3d_linear.shape import find_pose, freed, reference, symmetric

FOUND_AT = 256
"""Pictures smaller than this are enlarged before faces are looked for."""
MEASURED = 48
"""Realistic faces on which outlines and brows are measured."""


def as_picture(image: Tensor) -> np.ndarray:
    """(3, S, S) in [-1, 1] to (S, S, 3) in [0, 1]."""
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1] != image.shape[2] or image.shape[1] < 16:
        raise ConfigError(f"A picture is (3, S, S) with S of 16 or more, not {tuple(image.shape)}.")
    picture = image.detach().float().cpu().permute(1, 2, 0).contiguous().numpy()
    return np.clip((picture + 1) / 2, 0, 1)


def landmarks_in(picture: np.ndarray) -> np.ndarray | None:
    """(468, 3) as fractions of the picture, of the face nearest to its centre; None without a face."""
    seen = resize(picture, max(FOUND_AT, len(picture)))
    faces = find_faces(np.round(seen * 255).clip(0, 255).astype(np.uint8), FaceConfig(threads=1, matte=False))
    if not faces:
        return None
    points = [face.points.astype(float) / len(seen) for face in faces]
    return min(points, key=lambda one: float(np.linalg.norm(one[:, :2].mean(0) - 0.5)))


def as_detected(faces: FaceBatch) -> np.ndarray:
    """(N, 468, 3) where the landmarks of faces seem to be.

    Exemplars and sitters are measured by a detector, whose habits are as large as a style's shifts: depths come out
    flatter by a tenth of the eye distance. A face that it misses gets the habit seen on the others.
    """
    known = faces.landmarks.double().cpu().numpy()
    seen = [landmarks_in(as_picture(image)) for image in faces.images]
    found = np.array([points is not None for points in seen])
    if not found.any():
        return known
    given = np.stack([k if s is None else s for k, s in zip(known, seen, strict=True)])
    habit = np.mean([freed(s) - freed(k) for s, k in zip(given[found], known[found], strict=True)], 0)
    for index in np.flatnonzero(~found):
        given[index] = find_pose(known[index]).place(freed(known[index]) + habit)
    return given


def usual_edge(faces: FaceBatch, points: np.ndarray) -> np.ndarray:
    """(468, 3) how far beyond the landmarks (N, 468, 3) of faces their skin usually ends, standard frame."""
    some = zip(faces.images[:MEASURED], points[:MEASURED], strict=True)
    return symmetric(np.mean([freed(to_edge(as_picture(image), one)) - freed(one) for image, one in some], 0))


def outlined(picture: np.ndarray, landmarks: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Landmarks (468, 3) of an exemplar, whose outline lies as far inside the edge of the skin as usual."""
    edge = to_edge(picture, landmarks)
    return find_pose(edge).place(freed(edge) - usual)


def usual_place() -> np.ndarray:
    """Landmarks (468, 3) of the standard face at the standard camera: where an aligned picture has its face."""
    label = portrait_label().double()[None]
    points = project(label, torch.from_numpy(face_template().points)[None])[0].numpy()
    scale = float(np.ptp(points[:, 0]) / np.ptp(reference()[:, 0]))
    depth = -reference()[:, 2] * scale
    return np.column_stack([points[:, :2], depth])
