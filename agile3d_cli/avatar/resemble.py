"""Latent + photo -> latent that the identity network takes for the sitter: third step of the inversion.

In: the latent that colours and outline gave, and the aligned photo. Out: the same latent, moved where the person lives
in it: skin, brows, eyes, lips. The surface is traced once and held, so a step costs little; a strong pull towards the
start keeps the head a head. What is found here survives in every style, other than what is painted later.
Source: the identity loss of pSp (Richardson et al., CVPR 2021), with the network of ``models/identity.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.traced import colours, trace
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.identity import embed_faces

SIZE = 112
"""Edge of the compared picture, pixels."""
COVERED = 0.05
"""Pixels of which the head covers less stay the photo's."""


def resemble(
    generator: TriplaneGenerator,
    z: Tensor,
    backward: Tensor | None,
    face: AlignedFace,
    config: InvertConfig,
    progress: Callable[[float], None],
) -> Tensor:
    """Latent (1, z_dim) after ``config.identity_steps``; the leading coordinates, which are the shape, stay.

    Args:
        generator: the base.
        z: (1, z_dim) where to start.
        backward: the subject's deformation.
        face: the aligned photo.
        config: steps and weights.
        progress: told the share that is done, 0 to 1.
    """
    shape = generator.config.deformation.components
    lead, start = z[:, :shape], z[:, shape:]
    photo = F.interpolate(face.image[None].to(z), (SIZE, SIZE), mode="area")
    five = torch.from_numpy(five_of(face.landmarks)[None, :, :2]).to(z)
    origin, direction = camera.rays(face.label[None].to(z), SIZE, SIZE)
    with torch.no_grad():
        wanted = embed_faces(photo, five)
        subject = Subject(generator.backbone(generator.mapping(z)), backward)
    traced = trace(generator, subject, origin[0], direction[0])
    covered = (traced.alpha > COVERED).nonzero()[:, 0]
    seen = (traced.alpha * (traced.alpha > COVERED)).reshape(1, 1, SIZE, SIZE).clamp(0, 1)
    traced = traced[covered]
    black = torch.zeros(SIZE * SIZE, 3).to(z)
    # What the head does not cover stays the photo's, so that only the head can make the difference.
    moved = start.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([moved], lr=config.identity_rate, betas=(0.9, 0.98))
    for step in range(config.identity_steps):
        planes = generator.backbone(generator.mapping(torch.cat([lead, moved], 1)))
        shown = black.index_copy(0, covered, colours(generator, planes, traced)).T.reshape(1, 3, SIZE, SIZE) * 2 - 1
        image = seen * shown + (1 - seen) * photo
        distance = (embed_faces(image, five) - wanted).norm(dim=-1).mean()
        tone = (F.avg_pool2d(seen * (shown - photo), 8)).abs().mean()
        loss = distance + config.identity_tone * tone + config.identity_prior * (moved - start).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / config.identity_steps)
    return torch.cat([lead, moved.detach()], 1)
