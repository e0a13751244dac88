"""Style -> its scores, measured on people of the generator; definitions in ``scores.py``.

A sitter's photo is here the same person's head without the style, at the same camera.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agile3d_cli import camera, scores
from agile3d_cli.avatar.measure import SIDE, SIZE, embedding, relief_of
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.contrast import head_region
from agile3d_cli.models.perceptual import style_features
from agile3d_cli.models.styled import StyleDifference
from agile3d_cli.style.faces import BACKGROUND
from agile3d_cli.style.people import people_in
from agile3d_cli.stylizer import Progress

PEOPLE = 16
"""People that a style is measured on."""
STAGE = "measuring the style"


@torch.no_grad()
def score_style(base: BaseModel, difference: StyleDifference, exemplars: Tensor, progress: Progress) -> scores.Scores:
    """Scores of a style learnt from exemplars (M, 3, SIZE, SIZE).

    ``style_distance`` is that to the exemplars themselves, in the head's region: to hold some out would cost the style
    a part of what it is learnt from. What cannot be measured (no face is found, a single exemplar) is None.
    """
    labels = torch.stack([camera.portrait_label(yaw) for yaw in (0.0, -SIDE, SIDE)])
    portraits: list[Tensor | None] = []
    photos: list[Tensor | None] = []
    fronts, between, agreement, reliefs = [], [], [], []
    for number, (plain, styled) in enumerate(people_in(base, difference, PEOPLE)):
        progress(STAGE, number / PEOPLE)
        seen, before = styled.render(labels, SIZE, BACKGROUND), plain.render(labels[:1], SIZE, BACKGROUND)
        fronts.append(seen.image[:1].cpu())
        found = [embedding(image, None) for image in seen.image]
        portraits.append(found[0])
        photos.append(embedding(before.image[0], None))
        known = [code for code in found if code is not None]
        if len(known) == len(found):
            between.append(scores.view_identity(torch.cat(known)))
        image, alpha, depth, cameras = (x[:2] for x in (seen.image, seen.alpha, seen.depth, labels.to(seen.image)))
        agreement.append(scores.view_consistency(image, alpha, depth, cameras))
        reliefs.append(relief_of(seen, before))
    progress(STAGE, 1.0)
    images = torch.cat(fronts)
    both = zip(portraits, photos, strict=True)
    apart = [scores.identity(one, two) for one, two in both if one is not None and two is not None]
    return scores.Scores(
        identity=_mean(apart),
        identity_rank=scores.rank_of_found(portraits, photos),
        view_consistency=mean_consistency(agreement),
        view_identity=_mean(between),
        style_distance=_distance(images, exemplars),
        relief=_mean([each for each in reliefs if each is not None]),
        sharpness=scores.sharpness(images, exemplars),
    )


def mean_consistency(found: Sequence[scores.Consistency | None]) -> scores.Consistency | None:
    """Mean over people; who has no place that two views show counts as no overlap, and not in the colours."""
    shared = [each for each in found if each is not None]
    color = _mean([each.color for each in shared])
    return None if color is None else scores.Consistency(color, sum(each.overlap for each in shared) / len(found))


def _distance(images: Tensor, exemplars: Tensor) -> scores.Interval | None:
    if len(exemplars) < 2:
        return None
    return scores.style_distance(head_features(images), head_features(exemplars))


def head_features(images: Tensor) -> Tensor:
    """Style features (N, D) of pictures (N, 3, S, S) in the head's region, one at a time."""
    region = head_region(*images.shape[-2:])
    return torch.cat([style_features(image[None], region) for image in images])


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
