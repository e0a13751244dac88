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

from agile3d_cli.errors import ConfigError
from agile3d_cli.stylizer import FaceSampler, Progress
from agile3d_linear.blend import draw, kindred_shape
from agile3d_linear.config import LinearConfig
from agile3d_linear.detected import as_picture, landmarks_in
from agile3d_linear.lay import lay_face
from agile3d_linear.layout import Layout
from agile3d_linear.learning import Faces, faces_of, learn, realistic_faces
from agile3d_linear.material import material_of
from agile3d_linear.model import LinearStyle
from agile3d_linear.natural import Relative, laid_over, relative
from agile3d_linear.picture import resize
from agile3d_linear.shape import calm_features, find_pose
from agile3d_linear.sitter import Sitter, measured, traits_of
from agile3d_linear.surroundings import globally, redraw

KINDRED = 0.8
"""How far the form follows the exemplars most like the sitter, beyond the style's average form."""
DRAWN = 12
"""Realistic faces that are drawn to see what lightness they get."""


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

    @property
    def features_drawn(self) -> float:
        """How far the exemplars' eyes and mouths are drawn in place of the sitter's, 0 to 1."""
        return 1 - self._fitted()[0].natural.share

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the style. Exemplars are aligned by the caller (``agile3d_cli.face.align``)."""
        pictures = [as_picture(exemplar) for exemplar in exemplars]
        if not pictures:
            raise ConfigError("The linear stylizer was given no exemplars; give about 20 pictures of one style.")
        progress("looking at realistic faces", 0.0)
        batch = faces.sample(self.config.faces, torch.Generator().manual_seed(seed))
        real = realistic_faces(batch)
        progress("finding the exemplars' faces", 0.2)
        drawn = faces_of(pictures, batch, real)
        self._use(learn(drawn, real, self.config.layout, progress))
        progress("looking at the style's material", 0.95)
        self._find_material(drawn, real)
        progress("done", 1.0)

    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style; each picture on its own, on the CPU."""
        self._fitted()
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
            raise ConfigError(f"stylize takes pictures (N, 3, S, S), not {tuple(images.shape)}.")
        styled = [torch.from_numpy(self._one(as_picture(image))).permute(2, 0, 1) * 2 - 1 for image in images]
        if not styled:
            return torch.zeros_like(images)
        return torch.stack(styled).clamp(-1, 1).to(images)

    def save(self, path: Path) -> None:
        """Writes the style; see ``state.py``."""
        from agile3d_linear.state import write_state

        write_state(path, self.config, self._fitted()[0])

    def _use(self, style: LinearStyle) -> None:
        self._style = style.rounded()
        self._layout = Layout(self._style.average + self._style.shift, self.config.layout)

    def _find_material(self, exemplars: Faces, real: Faces) -> None:
        """Finds the curve of a style's material, if it has one, on faces drawn without it."""
        style, _ = self._fitted()
        known = style.material
        if known.share:
            drawn = [self._one(picture) for picture in real.pictures[:DRAWN]]
            self._use(replace(style, material=material_of(exemplars.pictures, drawn, known)))

    def _fitted(self) -> tuple[LinearStyle, Layout]:
        if self._style is None or self._layout is None:
            raise ConfigError("The linear stylizer has learnt no style yet; call fit or load first.")
        return self._style, self._layout

    def _one(self, photo: np.ndarray) -> np.ndarray:
        """Photo (S, S, 3) in [0, 1] to its stylized version."""
        style, layout = self._fitted()
        landmarks = landmarks_in(photo)
        if landmarks is None:
            return globally(photo, style.palette, self.config)
        sitter = measured(photo, landmarks, layout)
        traits = (traits_of(sitter, landmarks) - style.traits[0]) / style.traits[1]
        material, config = style.material, self.config
        face, tone = draw(sitter, traits, style.layers, layout, config, material)
        if style.natural.share:
            own = style.natural(self._own(layout, photo, landmarks, sitter), tone, layout, config.color)
            face[..., :3] = laid_over(face[..., :3], own, sitter.seen, style.natural.share, layout)
        target = self._target(landmarks, traits)
        base, bare, person = redraw(
            photo, landmarks, target, sitter.skin, tone, config, material.hair_kept(config.color)
        )
        return material(lay_face(base, bare, face, target, layout), person, config.color)

    def _own(self, layout: Layout, photo: np.ndarray, landmarks: np.ndarray, sitter: Sitter) -> Relative:
        """The sitter's own face, laid out, without the light that is not drawn."""
        own = relative(layout.unwrap(photo, landmarks), sitter.skin)
        return replace(own, steps=own.steps - (1 - self.config.light) * resize(sitter.light, layout.size)[..., 0])

    def _target(self, landmarks: np.ndarray, traits: np.ndarray) -> np.ndarray:
        """Where the landmarks (468, 3) lie in the style, in the photo's pose."""
        style, _ = self._fitted()
        pose = find_pose(landmarks)
        own = pose.lift(landmarks) - style.average
        calm = calm_features(own, style.average)
        own = own + min(self.config.structure, 1.0) * (self.config.exaggeration * calm - own)
        drawn = style.shift + KINDRED * kindred_shape(style.layers, traits)
        return pose.place(style.average + own + self.config.structure * drawn)
