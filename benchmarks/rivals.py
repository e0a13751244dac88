"""Ways to a 3D style from few pictures, compared by ``fewshot.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.avatar.invert import first_guess
from agile3d_cli.avatar.likeness import fit_shape, lead_of
from agile3d_cli.avatar.photo import Pixels, photo_pixels
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.errors import NoFaceError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import to_array
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import StyleDifference, in_style, stylized
from agile3d_cli.models.volume import composite, importance_depths, interval_weights, spread_depths
from agile3d_cli.style.augment import Pairs, make_pairs
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.displacement import style_displacement
from agile3d_cli.style.exemplars import ExemplarSet
from agile3d_cli.style.faces import BACKGROUND, GeneratorFaces
from agile3d_cli.style.finish import finished
from agile3d_cli.style.pipeline import learn_from
from agile3d_cli.stylizer import Stylizer

RATE, RAYS = 1e-3, 1536
"""Of plain fine-tuning: Adam's learning rate, and pixels compared in a step."""
COARSE, FINE = 28, 12
"""Its samples along a ray."""


class Model(Protocol):
    """What a method has learnt."""

    def head(self, z: Tensor) -> Drawn:
        """The head of a latent (1, z_dim) in the style."""
        ...


class Drawn(Protocol):
    """Something that can be looked at."""

    def render(self, labels: Tensor, size: int, background: float = 1.0) -> Rendering:
        """As ``avatar.head.Head``."""
        ...


@dataclass(frozen=True)
class Work:
    """How much each method does."""

    pairs: int = 120
    size: int = 192
    steps: int = 1200
    direct_steps: int = 300
    people: int = 20


QUICK = Work(pairs=60, size=160, steps=500, direct_steps=150)


def plain_head(generator: TriplaneGenerator, z: Tensor) -> GeneratorHead:
    """The head of a latent (1, z_dim), on the generator's device."""
    return GeneratorHead(generator, generator.from_latent(z.to(next(generator.parameters()))))


@dataclass(frozen=True)
class Styled:
    """A base generator with a learnt difference, as ``agile3d`` draws it."""

    generator: TriplaneGenerator
    difference: StyleDifference
    painter: TriplaneGenerator

    @torch.no_grad()
    def head(self, z: Tensor) -> GeneratorHead:
        """Surfaces of the base, moved by the style; colours of the stylized copy."""
        model, moved = self.generator, self.difference.displacement
        z = z.to(next(model.parameters()))
        ws = model.mapping(z)
        subject = model.subject(ws, model.deformation.weights(z), None if moved is None else moved[None].to(z))
        styled = in_style(subject, model, self.painter, ws)
        return GeneratorHead(model, styled, self.difference.contour, self.difference.light)


def lineless(model: Model) -> Model:
    """The same without a style's contour, which follows the view."""
    if not isinstance(model, Styled):
        return model
    return replace(model, difference=replace(model.difference, contour=None))


@dataclass(frozen=True)
class Tuned:
    """A generator that draws the style by itself."""

    generator: TriplaneGenerator

    @torch.no_grad()
    def head(self, z: Tensor) -> GeneratorHead:
        """Everything is the tuned generator's."""
        return plain_head(self.generator, z)


@dataclass(frozen=True)
class ViewByView:
    """The plain head, each view of which is stylized in 2D."""

    generator: TriplaneGenerator
    stylizer: Stylizer

    @torch.no_grad()
    def head(self, z: Tensor) -> _StylizedViews:
        """Depth is the plain head's."""
        return _StylizedViews(plain_head(self.generator, z), self.stylizer)


@dataclass(frozen=True)
class _StylizedViews:
    plain: GeneratorHead
    stylizer: Stylizer

    def render(self, labels: Tensor, size: int, background: float = 1.0) -> Rendering:
        seen = self.plain.render(labels, size, BACKGROUND)
        drawn = self.stylizer.stylize(seen.image)
        return replace(seen, image=drawn)


@dataclass(frozen=True)
class Pupil:
    """What methods learn from; what several of them need is made once."""

    base: BaseModel
    exemplars: ExemplarSet
    stylizer: Stylizer
    work: Work
    seed: int
    folder: Path

    def pairs(self, count: int) -> Pairs:
        """Stylized faces with exact cameras; fewer are the first of more."""
        faces = GeneratorFaces(self.base, self.work.size)
        found, _ = make_pairs(
            faces, self.stylizer, count, self.folder / "faces", {"seed": self.seed}, self.seed, silent
        )
        return found

    def learnt(self, pairs: Pairs, name: str, shape: bool = True) -> Styled:
        """The program's own way from pairs to a style."""
        displacement = style_displacement(pairs, self.base, stylizer=self.stylizer) if shape else None
        config = TransferConfig(steps=self.work.steps, seed=self.seed)
        state = self.folder / f"{name}.safetensors"
        learnt = learn_from(pairs, self.base, self.exemplars, displacement, config, state, silent).difference
        difference = finished(self.base, learnt, self.exemplars, config, silent)
        return Styled(self.base.generator, difference, stylized(self.base.generator, difference))


def silent(stage: str, fraction: float) -> None:
    """Nobody is told."""


def estimated(pairs: Pairs, framing: str) -> Pairs:
    """The same pairs with cameras found on the stylized pictures; those without a face keep the exact one."""
    labels = pairs.labels.clone()
    for number in range(len(pairs)):
        picture = to_array(pairs.stylized[number].float())
        try:
            face, _ = load_face(picture, FaceConfig(matte=False, template=framing))
        except NoFaceError:
            continue
        # The camera of the crop is the standard one; where it stands is what was estimated.
        labels[number] = camera.portrait_label(np.deg2rad(face.yaw), np.deg2rad(face.pitch))
    return replace(pairs, labels=labels)


def exchanged(pairs: Pairs) -> Pairs:
    """The same pictures at the same cameras, each said to be of the next one's person."""
    return replace(pairs, z=pairs.z.roll(-1, 0))


def direct(pupil: Pupil) -> Tuned:
    """Plain fine-tuning: every weight but the deformation's, by rendering the exemplars at their guessed latents."""
    base = pupil.base
    torch.manual_seed(pupil.seed)
    known = [found for image in pupil.exemplars.images if (found := _guessed(image, base)) is not None]
    generator = stylized(base.generator, StyleDifference({}, None)).requires_grad_(False)
    trained = [
        p.requires_grad_(True) for n, p in generator.named_parameters() if n.startswith(("backbone.", "decoder."))
    ]
    optimizer = torch.optim.Adam(trained, lr=RATE, betas=(0.9, 0.98))
    rng = torch.Generator().manual_seed(pupil.seed)
    for step in range(pupil.work.direct_steps if known else 0):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20) * (1 - 0.9 * step / pupil.work.direct_steps)
        z, target = known[int(torch.randint(len(known), (), generator=rng))]
        loss = _misfit(generator, z, target, rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Tuned(generator.requires_grad_(False))


def _guessed(image: Tensor, base: BaseModel) -> tuple[Tensor, Pixels] | None:
    """An exemplar's latent and pixels; None without a face."""
    config = FaceConfig(template=base.framing)
    try:
        face, _ = load_face(to_array(image), config)
    except NoFaceError:
        return None
    assert base.landmarks is not None
    shape = fit_shape(base.generator.deformation, torch.from_numpy(face.landmarks), base.landmarks, face.label)
    guess = first_guess(face, base, config.wide, shape)
    z = torch.cat([lead_of(shape, base.generator), guess.mean], 1)
    return z, photo_pixels(face, config.wide, next(base.generator.parameters()))


def _misfit(generator: TriplaneGenerator, z: Tensor, target: Pixels, rng: torch.Generator) -> Tensor:
    """Colour and outline error of random pixels."""
    subject = generator.from_latent(z)
    picked = torch.randint(len(target.alpha), (RAYS,), generator=rng)
    origin, direction = target.origin[picked][None], target.direction[picked][None]
    with torch.no_grad():
        coarse = spread_depths(generator.config.near, generator.config.far, COARSE, origin)
        points = (origin[..., None, :] + direction[..., None, :] * coarse[..., None]).flatten(1, 2)
        density = generator.look(subject, points).density.reshape(coarse.shape)
        depths = importance_depths(coarse, interval_weights(density, coarse), FINE)
    points = (origin[..., None, :] + direction[..., None, :] * depths[..., None]).flatten(1, 2)
    density, features = generator.field(subject, points)
    seen = composite(density.reshape(depths.shape), features.reshape(*depths.shape, -1)[..., :3], depths)
    alpha, weight = target.alpha[picked], target.weight[picked]
    wanted = target.colour[picked] * alpha[:, None]
    return (weight * ((seen.colour[0] - wanted).abs().mean(1) + 0.4 * (seen.alpha[0] - alpha).abs())).mean()


def methods(pupil: Pupil, chosen: Sequence[str]) -> dict[str, Callable[[], Model]]:
    """By name, those that are asked for."""
    base, count = pupil.base, pupil.work.pairs
    found: dict[str, Callable[[], Model]] = {
        "plain": lambda: Tuned(base.generator),
        "ours": lambda: pupil.learnt(pupil.pairs(count), "ours"),
        "direct": lambda: direct(pupil),
        "views": lambda: ViewByView(base.generator, pupil.stylizer),
        "unpaired": lambda: pupil.learnt(exchanged(pupil.pairs(count)), "unpaired"),
        "cameras": lambda: pupil.learnt(estimated(pupil.pairs(count), base.framing), "cameras"),
        "shape off": lambda: pupil.learnt(pupil.pairs(count), "shapeless", shape=False),
    }
    for number in (count // 4, 4 * count):
        found[f"pairs {number}"] = lambda number=number: pupil.learnt(pupil.pairs(number), f"pairs{number}")  # type: ignore[misc]
    return {name: make for name, make in found.items() if name in chosen or name.split()[0] in chosen}
