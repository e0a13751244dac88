"""Latent + photo -> styles that the identity network takes for the sitter: third step of the inversion.

In: the latent that colours and outline gave, and the aligned photo. Out: a style for each layer of the backbone, close
to the latent's, where the person lives: skin, brows, eyes, lips. The surface is traced once; leaving it costs, and so
does going far from the latent's styles, which keeps the head a head. What is found here survives in every style, other
than what is painted later.
Source: the identity loss of pSp (Richardson et al., CVPR 2021) with the network of ``models/identity.py``; a style of
its own for each layer after Abdal et al., Image2StyleGAN (ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.traced import Appearance, appearance, held, trace
from agile3d_cli.face.align import AlignedFace
from agile3d_cli.face.landmarks import five_of
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.identity import embed_faces

SIZE = 112
"""Edge of the compared picture, pixels."""
TONE = 4
"""Colours are compared as means over so many pixels along each side."""
THICKNESS = 0.01
"""World units over which a place's density is judged."""
BROWS = PARTS.index("brows")
LIGHTER = 0.15
"""Skin is lighter by more than that than dark brows are, and pale brows than what stands for them by less."""
COVERED = 0.05
"""Pixels of which the head covers less stay the photo's."""


def resemble(
    generator: TriplaneGenerator,
    ws: Tensor,
    backward: Tensor | None,
    face: AlignedFace,
    config: InvertConfig,
    progress: Callable[[float], None],
) -> Tensor:
    """Styles (1, num_ws, w_dim) after ``config.identity_steps``; shares of choices, such as hair styles, stay.

    Args:
        generator: the base.
        ws: (1, num_ws, w_dim) the latent's styles, to start from.
        backward: the subject's deformation.
        face: the aligned photo.
        config: steps and weights.
        progress: told the share that is done, 0 to 1.
    """
    photo = F.interpolate(face.image[None].to(ws), (SIZE, SIZE), mode="area")
    five = torch.from_numpy(five_of(face.landmarks)[None, :, :2]).to(ws)
    origin, direction = camera.rays(face.label[None].to(ws), SIZE, SIZE)
    with torch.no_grad():
        wanted = embed_faces(photo, five)
        planes = generator.backbone(ws)
        palette = generator.colours_of_parts(ws)
        traced = trace(generator, Subject(planes, backward, palette), origin[0], direction[0])
        covered = (traced.alpha > COVERED).nonzero()[:, 0]
        traced = held(generator, traced[covered])
        look = appearance(generator, planes, palette, traced)
        solid, brows = _solid(look.density), _brows(look)
    there = photo[0].flatten(1).T[covered] / 2 + 0.5
    black = torch.zeros(SIZE * SIZE, 3).to(ws)
    seen = black[:, 0].index_copy(0, covered, traced.alpha).reshape(1, 1, SIZE, SIZE).clamp(0, 1)
    # What the latent stands for stays, and so do the shares of its choices: colours are the photo's already.
    free = generator.config.w_dim - generator.config.choices.features - generator.config.traits.count
    start, kept = ws[..., :free], ws[..., free:]
    moved = torch.zeros_like(start, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=config.identity_rate, betas=(0.9, 0.98))
    for step in range(config.identity_steps):
        planes = generator.backbone(torch.cat([start + moved, kept], -1))
        look = appearance(generator, planes, palette, traced)
        shown = black.index_copy(0, covered, look.colour).T.reshape(1, 3, SIZE, SIZE) * 2 - 1
        # What the head does not cover stays the photo's, so that only the head can make the difference.
        image = seen * shown + (1 - seen) * photo
        loss = (embed_faces(image, five) - wanted).norm(dim=-1).mean()
        loss = loss + config.identity_tone * F.avg_pool2d(seen * (shown - photo), TONE).abs().mean()
        loss = loss + config.identity_surface * (_solid(look.density) - solid).square().mean()
        loss = loss + config.identity_brows * _astray(look, brows, there)
        loss = loss + config.identity_prior * moved.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress((step + 1) / config.identity_steps)
    return torch.cat([start + moved.detach(), kept], -1)


def _brows(look: Appearance) -> Tensor:
    """How much of brows the pixels show, (P,)."""
    return look.parts[:, BROWS : BROWS + 1].sum(1)


def _astray(look: Appearance, before: Tensor, photo: Tensor) -> Tensor:
    """By how much more than ``LIGHTER`` the photo's pixels (P, 3) in [0, 1] are lighter than what is shown, where brows
    (P,) have grown."""
    grown = (_brows(look) - before).clamp(min=0)
    lighter = ((photo - look.colour).mean(1) - LIGHTER).clamp(min=0).detach()
    return (grown * lighter).sum() / before.sum().clamp(min=1)


def _solid(density: Tensor) -> Tensor:
    """How much of the light each place takes, 0 to 1."""
    return 1 - torch.exp(-density * THICKNESS)
