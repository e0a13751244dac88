"""The stylizer: exemplars -> linear style; face -> latent of shape and appearance -> the same face in the style.

Follows the scheme of AgileGAN (Song et al., ACM TOG 2021): encode, then decode with what was learnt from the exemplars,
the latent keeping the person. Where the paper trains a StyleGAN2 and a hierarchical encoder, this version has the
landmark mesh as encoder and a linear model of layered pictures as generator; nothing is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.camera import portrait_label, project
from agile3d_cli.errors import ConfigError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.template import face_template
from agile3d_cli.stylizer import FaceBatch, FaceSampler, Progress
from agile3d_linear.blend import StyleLayers, draw, kindred_shape, trust_in
from agile3d_linear.config import LinearConfig
from agile3d_linear.features import take_apart
from agile3d_linear.lay import lay_face
from agile3d_linear.layout import Layout
from agile3d_linear.material import NO_MATERIAL, hair_over_skin, material_of, share_of_one
from agile3d_linear.model import LinearStyle
from agile3d_linear.outline import to_edge
from agile3d_linear.picture import resize
from agile3d_linear.register import register
from agile3d_linear.shape import calm_features, find_pose, freed, reference, robust_mean, symmetric
from agile3d_linear.sitter import Sitter, measure, shape_traits
from agile3d_linear.surroundings import globally, redraw
from agile3d_linear.tone import to_lab

FOUND_AT = 256
"""Pictures smaller than this are enlarged before faces are looked for."""
KINDRED = 0.8
"""How far the form follows the exemplars most like the sitter, beyond the style's average form."""
MEASURED = 48
"""Realistic faces on which brows are measured."""
DRAWN = 12
"""Realistic faces that are drawn to see what lightness they get."""
SPREAD_FLOOR = np.array([0.01, 0.01, 1.0])
"""Least standard deviation of a trait, so that a set of equal faces divides by something."""


class LinearStylizer:
    """Redraws faces in the style of its exemplars; see ``agile3d_cli.stylizer.Stylizer`` for the contract.

    A picture without a face that is found is only smoothed and retoned.
    """

    def __init__(self, config: LinearConfig | None = None, style: LinearStyle | None = None) -> None:
        self.config = config or LinearConfig()
        self._style = style
        self._layout = Layout(style.average + style.shift, self.config.layout) if style else None

    @property
    def style(self) -> LinearStyle:
        """What was learnt."""
        return self._fitted()[0]

    @property
    def shape_shift(self) -> Tensor:
        """(468, 3) how the style moves each landmark of the average face.

        Convention: the standard face's frame, free of the head's pose: x towards the picture's right, y up, z towards
        the viewer, which is 0; the eye centres of the standard face are 1 apart. Mirror-symmetric.
        """
        return torch.from_numpy(self._fitted()[0].shift).float()

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the style. Exemplars are aligned by the caller (``agile3d_cli.face.align``)."""
        pictures = [_as_picture(exemplar) for exemplar in exemplars]
        if not pictures:
            raise ConfigError("The linear stylizer was given no exemplars; give about 20 pictures of one style.")
        progress("looking at realistic faces", 0.0)
        real = faces.sample(self.config.faces, torch.Generator().manual_seed(seed))
        real_points = _as_detected(real)
        average = symmetric(robust_mean(np.stack([freed(points) for points in real_points])))
        progress("finding the exemplars' faces", 0.2)
        found = [_landmarks(picture) for picture in pictures]
        usual = _usual_edge(real, real_points)
        points = [
            _usual_place() if one is None else _outlined(picture, one, usual)
            for picture, one in zip(pictures, found, strict=True)
        ]
        shapes = np.stack([symmetric(freed(one)) for one in points])
        # What the detector takes for the depth of a drawing is its habit.
        shift = (robust_mean(shapes) - average) * [1, 1, 0]
        layout = Layout(average + shift, self.config.layout)
        parts = []
        for index, (picture, one) in enumerate(zip(pictures, points, strict=True)):
            progress("taking the exemplars apart", 0.3 + 0.5 * index / len(pictures))
            parts.append(take_apart(layout.unwrap(picture, one), layout))
        progress("comparing with realistic faces", 0.85)
        raw = np.stack([_traits(_measure(p, q, layout), q) for p, q in zip(pictures, points, strict=True)])
        some = [_as_picture(image) for image in real.images[:MEASURED]]
        sitters = [_measure(p, q, layout) for p, q in zip(some, real_points[: len(some)], strict=True)]
        real_traits = np.stack(
            [_traits(sitter, q) for sitter, q in zip(sitters, real_points[: len(some)], strict=True)]
        )
        places = np.stack([part.places for part in parts])
        trust = trust_in(places)
        patches = np.stack([part.patches for part in parts])
        for feature in range(patches.shape[1]):
            patches[:, feature], trust[:, feature] = register(patches[:, feature], trust[:, feature])
        layers = StyleLayers(
            skin_tones=np.stack([part.skin_tone for part in parts]),
            skins=np.stack([part.skin for part in parts]),
            patches=patches,
            places=places,
            shapes=shapes - average - shift,
            traits=(raw - raw.mean(0)) / (raw.std(0) + SPREAD_FLOOR),
            trust=trust,
            brightest=float(np.percentile([sitter.skin[0] for sitter in sitters], 75)),
        )
        pixels = np.concatenate([to_lab(resize(picture, 32)).reshape(-1, 3) for picture in pictures])
        self._style = LinearStyle(
            average=average,
            shift=shift,
            layers=layers,
            traits=np.stack([real_traits.mean(0), real_traits.std(0) + SPREAD_FLOOR]),
            palette=np.stack([pixels.mean(0), pixels.std(0)]),
        ).rounded()
        self._layout = Layout(self._style.average + self._style.shift, self.config.layout)
        progress("looking at the style's material", 0.95)
        share = share_of_one(pictures, some)
        if share:
            skins = layers.skin_tones, [sitter.skin for sitter in sitters]
            theirs, usual_gap = (
                np.mean([abs(hair_over_skin(*one)) for one in zip(seen, where, tones, strict=True)])
                for seen, where, tones in zip((pictures, some), (points, real_points[: len(some)]), skins, strict=True)
            )
            hair = float(np.clip(theirs / max(usual_gap, 1.0), 0, 1))
            self._style = replace(self._style, material=replace(NO_MATERIAL, share=share, hair=hair))
            drawn = [self._one(picture) for picture in some[:DRAWN]]
            self._style = replace(self._style, material=material_of(pictures, drawn, share, hair)).rounded()
        progress("done", 1.0)

    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style; each picture on its own, on the CPU."""
        self._fitted()
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ConfigError(f"stylize takes pictures (N, 3, S, S), not {tuple(images.shape)}.")
        styled = [torch.from_numpy(self._one(_as_picture(image))).permute(2, 0, 1) * 2 - 1 for image in images]
        if not styled:
            return torch.zeros_like(images)
        return torch.stack(styled).clamp(-1, 1).to(images)

    def save(self, path: Path) -> None:
        """Writes the style; see ``state.py``."""
        from agile3d_linear.state import write_state

        write_state(path, self.config, self._fitted()[0])

    def _fitted(self) -> tuple[LinearStyle, Layout]:
        if self._style is None or self._layout is None:
            raise ConfigError("The linear stylizer has learnt no style yet; call fit or load first.")
        return self._style, self._layout

    def _one(self, photo: np.ndarray) -> np.ndarray:
        """Photo (S, S, 3) in [0, 1] to its stylized version."""
        style, layout = self._fitted()
        landmarks = _landmarks(photo)
        if landmarks is None:
            return globally(photo, style.palette, self.config)
        sitter = _measure(photo, landmarks, layout)
        traits = (_traits(sitter, landmarks) - style.traits[0]) / style.traits[1]
        material, config = style.material, self.config
        face, tone = draw(sitter, traits, style.layers, layout, config, material)
        target = self._target(landmarks, traits)
        base, bare, person = redraw(
            photo, landmarks, target, sitter.skin, tone, config, material.hair_kept(config.color)
        )
        return material(lay_face(base, bare, face, target, layout), person, config.color)

    def _target(self, landmarks: np.ndarray, traits: np.ndarray) -> np.ndarray:
        """Where the landmarks (468, 3) lie in the style, in the photo's pose."""
        style, _ = self._fitted()
        pose = find_pose(landmarks)
        own = pose.lift(landmarks) - style.average
        calm = calm_features(own, style.average)
        own = own + min(self.config.structure, 1.0) * (self.config.exaggeration * calm - own)
        drawn = style.shift + KINDRED * kindred_shape(style.layers, traits)
        return pose.place(style.average + own + self.config.structure * drawn)


def _as_picture(image: Tensor) -> np.ndarray:
    """(3, S, S) in [-1, 1] to (S, S, 3) in [0, 1]."""
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1] != image.shape[2] or image.shape[1] < 16:
        raise ConfigError(f"A picture is (3, S, S) with S of 16 or more, not {tuple(image.shape)}.")
    picture = image.detach().float().cpu().permute(1, 2, 0).contiguous().numpy()
    return np.clip((picture + 1) / 2, 0, 1)


def _measure(picture: np.ndarray, landmarks: np.ndarray, layout: Layout) -> Sitter:
    return measure(layout.half.unwrap(picture, landmarks), landmarks, layout.half)


def _traits(sitter: Sitter, landmarks: np.ndarray) -> np.ndarray:
    """(3,) see ``StyleLayers.traits``, not yet in standard deviations."""
    return np.array([*shape_traits(freed(landmarks)), sitter.brow_strength])


def _landmarks(picture: np.ndarray) -> np.ndarray | None:
    """(468, 3) as fractions of the picture, of the face nearest to its centre; None without a face."""
    seen = resize(picture, max(FOUND_AT, len(picture)))
    faces = find_faces(np.round(seen * 255).clip(0, 255).astype(np.uint8), FaceConfig(threads=1, matte=False))
    if not faces:
        return None
    points = [face.points.astype(float) / len(seen) for face in faces]
    return min(points, key=lambda one: float(np.linalg.norm(one[:, :2].mean(0) - 0.5)))


def _as_detected(faces: FaceBatch) -> np.ndarray:
    """(N, 468, 3) where the landmarks of faces seem to be.

    Exemplars and sitters are measured by a detector, whose habits are as large as a style's shifts: depths come out
    flatter by a tenth of the eye distance. A face that it misses gets the habit seen on the others.
    """
    known = faces.landmarks.double().cpu().numpy()
    seen = [_landmarks(_as_picture(image)) for image in faces.images]
    found = np.array([points is not None for points in seen])
    if not found.any():
        return known
    given = np.stack([k if s is None else s for k, s in zip(known, seen, strict=True)])
    habit = np.mean([freed(s) - freed(k) for s, k in zip(given[found], known[found], strict=True)], 0)
    for index in np.flatnonzero(~found):
        given[index] = find_pose(known[index]).place(freed(known[index]) + habit)
    return given


def _usual_edge(faces: FaceBatch, points: np.ndarray) -> np.ndarray:
    """(468, 3) how far beyond the landmarks (N, 468, 3) of faces their skin usually ends, standard frame."""
    some = zip(faces.images[:MEASURED], points[:MEASURED], strict=True)
    return symmetric(np.mean([freed(to_edge(_as_picture(image), one)) - freed(one) for image, one in some], 0))


def _outlined(picture: np.ndarray, landmarks: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Landmarks (468, 3) of an exemplar, whose outline lies as far inside the edge of the skin as usual."""
    edge = to_edge(picture, landmarks)
    return find_pose(edge).place(freed(edge) - usual)


def _usual_place() -> np.ndarray:
    """Landmarks (468, 3) of the standard face at the standard camera: where an aligned picture has its face."""
    label = portrait_label().double()[None]
    points = project(label, torch.from_numpy(face_template().points)[None])[0].numpy()
    scale = float(np.ptp(points[:, 0]) / np.ptp(reference()[:, 0]))
    depth = -reference()[:, 2] * scale
    return np.column_stack([points[:, :2], depth])
