"""Finished head -> its scores, as far as they can be measured for one portrait.

In: head, aligned face, the unstylized head. Out: ``Scores``; definitions in ``scores.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli import camera, scores
from agile3d_cli.avatar.head import Head, Rendering
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.image import to_array
from agile3d_cli.models.identity import embed_faces

SIDE = 0.5236
"""Yaw of the side views, radians: 30 degrees."""
SIZE = 256
FACE = (0.25, 0.8, 0.25, 0.75)
"""Top, bottom, left and right of the face in the crop, for the relief."""


def embedding(image: Tensor, five: Tensor | None) -> Tensor | None:
    """Identity embedding (1, 128) of a picture (3, S, S); without ``five`` (5, 2) the landmarks are looked for."""
    if five is None:
        faces = find_faces(to_array(image), FaceConfig())
        if not faces:
            return None
        five = torch.from_numpy(five_of(faces[0].points)[:, :2] / image.shape[-1])
    return embed_faces(image[None].cpu().float(), five[None].cpu())


def photo_embedding(face: AlignedFace) -> Tensor:
    """Identity embedding (1, 128) of an aligned photo."""
    found = embedding(face.image, torch.from_numpy(five_of(face.landmarks)[:, :2]))
    assert found is not None
    return found


@torch.no_grad()
def measure(head: Head, plain: Head, face: AlignedFace) -> scores.Scores:
    """Scores of one portrait; ``plain`` is the same person without a style."""
    front = head.render(face.label[None], SIZE, 1.0)
    found = embedding(front.image[0], None)
    identity = None if found is None else scores.identity(photo_embedding(face), found)
    labels = torch.stack([camera.portrait_label(yaw) for yaw in (-SIDE, 0.0, SIDE)])
    views = head.render(labels, SIZE, 1.0)
    embeddings = [embedding(image, None) for image in views.image]
    known = [e for e in embeddings if e is not None]
    return scores.Scores(
        identity=identity,
        view_identity=scores.view_identity(torch.cat(known)) if len(known) == len(embeddings) else None,
        view_consistency=scores.view_consistency(
            views.image[:2], views.alpha[:2], views.depth[:2], labels[:2].to(views.image)
        ),
        relief=relief_of(front, plain.render(face.label[None], SIZE, 1.0)),
    )


def relief_of(front: Rendering, plain: Rendering) -> float | None:
    """Relief of the first view against that of the unstylized head at the same camera; None where no face is seen."""
    top, bottom, left, right = (round(SIZE * share) for share in FACE)
    area = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    area[:, top:bottom, left:right] = True
    seen = area & (front.alpha[0].cpu() > 0.9) & (plain.alpha[0].cpu() > 0.9)
    if int(seen.sum()) < 100:
        return None
    return scores.relief(front.depth[0].cpu(), plain.depth[0].cpu(), seen)
