"""A sitter's shape -> what a style that draws eyes and mouths of its own takes back of their form.

Such a style draws the same lips on everybody, and a sitter's head stretches what is drawn on it: a broad smile, which
most photos have, turns a small drawn mouth into a band across the face. Place and size of the sitter's features stay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agile3d_cli.avatar.likeness import spread
from agile3d_cli.face.outlines import INNER_MOUTH, LEFT_EYE, MOUTH
from agile3d_cli.face.template import face_template
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.deformation import look_up

REACH, NEAR = 0.2, 0.12
"""How far from a feature its surroundings follow, and from how far they take how it moves: deviations of Gaussians, eye
distances."""
ALONE = 4
"""Between features the nearer one counts more by this power of how much it counts."""
FAINT = 1e-3
"""What counts less than that stays."""


@torch.no_grad()
def calming(base: BaseModel, own: Tensor) -> Tensor:
    """What to add to a sitter's forward field so that eyes and mouth have the mean head's form.

    They stay where they are, and as large as the sitter's face is.

    Args:
        base: the generator; it has landmarks.
        own: (1, 3, G, G, G) world units, the sitter's forward field.

    Returns:
        The same shape.
    """
    assert base.landmarks is not None, "only generators with landmarks know where eyes and mouths are"
    mean, deformation = base.landmarks.to(own), base.generator.deformation
    points = mean + look_up(own, deformation.focus.forward(mean[None]))[0]
    mirror = face_template().mirror
    left, right, mouth = list(LEFT_EYE), [int(mirror[k]) for k in LEFT_EYE], list(MOUTH + INNER_MOUTH)
    between, usual = ((some[left].mean(0) - some[right].mean(0)).norm() for some in (points, mean))
    moves, shares = [torch.zeros_like(points)], [torch.full((len(points), 1), FAINT).to(points)]
    for feature in (left, right, mouth):
        form = mean[feature] - mean[feature].mean(0)
        moved = points[feature].mean(0) + between / usual * form - points[feature]
        away = torch.cdist(points, points[feature]) / between
        weight = torch.exp(-((away / NEAR) ** 2) / 2) + 1e-12
        follow = weight @ moved / weight.sum(1, keepdim=True)
        follow[feature] = moved
        shares.append(torch.exp(-((away.amin(1, keepdim=True) / REACH) ** 2) / 2))
        moves.append(shares[-1] * follow)
    whose = torch.stack(shares) ** ALONE
    moved = (whose / whose.sum(0) * torch.stack(moves)).sum(0)
    nodes = deformation.focus.nodes(deformation.config.grid).to(own)
    return spread(moved, mean, nodes)[None]
