"""Styles whose truth is known: synthetic heads redrawn with exaggerated forms and with a shading of their own.

What a person looks like in such a style is exact from every side, colour and depth alike, so a learnt style can be
compared with what it should have become. Each style bends space around places of the head's own face, so that every
piece (skin, eyes, brows, hair, glasses) goes along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from agile3d_cli.heads.appearance import skin_tone
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import Masks
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.heads.subject import Subject, View, _Piece
from agile3d_cli.heads.template import Template

NOSE, CHIN, FOREHEAD, LEFT_CHEEK, RIGHT_CHEEK = 4, 152, 10, 50, 280
"""Landmarks of the face mesh."""
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
SKIN, STUBBLE = PARTS.index("skin"), PARTS.index("painted_hair")
EYES = tuple(PARTS.index(name) for name in ("eyes", "iris", "teeth"))


@dataclass(frozen=True)
class Places:
    """Where a head has its features, world units."""

    eyes: np.ndarray
    """(2, 3)."""
    nose: np.ndarray
    chin: np.ndarray
    forehead: np.ndarray
    cheeks: np.ndarray
    """(2, 3)."""

    @property
    def unit(self) -> float:
        """Distance of the eyes."""
        return float(np.linalg.norm(self.eyes[0] - self.eyes[1]))


@dataclass(frozen=True)
class Lit:
    """P places of a surface, as a style's shading sees them."""

    albedo: np.ndarray
    """(P, 3) linear."""
    part: np.ndarray
    """(P,) index into ``PARTS``."""
    facing: np.ndarray
    """(P,) cosine between normal and key light, zero in its shadow."""
    occlusion: np.ndarray
    """(P,) 0 where little of the sky is seen, 1 in the open."""
    upward: np.ndarray
    """(P,) the normal's height."""
    skin: float
    """Luminance of the person's skin."""


@dataclass(frozen=True)
class TruthStyle:
    """A style by formula."""

    name: str
    bend: Callable[[np.ndarray, Places], np.ndarray]
    """Vertices (V, 3) to where they lie in the style."""
    shade: Callable[[Lit], np.ndarray]
    """Colours (P, 3), sRGB in [0, 1]."""
    lines: bool = False
    """Whether outlines are inked."""


class StyledSubject(Subject):
    """A head made from z (Z_DIM,) in a style; looked at like any other."""

    def __init__(
        self, z: np.ndarray, template: Template, kit: Kit, masks: Masks, landmarks: np.ndarray, style: TruthStyle
    ):
        """``landmarks`` (468, 3) lie on the mean head."""
        self._style, self._landmarks = style, landmarks
        super().__init__(z, template, kit, masks)

    def _assemble(self) -> list[_Piece]:
        pieces = super()._assemble()
        used = np.unique(self.template.faces)
        mean = self.template.mean[used]

        def at(landmark: int) -> np.ndarray:
            nearest = used[np.linalg.norm(mean - self._landmarks[landmark], axis=1).argmin()]
            return np.asarray(self.base[nearest])

        cheeks = np.stack([at(LEFT_CHEEK), at(RIGHT_CHEEK)])
        places = Places(self._eye_fronts(pieces[1].vertices), at(NOSE), at(CHIN), at(FOREHEAD), cheeks)
        return [replace(piece, vertices=self._style.bend(piece.vertices, places)) for piece in pieces]

    def _shade(self, face: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        corners = self.faces[face]
        normal = (self.normals[corners] * weights[..., None]).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        shadow = (self.shadow[corners] * weights).sum(1)
        albedo, _, part = self._albedo(face, weights)
        occlusion = (self.occlusion[corners] * weights).sum(1)
        skin = float(skin_tone(self.p.tone, self.p.redness) @ LUMINANCE)
        lit = Lit(albedo, part, (normal @ self.p.light) * (shadow > 0.5), occlusion, normal[:, 1], skin)
        return np.clip(self._style.shade(lit), 0, 1), part

    def render(self, label: torch.Tensor, size: int) -> View:
        view = super().render(label, size)
        return replace(view, image=_inked(view)) if self._style.lines else view


def swell(points: np.ndarray, centre: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Points (V, 3) around ``centre`` moved away from it, by ``amount`` of their distance close to it; below 0 towards
    it. Folds nothing between -1 and 2.2."""
    away = points - centre
    near = np.exp(-(away**2).sum(1, keepdims=True) / (2 * radius**2))
    return points + amount * near * away


def shift(points: np.ndarray, centre: np.ndarray, radius: float, way: np.ndarray) -> np.ndarray:
    """Points (V, 3) around ``centre`` moved by ``way``."""
    near = np.exp(-((points - centre) ** 2).sum(1, keepdims=True) / (2 * radius**2))
    return points + near * way


def _both(points: np.ndarray, sides: np.ndarray, bend: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """What is done to one side and to the other, at once."""
    return points + sum(bend(points, side) - points for side in sides)


def _toon_bend(points: np.ndarray, p: Places) -> np.ndarray:
    """Large eyes, a button of a nose, round cheeks."""
    u = p.unit
    points = _both(points, p.eyes, lambda x, eye: swell(x, eye, 0.36 * u, 0.85))
    points = swell(points, p.nose - [0, 0, 0.3 * u], 0.3 * u, -0.4)
    points = _both(points, p.cheeks, lambda x, c: shift(x, c, 0.5 * u, np.array([0.1 * np.sign(c[0]), 0, 0.05]) * u))
    return shift(points, p.chin, 0.5 * u, np.array([0, 0.12 * u, 0]))


def _toon_shade(lit: Lit) -> np.ndarray:
    """Two flat tones of lively colours."""
    grey = lit.albedo @ LUMINANCE
    lively = np.clip(grey[:, None] + 1.25 * (lit.albedo - grey[:, None]), 0.002, 1) ** 0.85
    band = 0.62 + 0.38 * _step(lit.facing, 0.12, 0.04)
    band = np.where(np.isin(lit.part, EYES), 1.0, band)
    return (1.15 * lively) ** (1 / 2.2) * band[:, None] + 0.03


def _clay_bend(points: np.ndarray, p: Places) -> np.ndarray:
    """A high forehead, a large nose and a long chin."""
    u = p.unit
    points = swell(points, p.forehead - [0, 0, 0.6 * u], 1.1 * u, 0.28)
    points = swell(points, p.nose - [0, 0, 0.25 * u], 0.3 * u, 0.6)
    return shift(points, p.chin, 0.5 * u, np.array([0, -0.28, 0.16]) * u)


def _clay_shade(lit: Lit) -> np.ndarray:
    """One material, darker and lighter with what it shows, in soft light."""
    tone = np.clip(lit.albedo @ LUMINANCE, 0, 1) ** 0.5
    clay = np.array([0.62, 0.36, 0.25]) * (0.35 + 0.9 * tone)[:, None]
    soft = np.clip((lit.facing + 0.4) / 1.4, 0, 1)
    light = (0.35 + 0.12 * lit.upward) * (0.15 + 0.85 * lit.occlusion**1.5) + 0.75 * soft
    return np.clip(clay * light[:, None], 0, 1) ** (1 / 2.2)


def _ink_bend(points: np.ndarray, p: Places) -> np.ndarray:
    """A narrow jaw with a pointed chin, larger eyes, a longer face."""
    u = p.unit
    points = _both(points, p.eyes, lambda x, eye: swell(x, eye, 0.34 * u, 0.28))
    near = np.exp(-((points - (p.chin + np.array([0, 0.3, -0.3]) * u)) ** 2).sum(1) / (2 * (0.7 * u) ** 2))
    points = points * np.stack([1 - 0.24 * near, np.ones_like(near), np.ones_like(near)], 1)
    return shift(points, p.chin, 0.4 * u, np.array([0, -0.2 * u, 0.05 * u]))


def _ink_shade(lit: Lit) -> np.ndarray:
    """Paper of the skin's lightness, greys and black for what is darker than skin, with a breath of colour."""
    paper = 0.5 + 0.5 * lit.skin ** (1 / 2.2)
    against = np.where(lit.part == SKIN, lit.skin, 0.3)
    ratio = (lit.albedo @ LUMINANCE / against) ** (1 / 2.2)
    steps = 0.1 + (0.55 * paper - 0.1) * _step(ratio, 0.45, 0.05) + 0.45 * paper * _step(ratio, 0.75, 0.05)
    steps = np.where(np.isin(lit.part, EYES), 0.1 + 0.88 * _step(lit.albedo @ LUMINANCE, 0.25, 0.1), steps)
    band = 0.72 + 0.28 * _step(lit.facing, 0.2, 0.04)
    band = np.where(np.isin(lit.part, EYES), 1.0, band)
    tint = lit.albedo / np.maximum(lit.albedo.max(1, keepdims=True), 1e-3)
    return steps[:, None] * band[:, None] * (0.75 + 0.25 * tint)


def _step(values: np.ndarray, edge: float, width: float) -> np.ndarray:
    t = np.clip((values - edge) / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _inked(view: View) -> np.ndarray:
    """The picture with black lines where depth jumps and where one part ends."""
    size = len(view.alpha)
    reach = max(1, round(size / 160))
    depth = np.where(view.alpha > 0, view.depth, view.depth[view.alpha > 0].max() + 0.2)
    jump = ndimage.grey_dilation(depth, 3) - ndimage.grey_erosion(depth, 3) > 0.05
    # Irises and teeth, stubble and cropped hair are drawn by their colours.
    part = np.where(np.isin(view.part, [1 + k for k in EYES[1:]]), 1 + EYES[0], view.part)
    part = np.where(part == 1 + STUBBLE, 1 + SKIN, part)
    other = ndimage.grey_dilation(part, 3) != ndimage.grey_erosion(part, 3)
    lines = ndimage.binary_dilation(jump | other, iterations=max(reach - 1, 0)) if reach > 1 else jump | other
    return np.where((lines & (view.alpha > 0))[..., None], np.float32(0.06), view.image).astype(np.float32)


STYLES = (
    TruthStyle("toon", _toon_bend, _toon_shade),
    TruthStyle("clay", _clay_bend, _clay_shade),
    TruthStyle("ink", _ink_bend, _ink_shade, lines=True),
)
