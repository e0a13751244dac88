"""A style's difference from its base generator: what is stored, and how it acts.

A style is mostly a shift of means: other mean planes and plane outputs, which say what part of the face is where and
how it looks, another map from traits to the colours of the parts, and a displacement of the mean head's space (big
eyes, round head), which moves the base's surfaces. What it draws on faces is finer than planes are (details). The
decoder stays, so that what is painted for one photo on the base keeps its meaning on every style. Line work follows the
view, so a contour is drawn on pictures and not on the head. Light stands still before a head and models it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.models.byte_steps import from_bytes, in_bytes
from agile3d_cli.models.contour import Contour, read_contour
from agile3d_cli.models.generator import Subject, TriplaneGenerator

BACKBONE = "backbone."
OWN = ACCENTS, DETAILS, MEAN = f"{BACKBONE}accents", f"{BACKBONE}details", f"{BACKBONE}mean_planes"
"""Names of the weights that a base may not have, see ``Backbone``: there they are zero."""
WEIGHTS, STEPS = "weights.", "steps."
DISPLACEMENT, CONTOUR, CALM, LIGHT = "displacement", "contour", "calm", "light"
LARGE = 1 << 16
"""Numbers from which on a tensor is stored as bytes, and the size of a byte's step for each of its channels."""


@dataclass(frozen=True)
class StyleDifference:
    """What a stylized generator adds to its base."""

    weights: Mapping[str, Tensor]
    """Differences of some of the generator's parameters, by their names."""
    displacement: Tensor | None
    """(3, G, G, G) world units, added to every subject's forward field; None for generators that do not deform."""
    contour: Contour | None = None
    """The line around heads; None in styles without one."""
    calm: float = 0.0
    """How much of a sitter's own form of eyes and mouth is taken back, 0 to 1; see ``avatar.calm``."""
    light: float = 0.0
    """How strong the light is that models heads, 0 to 1; see ``avatar.relief``."""

    def tensors(self) -> dict[str, Tensor]:
        """What a bundle stores: half precision, and large tensors in bytes."""
        stored = {}
        for name, value in self.weights.items():
            value = value.detach().cpu()
            if value.numel() < LARGE:
                stored[f"{WEIGHTS}{name}"] = value.half()
                continue
            stored[f"{WEIGHTS}{name}"], stored[f"{STEPS}{name}"] = in_bytes(value, 2)
        if self.displacement is not None:
            stored[DISPLACEMENT] = self.displacement.detach().half().cpu()
        if self.contour is not None:
            stored[CONTOUR] = self.contour.tensor()
        return stored | {name: torch.tensor([share]) for name, share in self._shares().items() if share}

    def _shares(self) -> dict[str, float]:
        return {CALM: self.calm, LIGHT: self.light}


def read_difference(tensors: Mapping[str, Tensor], base: TriplaneGenerator, name: str) -> StyleDifference:
    """A bundle's tensors as the difference from ``base``.

    Raises:
        RefusedError: tensors are unknown or of the wrong shape.
    """
    shapes = {name: tuple(value.shape) for name, value in base.named_parameters()}
    shapes |= _own_shapes(base)
    weights = {}
    displacement, contour, shares = None, None, {CALM: 0.0, LIGHT: 0.0}
    for key, value in tensors.items():
        shape = shapes.get(key.removeprefix(WEIGHTS)) if key.startswith(WEIGHTS) else None
        steps = tensors.get(STEPS + key.removeprefix(WEIGHTS))
        if shape and shape == tuple(value.shape) and _fits(value, steps):
            weights[key.removeprefix(WEIGHTS)] = value.float() if steps is None else from_bytes(value, steps)
        elif key.startswith(STEPS) and WEIGHTS + key.removeprefix(STEPS) in tensors:
            continue
        elif key == DISPLACEMENT and base.deforms and value.shape == base.deformation.basis.shape[1:]:
            displacement = value.float()
        elif key == CONTOUR and (found := read_contour(value.float())) is not None:
            contour = found
        elif key in shares and base.deforms and value.shape == (1,) and 0 <= float(value) <= 1:
            shares[key] = float(value)
        else:
            raise RefusedError(
                f"The style {name!r} does not fit its base generator: {key} {tuple(value.shape)} has no place in it; "
                "learn the style anew with `agile3d new-style`."
            )
    return StyleDifference(weights, displacement, contour, shares[CALM], shares[LIGHT])


def _fits(value: Tensor, steps: Tensor | None) -> bool:
    """Whether bytes, and only they, come with the size of their steps."""
    if value.dtype != torch.int8 or steps is None:
        return value.is_floating_point() and steps is None
    return steps.dtype == torch.float32 and steps.shape == value.shape[:2] + (1,) * (value.dim() - 2)


def in_style(subject: Subject, base: TriplaneGenerator, painter: TriplaneGenerator, ws: Tensor) -> Subject:
    """A subject of the base with the parts and colours of ``painter``, see ``stylized``, at ws (N, num_ws, w_dim)."""
    purity, contrast = colour_kept(base, painter) if base.config.parts else (1.0, 1.0)
    palette, style = painter.colours_of_parts(ws), painter.backbone(ws)
    details = painter.backbone.details
    return replace(subject, palette=palette, style=style, details=details, purity=purity, contrast=contrast)


def colour_kept(base: TriplaneGenerator, painter: TriplaneGenerator) -> tuple[float, float]:
    """How much purer or duller than on the base the colours are by which a painter's people differ, and how much
    further apart in lightness, each 1 at most.

    Measured: purity of vector 0.99, cartoon 0.80, ink 0.09, clay 0.06; lightness of clay 0.30, of the others 1.
    """
    before, after = (model.palette.layer.weight.unflatten(0, (-1, 3)) for model in (base, painter))
    light = [colours.mean(1, keepdim=True) for colours in (before, after)]
    hue = [colours - grey for colours, grey in zip((before, after), light, strict=True)]
    purity, contrast = (min(1.0, float(new.norm() / old.norm().clamp(min=1e-8))) for old, new in (hue, light))
    return purity, contrast


@torch.no_grad()
def stylized(base: TriplaneGenerator, style: StyleDifference, color: float = 1.0) -> TriplaneGenerator:
    """A copy of ``base`` with the style's weights at strength ``color``; the displacement is added per subject."""
    generator = copy.deepcopy(base)
    give(generator, *(name for name in OWN if name in style.weights))
    parameters = dict(generator.named_parameters())
    for name, difference in style.weights.items():
        parameters[name].add_(color * difference.to(parameters[name]))
    return generator


def give(generator: TriplaneGenerator, *names: str) -> None:
    """Gives a copy of a base generator those of ``OWN``, all zero, that it can have and has not."""
    shapes, like = _own_shapes(generator), next(generator.parameters())
    for name in names:
        attribute = name.removeprefix(BACKBONE)
        if shapes[name] and getattr(generator.backbone, attribute) is None:
            setattr(generator.backbone, attribute, torch.nn.Parameter(like.new_zeros(shapes[name])))


def _own_shapes(generator: TriplaneGenerator) -> dict[str, tuple[int, ...]]:
    """Shapes of ``OWN``, empty where there can be none."""
    backbone = generator.backbone
    return dict(zip(OWN, (backbone.accents_shape, backbone.details_shape, backbone.means_shape), strict=True))
