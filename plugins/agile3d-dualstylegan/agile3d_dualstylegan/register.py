"""Exemplars -> the same, with their faces where realistic faces have theirs.

In: exemplars and landmarks of realistic faces, both at the portrait framing. Out: exemplars under one shift and one
zoom for all. Drawings are framed by a few points, and the rest of their faces lies higher or wider apart than people's;
learnt as they are, they would move every head. One change for all keeps what tells exemplars apart, their poses too.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.image import to_array
from agile3d_cli.models.flat_encoder import resized

SEEN = 256
"""Edge of the pictures in which faces are looked for, pixels."""
LEAST, MOST = 0.8, 1.25
"""Bounds of the zoom."""
FURTHEST = 0.1
"""Most that faces are shifted, share of the picture; further ones were not framed as portraits are."""


def registered(exemplars: Tensor, landmarks: Tensor) -> Tensor:
    """Exemplars (E, 3, S, S) in [-1, 1] moved to realistic landmarks (N, 468, 3), fractions of the picture.

    Without a face that is found, they stay.
    """
    found = [points for image in exemplars if (points := _points(image)) is not None]
    if not found:
        return exemplars
    own, wanted = torch.stack(found).median(0).values, landmarks[..., :2].double().cpu().mean(0)
    zoom = ((wanted - wanted.mean(0)).square().sum() / (own - own.mean(0)).square().sum()).sqrt().clamp(LEAST, MOST)
    shift = (wanted.mean(0) - own.mean(0)).clamp(-FURTHEST, FURTHEST)
    # What lies at p moves to wanted + zoom (p - own); the grid asks back, in [-1, 1].
    back = (2 * own.mean(0) - 1) - (2 * (own.mean(0) + shift) - 1) / zoom
    move = torch.stack([torch.stack([1 / zoom, zoom * 0, back[0]]), torch.stack([zoom * 0, 1 / zoom, back[1]])])
    grid = F.affine_grid(move.to(exemplars)[None].expand(len(exemplars), -1, -1), list(exemplars.shape), False)
    return F.grid_sample(exemplars, grid, padding_mode="border", align_corners=False)


def _points(image: Tensor) -> Tensor | None:
    """Landmarks (468, 2) of the face in a picture (3, S, S), fractions; None without a face."""
    faces = find_faces(to_array(resized(image[None], SEEN)[0]), FaceConfig(threads=1, matte=False))
    return torch.from_numpy(faces[0].points[:, :2].astype(float)) / SEEN if faces else None
