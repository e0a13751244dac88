"""What the methods of ``fewshot.py`` learn from and are judged by: styles by formula, and exemplars that were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.avatar.head import Rendering
from agile3d_cli.avatar.measure import embedding
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import Masks, build_masks
from agile3d_cli.heads.subject import View
from agile3d_cli.heads.template import Template, build_template
from agile3d_cli.image import save_png, to_array
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.perceptual import style_features
from agile3d_cli.prior.subjects import latent
from agile3d_cli.scores import kernels, style_distance
from agile3d_cli.style.exemplars import ExemplarSet, as_batch, read_exemplars
from agile3d_cli.style.faces import BACKGROUND, PITCH, TRUNCATION, YAW
from agile3d_cli.style.score import head_features
from benchmarks.heldout import held_out
from benchmarks.rivals import plain_head
from benchmarks.truths import StyledSubject, TruthStyle

EXEMPLARS, DRAWN_EXEMPLARS = 20, 16
"""Of a style by formula; and at most of a drawn set that has no further pictures, whose others are held out."""
FIRST = 3_000_000
"""Number of the first subject; training counts from 0, other benchmarks from one and two million."""
SIZE, EXEMPLAR_SIZE = 128, 256
SIDE, NEAR = 0.4363, 0.2618
"""Yaws of the turned views, and of the second view for agreement: 25 and 15 degrees."""
NOBODY = 10.0
"""An embedding so far from all that it is nobody's."""
LABELS = torch.stack([camera.portrait_label(yaw) for yaw in (0.0, -SIDE, SIDE, NEAR)])


@dataclass(frozen=True)
class Person:
    """A person's true stylized head: front, to both sides, and a little aside."""

    z: Tensor
    """(1, z_dim)."""
    images: Tensor
    """(4, 3, SIZE, SIZE) on ``BACKGROUND``."""
    alphas: Tensor
    depths: Tensor
    """(4, 1, SIZE, SIZE) each."""
    codes: Tensor
    """(3, 128) embeddings of the front and of both sides."""


class StyleSet(Protocol):
    """Where exemplars come from, and what a method's heads are held against."""

    name: str
    known: bool
    """Whether people's true heads in the style are known; if not, ``Person`` is the head without a style."""

    def exemplars(self, seed: int) -> ExemplarSet:
        """What a seed's methods learn from."""
        ...

    def people(self, seed: int, count: int) -> list[Person]:
        """Whom they draw; no exemplar shows them."""
        ...

    def looks(self, seen: Rendering, large: Rendering) -> Tensor:
        """Style features (1, D) of a front view, which is the first of views of ``SIZE`` and of ``EXEMPLAR_SIZE``."""
        ...

    def distances(self, features: Tensor, people: Sequence[Person], seed: int) -> list[float]:
        """How far from the style features (P, D) are: numbers whose mean is the distance."""
        ...


class Truth:
    """A style by formula: maker of its exemplars and people; what is in ``keep`` already is not made again."""

    known = True

    def __init__(self, style: TruthStyle, kit: Path, base: BaseModel, keep: Path):
        assert base.landmarks is not None, "the truth lies in mini's own space"
        self._style, self._landmarks = style, base.landmarks.cpu().numpy()
        self._kit_folder, self._keep, self._framing = kit, keep / style.name, base.framing
        self.name = style.name

    @cached_property
    def _parts(self) -> tuple[Template, Kit, Masks]:
        template, kit = build_template(), Kit(self._kit_folder)
        return template, kit, build_masks(template, kit)

    def _subject(self, z: np.ndarray) -> StyledSubject:
        return StyledSubject(z, *self._parts, self._landmarks, self._style)

    def exemplars(self, seed: int) -> ExemplarSet:
        """``EXEMPLARS`` pictures of random people from random sides."""
        folder = self._keep / f"exemplars-{seed}"
        if len(list(folder.glob("*.png"))) < EXEMPLARS:
            folder.mkdir(parents=True, exist_ok=True)
            self._draw_exemplars(folder, seed)
        return read_exemplars(folder, self._framing)

    def _draw_exemplars(self, folder: Path, seed: int) -> None:
        rng = np.random.default_rng([20, seed])
        for number in range(EXEMPLARS):
            subject = self._subject(TRUNCATION * latent(FIRST + 1000 * seed + number))
            label = camera.portrait_label(rng.uniform(-YAW, YAW), PITCH * rng.normal())
            save_png(folder / f"{number:02d}.png", to_array(_shown(subject.render(label, EXEMPLAR_SIZE))))

    def people(self, seed: int, count: int) -> list[Person]:
        """People of whom no exemplar shows any."""
        return [self._kept_person(seed, number) for number in range(count)]

    def _kept_person(self, seed: int, number: int) -> Person:
        file = self._keep / f"people-{seed}" / f"{number:02d}.safetensors"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            save_file(vars(self._person(FIRST + 900_000 + 1000 * seed + number)), file)
        return Person(**load_file(file))

    def _person(self, number: int) -> Person:
        z = TRUNCATION * latent(number)
        subject = self._subject(z)
        views = [subject.render(label, SIZE) for label in LABELS]
        images = torch.stack([_shown(view) for view in views])
        alphas = torch.from_numpy(np.stack([view.alpha for view in views]))[:, None]
        depths = torch.from_numpy(np.stack([view.depth for view in views]))[:, None]
        codes = codes_of(torch.stack([_shown(subject.render(label, EXEMPLAR_SIZE)) for label in LABELS[:3]]))
        return Person(torch.from_numpy(z)[None].float(), images, alphas, depths, codes)

    def looks(self, seen: Rendering, large: Rendering) -> Tensor:
        """Of whole pictures, as small as the true ones."""
        return style_features(seen.image[:1])

    def distances(self, features: Tensor, people: Sequence[Person], seed: int) -> list[float]:
        """A number a person, see ``style_distances``."""
        return style_distances(features, style_features(torch.cat([person.images[:1] for person in people])))


class Drawn:
    """A folder of exemplars whose people nobody knows: others of the style are held out, and its people are heads of
    the generator, which a method should keep apart."""

    known = False

    def __init__(self, folder: Path, further: Path | None, base: BaseModel):
        """``further`` holds more pictures of the style; without it some of ``folder`` are held out for each seed."""
        self.name, self._base = folder.resolve().name, base
        self._all = read_exemplars(folder, base.framing)
        self._further = None if further is None else held_out(further, self._all, base.framing)

    def exemplars(self, seed: int) -> ExemplarSet:
        """All of the folder, or a random ``DRAWN_EXEMPLARS`` of them."""
        return self._split(seed)[0]

    def _split(self, seed: int) -> tuple[ExemplarSet, ExemplarSet]:
        if self._further is not None:
            return self._all, self._further
        order = np.random.default_rng([21, seed]).permutation(len(self._all.exemplars)).tolist()
        parts = sorted(order[:DRAWN_EXEMPLARS]), sorted(order[DRAWN_EXEMPLARS:])
        learnt, others = (replace(self._all, exemplars=tuple(self._all.exemplars[k] for k in part)) for part in parts)
        return learnt, others

    def people(self, seed: int, count: int) -> list[Person]:
        """Heads without a style."""
        numbers = range(FIRST + 900_000 + 1000 * seed, FIRST + 900_000 + 1000 * seed + count)
        return [self._person(torch.from_numpy(TRUNCATION * latent(number))[None].float()) for number in numbers]

    def _person(self, z: Tensor) -> Person:
        head = plain_head(self._base.generator, z)
        seen, large = head.render(LABELS, SIZE, BACKGROUND), head.render(LABELS[:3], EXEMPLAR_SIZE, BACKGROUND)
        return Person(z, seen.image.cpu(), seen.alpha.cpu(), seen.depth.cpu(), codes_of(large.image.cpu()))

    def looks(self, seen: Rendering, large: Rendering) -> Tensor:
        """In the head's region, as exemplars have backgrounds of their own."""
        return head_features(large.image[:1])

    def distances(self, features: Tensor, people: Sequence[Person], seed: int) -> list[float]:
        """One number: KID to what is held out."""
        wanted = head_features(as_batch(self._split(seed)[1], EXEMPLAR_SIZE))
        return [style_distance(features, wanted, resamples=1).value]


def style_distances(drawn: Tensor, true: Tensor) -> list[float]:
    """KID of features (P, D) to those of the truth, where no person is compared with him- or herself.

    One number a person: their mean is the distance, and the standard error of their mean is that of the distance (the
    first term of a U-statistic's: twice a person's part, less once the whole).
    Source: Gretton et al., A Kernel Two-Sample Test, 2012, lemma 6; the kernel is that of ``scores.style_distance``.
    """
    own, wanted, across = kernels(drawn, true)
    terms = (own + wanted - across - across.T).fill_diagonal_(0)
    parts = terms.sum(1) / (len(terms) - 1)
    return list((2 * parts - parts.mean()).tolist())


def _shown(view: View) -> Tensor:
    """(3, S, S) in [-1, 1] on the usual grey."""
    image, alpha = torch.from_numpy(view.image).permute(2, 0, 1), torch.from_numpy(view.alpha)
    return image * alpha * 2 - alpha + (1 - alpha) * BACKGROUND


def codes_of(images: Tensor) -> Tensor:
    """(N, 128) embeddings; where no face is found, nobody's."""
    found = [embedding(image, None) for image in images]
    return torch.cat([torch.full((1, 128), NOBODY) if code is None else code for code in found])
