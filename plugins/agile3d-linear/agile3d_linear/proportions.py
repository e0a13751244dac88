"""How much larger or smaller a style's features are than its landmarks say.

A landmark detector has seen ordinary faces: the lids of large eyes it puts half way, and a small nose it draws out.
Where a style's features are natural ones, their pictures tell more: the mean exemplar is compared with the mean
realistic face whose features are swollen, shrunk, raised or lowered, until both look most alike.

In: exemplars and realistic faces laid out by their landmarks. Out: where the exemplars' landmarks truly lie.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agile3d_cli.face.outlines import LEFT_EYE, MOUTH
from agile3d_linear.layout import Layout, fractions
from agile3d_linear.mesh import mirrored
from agile3d_linear.natural import WITHIN, Relative
from agile3d_linear.picture import blur, sample
from agile3d_linear.shape import symmetric

NOSE = (4, 45, 275)
"""Mesh points at its tip."""
FEATURES: tuple[tuple[tuple[tuple[int, ...], ...], float], ...] = (
    ((LEFT_EYE, mirrored(LEFT_EYE)), 0.36),
    ((NOSE,), 0.3),
    ((MOUTH,), 0.4),
)
"""Mesh points around the middles of each feature, and how far it reaches (deviation of a Gaussian), eye distances."""
AMOUNTS = np.arange(-12, 10) / 16
"""By which share less of a realistic feature its middle is to show that are tried: it shows that much larger."""
RISES = np.arange(-3, 4) * 0.025
"""And how far it rises, eye distances. No pair of these folds a face."""
DETAIL = 0.03
"""Smaller detail is not compared, eye distances."""
TONES = (-1.2, 0.6)
"""Log lightness over the skin's beyond which all is alike: hair, and highlights."""
BACKWARDS = 20
"""Steps in which a landmark is followed; what is left then is far below a pixel."""

Swelling = tuple[np.ndarray, float, float, float]
"""Middle (2,), reach, amount, rise; eye distances with y up."""


def proportions(exemplars: Sequence[Relative], faces: Sequence[Relative], layout: Layout) -> np.ndarray:
    """(468, 3) how the exemplars' landmarks move to where their features truly are, standard frame; depth stays."""
    usual, wanted = (_mean_of(some, layout) for some in (faces, exemplars))
    places = layout.places
    found: list[Swelling] = []
    for parts, reach in FEATURES:
        middles = [layout.shape[list(part), :2].mean(0) for part in parts]
        window = (layout.inwards > WITHIN) * sum(_near(places, middle, reach) for middle in middles)
        best, most = [], -np.inf
        for amount in AMOUNTS:
            for rise in RISES:
                tried = [(middle, reach, float(amount), float(rise)) for middle in middles]
                shown = _shown(usual, _sources(places, [*found, *tried]))
                alike = _alike(shown, wanted, window)
                if alike > most:
                    best, most = tried, alike
        found += best
    start = layout.shape[:, :2]
    end = start
    for _ in range(BACKWARDS):
        end = (end + start + end - _sources(end, found)) / 2
    return symmetric(np.pad(end - start, ((0, 0), (0, 1))))


def _mean_of(faces: Sequence[Relative], layout: Layout) -> np.ndarray:
    """(T, T) log lightness over the skin's of the mean face, mirror-symmetric."""
    mean = np.mean([np.clip(face.steps, *TONES) for face in faces], 0)
    return blur((mean + mean[:, ::-1])[..., None] / 2, DETAIL / layout.pixel)[..., 0]


def _near(places: np.ndarray, middle: np.ndarray, reach: float) -> np.ndarray:
    return np.asarray(np.exp(-((places - middle) ** 2).sum(-1) / (2 * reach**2)))


def _sources(places: np.ndarray, swellings: Sequence[Swelling]) -> np.ndarray:
    """(..., 2) which places of a realistic face places (..., 2) of the style show."""
    moved = np.zeros_like(places)
    for middle, reach, amount, rise in swellings:
        moved += _near(places, middle, reach)[..., None] * (amount * (places - middle) + [0, rise])
    return places - moved


def _shown(face: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """What a face (T, T) has at places (t, t, 2)."""
    return sample(face[..., None], fractions(sources), "bilinear")[..., 0]


def _alike(face: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    """Correlation of two pictures (T, T) under weights."""
    share = weight / weight.sum()
    a, b = (picture - (share * picture).sum() for picture in (face, other))
    spread = (share * a * a).sum() * (share * b * b).sum()
    return float((share * a * b).sum() / np.sqrt(max(float(spread), 1e-12)))
