"""Exemplars and realistic faces -> a linear style, but for its material's curve: that is seen on what the style draws.

In: pictures and their landmarks. Out: ``LinearStyle``. Whatever tells a style from reality is measured on both alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agile3d_cli.stylizer import FaceBatch, Progress
from agile3d_linear.blend import StyleLayers, trust_in
from agile3d_linear.detected import (
    MEASURED,
    as_detected,
    as_picture,
    landmarks_in,
    outlined,
    usual_edge,
    usual_place,
)
from agile3d_linear.extents import fitted
from agile3d_linear.features import Exemplar, take_apart
from agile3d_linear.layout import AROUND, CLOSE, Layout
from agile3d_linear.material import NO_MATERIAL, Material, hair_over_skin, share_of_one
from agile3d_linear.model import LinearStyle
from agile3d_linear.natural import NOT_NATURAL, Natural, Relative, natural_of, natural_share, relative
from agile3d_linear.picture import resize
from agile3d_linear.proportions import proportions
from agile3d_linear.register import register
from agile3d_linear.shape import find_pose, freed, robust_mean, symmetric
from agile3d_linear.sitter import Sitter, measure, measured, traits_of
from agile3d_linear.tone import to_lab

SPREAD_FLOOR = np.array([0.01, 0.01, 1.0])
"""Least standard deviation of a trait, so that a set of equal faces divides by something."""


@dataclass(frozen=True)
class Faces:
    """Pictures and where their faces are."""

    pictures: Sequence[np.ndarray]
    """(S, S, 3) in [0, 1] each."""
    points: np.ndarray
    """(N, 468, 3) landmarks, fractions of the picture."""
    found: np.ndarray
    """(N,) bool: whether a face was found; elsewhere it is where aligned pictures have it."""

    def some(self, count: int) -> Faces:
        """The first ones."""
        return Faces(self.pictures[:count], self.points[:count], self.found[:count])

    def known(self) -> Faces:
        """Those whose face was found."""
        some = np.flatnonzero(self.found).tolist()
        return Faces([self.pictures[index] for index in some], self.points[some], self.found[some])

    def hair_contrast(self, skins: Sequence[np.ndarray]) -> float:
        """Mean difference in lightness between hair and skin (3,) Lab, either way."""
        rows = zip(self.pictures, self.points, skins, strict=True)
        return float(np.mean([abs(hair_over_skin(*row)) for row in rows]))


def realistic_faces(batch: FaceBatch) -> Faces:
    """Sampled faces, their landmarks as the detector sees them."""
    points = as_detected(batch)
    return Faces([as_picture(image) for image in batch.images], points, np.ones(len(points), bool))


def faces_of(exemplars: Sequence[np.ndarray], batch: FaceBatch, real: Faces) -> Faces:
    """Exemplars (S, S, 3) whose outlines are taken as those of the sampled faces are."""
    found = [landmarks_in(picture) for picture in exemplars]
    rim = usual_edge(batch, real.points)
    points = [
        usual_place() if one is None else outlined(picture, one, rim)
        for picture, one in zip(exemplars, found, strict=True)
    ]
    return Faces(exemplars, np.stack(points), np.array([one is not None for one in found]))


def learn(exemplars: Faces, real: Faces, size: int, progress: Progress) -> LinearStyle:
    """The style without its material's curve; ``size`` is that of the layout."""
    average = symmetric(robust_mean(np.stack([freed(points) for points in real.points])))
    some = real.some(MEASURED)
    progress("comparing with realistic faces", 0.3)
    share, exemplars = _as_drawn(exemplars, some, average, size)
    progress("looking where features are drawn", 0.4)
    if share < 1:
        layout = _layout(exemplars, average, size)
        exemplars = _moved(exemplars, (1 - share) * fitted(_apart(exemplars, layout), layout))
    shapes = _shapes(exemplars)
    shift = _shift(shapes, average)
    progress("taking the exemplars apart", 0.6)
    layout = Layout(average + shift, size)
    parts = _apart(exemplars, replace(layout, around=share * AROUND + (1 - share) * CLOSE))
    progress("measuring realistic faces", 0.85)
    sitters = _sitters(some, layout)
    usual = _traits(sitters, some)
    pixels = np.concatenate([to_lab(resize(picture, 32)).reshape(-1, 3) for picture in exemplars.pictures])
    layers = _layers(parts, exemplars, shapes - average - shift, layout, sitters)
    return LinearStyle(
        average=average,
        shift=shift,
        layers=layers,
        traits=np.stack([usual.mean(0), usual.std(0) + SPREAD_FLOOR]),
        palette=np.stack([pixels.mean(0), pixels.std(0)]),
        material=_material(exemplars, layers, some, sitters),
        natural=_natural(share, exemplars, some, layout.half),
    )


def _as_drawn(exemplars: Faces, real: Faces, average: np.ndarray, size: int) -> tuple[float, Faces]:
    """How natural the exemplars' features are, and the exemplars with landmarks where those features truly are."""
    layout = _layout(exemplars, average, size).half
    theirs, usual = _relatives(exemplars.known(), layout), _relatives(real, layout)
    share = natural_share(theirs, usual, layout)
    if not share:
        return share, exemplars
    return share, _moved(exemplars, share * proportions(theirs, usual, layout))


def _moved(exemplars: Faces, by: np.ndarray) -> Faces:
    """Exemplars with landmarks moved (468, 3) in the standard frame."""
    poses = [find_pose(points) for points in exemplars.points]
    points = [pose.place(pose.lift(one) + by) for pose, one in zip(poses, exemplars.points, strict=True)]
    return replace(exemplars, points=np.stack(points))


def _layout(exemplars: Faces, average: np.ndarray, size: int) -> Layout:
    return Layout(average + _shift(_shapes(exemplars), average), size)


def _apart(exemplars: Faces, layout: Layout) -> list[Exemplar]:
    rows = zip(exemplars.pictures, exemplars.points, strict=True)
    return [take_apart(layout.unwrap(picture, points), layout) for picture, points in rows]


def _shapes(exemplars: Faces) -> np.ndarray:
    """(E, 468, 3) in the standard frame, each mirror-symmetric."""
    return np.stack([symmetric(freed(points)) for points in exemplars.points])


def _shift(shapes: np.ndarray, average: np.ndarray) -> np.ndarray:
    """(468, 3) what moves the average face to the exemplars' shapes (E, 468, 3)."""
    # What the detector takes for the depth of a drawing is its habit.
    return (robust_mean(shapes) - average) * [1, 1, 0]


def _layers(
    parts: Sequence[Exemplar], exemplars: Faces, shapes: np.ndarray, layout: Layout, sitters: Sequence[Sitter]
) -> StyleLayers:
    """What the exemplars say together; ``sitters`` are realistic faces."""
    traits = _traits(_sitters(exemplars, layout), exemplars)
    places = np.stack([part.places for part in parts])
    trust = trust_in(places)
    patches = np.stack([part.patches for part in parts])
    for feature in range(patches.shape[1]):
        patches[:, feature], trust[:, feature] = register(patches[:, feature], trust[:, feature])
    return StyleLayers(
        skin_tones=np.stack([part.skin_tone for part in parts]),
        skins=np.stack([part.skin for part in parts]),
        patches=patches,
        places=places,
        shapes=shapes,
        traits=(traits - traits.mean(0)) / (traits.std(0) + SPREAD_FLOOR),
        trust=trust,
        brightest=float(np.percentile([sitter.skin[0] for sitter in sitters], 75)),
    )


def _material(exemplars: Faces, layers: StyleLayers, real: Faces, sitters: Sequence[Sitter]) -> Material:
    """What is known of the style's material but for its curve, which is to be found."""
    share = share_of_one(exemplars.pictures, real.pictures)
    if not share:
        return NO_MATERIAL
    usual = real.hair_contrast([sitter.skin for sitter in sitters])
    contrast = exemplars.hair_contrast(list(layers.skin_tones)) / max(usual, 1.0)
    light = np.array([sitter.skin[0] for sitter in sitters])
    skins = float(light.mean()), float(light.std())
    return replace(NO_MATERIAL, share=share, hair=float(np.clip(contrast, 0, 1)), skins=skins)


def _natural(share: float, exemplars: Faces, real: Faces, layout: Layout) -> Natural:
    if not share:
        return NOT_NATURAL
    return natural_of(share, _relatives(exemplars.known(), layout), _relatives(real, layout), layout)


def _relatives(faces: Faces, layout: Layout) -> list[Relative]:
    """Faces laid out, their colours against their skin's."""
    rows = [(layout.unwrap(*row), row[1]) for row in zip(faces.pictures, faces.points, strict=True)]
    return [relative(face, measure(face, points, layout).skin) for face, points in rows]


def _sitters(faces: Faces, layout: Layout) -> list[Sitter]:
    return [measured(picture, points, layout) for picture, points in zip(faces.pictures, faces.points, strict=True)]


def _traits(sitters: Sequence[Sitter], faces: Faces) -> np.ndarray:
    """(N, 3)."""
    return np.stack([traits_of(sitter, points) for sitter, points in zip(sitters, faces.points, strict=True)])
