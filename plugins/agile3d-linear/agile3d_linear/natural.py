"""Styles with natural features, such as clay, ink or toned pictures: the sitter's own face is drawn, in their tones.

Most cartoons have eyes and mouths of their own making, which are cut out of the exemplars and blended. Where the
exemplars' features look as those of realistic faces do, lighter or darker but of the same forms, cut-outs would only
lose the person: there the sitter's own face takes on the style's form, and its light and shade the steps that they have
in the exemplars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agile3d_linear.layout import Layout
from agile3d_linear.mesh import PARTS
from agile3d_linear.picture import blur, ramp, resize
from agile3d_linear.tone import to_lab, to_rgb

OWN, ALIKE = 0.35, 0.6
"""Correlation of the exemplars' mean features with those of realistic faces: below the first a style has features of
its own, above the second natural ones. Measured: cartoons 0.11, flat avatars 0.12, ink 0.64, clay 0.90."""
SEEN_DETAIL = 0.03
"""Detail smaller than this does not count when features are compared, eye distances."""
WITHIN = 0.08
"""Distance from the outline from which on a face's tones count, eye distances: further out is hair."""
STEPS = np.linspace(-2.5, 1.0, 71)
"""Log lightness over the skin's at which the curve is kept."""
LEVELS = np.concatenate([[0.2, 0.5], np.linspace(1, 99, 33), [99.5, 99.8]])
"""Percentiles of it that are brought to each other."""
BEYOND = 0.5
"""Slope of the curve beyond what was seen."""
HAZE = 3.0
"""Added to lightness before its logarithm is taken."""
BORDER = 0.04
"""Softness of the mouth's border, eye distances."""
PUREST = 1.6
"""Most by which purity is raised."""


@dataclass(frozen=True)
class Relative:
    """A face's colours (T, T) against its skin."""

    steps: np.ndarray
    """(T, T) log lightness over the skin's."""
    chroma: np.ndarray
    """(T, T, 2) Lab chroma beyond what the skin has at that lightness."""


@dataclass(frozen=True)
class Natural:
    """What becomes of a sitter's own face."""

    share: float
    """How far it is drawn instead of the exemplars' features, 0 to 1."""
    curves: np.ndarray
    """(2, len(STEPS)) log lightness over the skin's that each of ``STEPS`` becomes, at the mouth and elsewhere."""
    purity: float
    """Factor on how far a colour is from the skin's at that lightness."""

    def __call__(self, own: Relative, tone: np.ndarray, layout: Layout, color: float) -> np.ndarray:
        """The face (T, T, 3) in [0, 1].

        Args:
            own: the sitter's, laid out.
            tone: (3,) Lab, the skin's in the style.
            layout: the frame.
            color: how far tones are the style's, 0 to 1.
        """
        lips, skin = (_along(own.steps, STEPS, curve) for curve in self.curves)
        share = blur(_mouth(layout).astype(np.float32)[..., None], BORDER / layout.pixel)[..., 0]
        steps = own.steps + color * (skin + share * (lips - skin) - own.steps)
        return to_rgb(_lab(Relative(steps, own.chroma * (1 + color * (self.purity - 1))), tone))


NOT_NATURAL = Natural(0.0, np.stack([STEPS, STEPS]), 1.0)
"""Draws nothing of the sitter's own face."""


def relative(face: np.ndarray, tone: np.ndarray) -> Relative:
    """Colours of a face (T, T, 3) in [0, 1] whose skin is ``tone`` (3,) Lab."""
    lab = to_lab(face)
    light = (lab[..., 0] + HAZE) / (tone[0] + HAZE)
    return Relative(np.log(light), lab[..., 1:] - light[..., None] * tone[1:])


def _lab(colours: Relative, tone: np.ndarray) -> np.ndarray:
    """The inverse of ``relative``, (T, T, 3) Lab."""
    light = np.exp(colours.steps)[..., None]
    return np.concatenate([light * (tone[0] + HAZE) - HAZE, light * tone[1:] + colours.chroma], -1)


def natural_share(exemplars: Sequence[Relative], faces: Sequence[Relative], layout: Layout) -> float:
    """How natural a style's features are, 0 to 1, from its exemplars and from realistic faces, laid out."""
    return float(ramp(np.asarray(_alikeness(exemplars, faces, layout)), OWN, ALIKE)) if exemplars else 0.0


def natural_of(share: float, exemplars: Sequence[Relative], faces: Sequence[Relative], layout: Layout) -> Natural:
    """The tones of a style that is natural to this share; exemplars and realistic faces are laid out."""
    inside = layout.inwards > WITHIN
    # Lips are dark in a photo and need not be so in a drawing.
    curves = [_curve(exemplars, faces, zone) for zone in (_mouth(layout), inside & ~_mouth(layout))]
    # Hats and fringes reach into some faces; medians pass them over.
    pure = [np.median([np.abs(one.chroma[inside]).mean() for one in some]) for some in (faces, exemplars)]
    purity = float(np.clip(pure[1] / max(pure[0], 1e-3), 0, PUREST))
    return Natural(share, np.stack(curves).astype(np.float32), purity)


def _mouth(layout: Layout) -> np.ndarray:
    """(T, T) bool: around the lips."""
    return np.asarray(layout.features[list(PARTS).index("mouth")])


def _curve(exemplars: Sequence[Relative], faces: Sequence[Relative], zone: np.ndarray) -> np.ndarray:
    """(len(STEPS),) what brings the lightness of realistic faces in a zone (T, T) bool to the exemplars'."""
    pooled = [np.concatenate([one.steps[zone] for one in some]) for some in (faces, exemplars)]
    before, after = (np.percentile(steps, LEVELS) for steps in pooled)
    return _along(STEPS, np.maximum.accumulate(before), after)


def _along(values: np.ndarray, knots: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """A curve at any values; beyond its knots it goes on more slowly."""
    inside = np.clip(values, knots[0], knots[-1])
    return np.interp(inside, knots, curve) + BEYOND * (values - inside)


def _alikeness(exemplars: Sequence[Relative], faces: Sequence[Relative], layout: Layout) -> float:
    """Correlation of mean features, each feature for itself, then averaged."""
    means = [
        blur(np.mean([one.steps for one in some], 0)[..., None], SEEN_DETAIL / layout.pixel)
        for some in (exemplars, faces)
    ]
    found = []
    for region in layout.features:
        a, b = (mean[region][:, 0] - mean[region].mean() for mean in means)
        found.append(float(a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-6)))
    return float(np.mean(found))


def laid_over(face: np.ndarray, own: np.ndarray, seen: np.ndarray, share: float, layout: Layout) -> np.ndarray:
    """The sitter's own face (T, T, 3) over the drawn one where the photo shows it, ``seen`` (t, t) bool."""
    shown = share * resize(blur(seen.astype(np.float32)[..., None], SEEN_DETAIL / layout.half.pixel), layout.size)
    return face + shown * (own - face)
