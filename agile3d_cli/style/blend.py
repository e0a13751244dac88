"""Two styles -> one between them.

A style is a difference of weights, a displacement, a contour, a calm and a light, all linear, so a blend is their
weighted sum: at 0 it is the first style, at 1 the second.
"""

from __future__ import annotations

import datetime

import torch

from agile3d_cli.bundle import StyleBundle
from agile3d_cli.errors import ConfigError, UsageError
from agile3d_cli.licenses import join_notes
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.contour import contour_between
from agile3d_cli.models.styled import StyleDifference, read_difference
from agile3d_cli.style.preview import kept, views_of

UNLIKE = "see licenses"
"""The terms of a blend of styles with different terms."""


def blend_styles(first: StyleBundle, second: StyleBundle, weight: float, name: str, base: BaseModel) -> StyleBundle:
    """The style that is ``weight`` of the way from the first to the second.

    Args:
        first: a style of ``base``.
        second: another one.
        weight: 0 to 1.
        name: of the blend.
        base: the generator that both belong to.

    Raises:
        ConfigError: the weight is out of range, or the name is none.
        UsageError: the styles belong to different generators, or not to this one.
    """
    if not 0.0 <= weight <= 1.0:
        raise ConfigError(f"--weight is {weight}; it must lie between 0 (the first style) and 1 (the second).")
    for style in (first, second):
        if style.base.sha256 != base.reference.sha256:
            raise UsageError(
                f"The style {style.name!r} was learnt on another version of {style.base.name!r} than is here; only "
                f"styles of {base.reference.name!r} as it is installed can be blended."
            )
    one, two = (read_difference(style.tensors, base.generator, style.name) for style in (first, second))
    difference = between(one, two, weight)
    shares = (round(1 - weight, 4), round(weight, 4))
    parts = [
        {"name": style.name, "weight": share, "stylizer": dict(style.stylizer), "training": dict(style.training)}
        for style, share in zip((first, second), shares, strict=True)
    ]
    known = {str(entry["sha256"]): dict(entry) for style in (first, second) for entry in style.exemplars}
    return StyleBundle(
        name=name,
        license=first.license if first.license == second.license else UNLIKE,
        base=base.reference,
        tensors=difference.tensors(),
        preview=kept(views_of(base, difference)),
        summary=f"{shares[0]:.0%} {first.name}, {shares[1]:.0%} {second.name}",
        created=datetime.date.today().isoformat(),
        stylizer={"name": "blend", "version": "1", "config": {"weight": weight}},
        exemplars=tuple(known.values()),
        training={"blend": parts},
        licenses=join_notes(first.licenses, second.licenses),
    )


def between(first: StyleDifference, second: StyleDifference, weight: float) -> StyleDifference:
    """The weighted sum of two differences; what one of them lacks is zero there."""
    names = sorted({*first.weights, *second.weights})
    weights = {}
    for name in names:
        sides = [side.weights.get(name) for side in (first, second)]
        like = next(side for side in sides if side is not None)
        one, two = (torch.zeros_like(like) if side is None else side for side in sides)
        weights[name] = torch.lerp(one, two, weight)
    contour = contour_between(first.contour, second.contour, weight)
    calm = (1 - weight) * first.calm + weight * second.calm
    light = (1 - weight) * first.light + weight * second.light
    moved = [side.displacement for side in (first, second)]
    if moved[0] is None and moved[1] is None:
        return StyleDifference(weights, None, contour, calm, light)
    like = next(field for field in moved if field is not None)
    one, two = (torch.zeros_like(like) if field is None else field for field in moved)
    return StyleDifference(weights, torch.lerp(one, two, weight), contour, calm, light)
