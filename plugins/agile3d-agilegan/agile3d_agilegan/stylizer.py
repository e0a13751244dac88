"""The stylizer: exemplars -> stylized generator; face -> code in Z+ -> the same face in the style.

Source: Song et al., "AgileGAN: Stylizing Portraits by Inversion-Consistent Transfer Learning" (SIGGRAPH 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_agilegan.branches import Division, attribute_of, divide
from agile3d_agilegan.codes import mixed, refined, told
from agile3d_agilegan.config import ATTRIBUTES, AgileganConfig
from agile3d_agilegan.model import LearntStyle, Painter
from agile3d_agilegan.network import LETTERS
from agile3d_agilegan.official import SEEN, read_official
from agile3d_agilegan.score import StyleScore
from agile3d_agilegan.transfer import Material, Transfer
from agile3d_agilegan.trust import known_error, palette_of
from agile3d_cli.errors import ConfigError
from agile3d_cli.models.contrast import contrast_between
from agile3d_cli.models.flat import FlatPrior, read_flat, shipped_flat
from agile3d_cli.models.flat_encoder import resized
from agile3d_cli.stylizer import FaceSampler, Progress

LEAST = 16
"""Smallest edge of a picture, pixels."""


class AgileganStylizer:
    """Redraws faces in the style of its exemplars; see ``agile3d_cli.stylizer.Stylizer`` for the contract."""

    def __init__(self, config: AgileganConfig | None = None, style: LearntStyle | None = None) -> None:
        self.config = config or AgileganConfig()
        self._style = style
        self._painter = Painter(style, self.config) if style else None

    @property
    def style(self) -> LearntStyle:
        """What was learnt."""
        if self._style is None:
            raise ConfigError("The agilegan stylizer has learnt no style yet; call fit or load first.")
        return self._style

    def fit(self, exemplars: Sequence[Tensor], faces: FaceSampler, progress: Progress, seed: int = 0) -> None:
        """Learns the style. Exemplars are aligned by the caller (``agile3d_cli.face.align``)."""
        for exemplar in exemplars:
            _check(exemplar[None])
        if not exemplars:
            raise ConfigError("The agilegan stylizer was given no exemplars; give about 20 pictures of one style.")
        progress("reading the prior", 0.0)
        prior = read_flat(Path(self.config.prior)) if self.config.prior else shipped_flat()
        make = published if self.config.generator else learn
        self._style = make(prior, exemplars, faces, self.config, progress, seed).rounded()
        self._painter = Painter(self._style, self.config)
        progress("done", 1.0)

    @torch.no_grad()
    def stylize(self, images: Tensor) -> Tensor:
        """The same faces in the style; each picture on its own, on the CPU."""
        if self._painter is None:
            raise ConfigError("The agilegan stylizer has learnt no style yet; call fit or load first.")
        _check(images)
        drawn = [self._painter.paint(image[None].detach().float().cpu().clamp(-1, 1)) for image in images]
        return torch.cat(drawn).to(images) if drawn else torch.zeros_like(images)

    def save(self, path: Path) -> None:
        """Writes the style; see ``state.py``."""
        from agile3d_agilegan.state import write_state

        write_state(path, self.config, self.style)


def learn(
    prior: FlatPrior,
    exemplars: Sequence[Tensor],
    faces: FaceSampler,
    config: AgileganConfig,
    progress: Progress,
    seed: int,
) -> LearntStyle:
    """The whole fit, stage by stage."""
    rng = torch.Generator().manual_seed(seed)
    size = 2 * prior.generator.config.size
    pictures = torch.stack([enlarged(exemplar[None], size)[0] for exemplar in exemplars]).clamp(-1, 1)
    progress("looking at realistic faces", 0.01)
    count = max(config.faces, config.crowd)
    crowd = faces.sample(count, torch.Generator().manual_seed(seed)).images.float().cpu()
    real = crowd[: config.faces]
    real_codes = told(prior, real)
    progress("finding the exemplars' codes", 0.1)
    codes = refined(prior, pictures, told(prior, pictures), config.refine)
    division, sides = divide(codes.mean, real_codes.mean, config)
    pool = mixed(real_codes, config.pool, rng)
    progress("drawing random faces", 0.15)
    material = Material(pictures, codes, sides, pool, division.branch_of(pool))
    score = StyleScore(prior, pictures, real_codes.mean, division)
    transfer = Transfer(prior, material, score, config, seed)
    outcome = transfer.run(lambda share: progress("learning the style", 0.2 + 0.79 * share))
    style = LearntStyle(
        prior=prior,
        drawing=outcome.drawing,
        contrast=None,
        division=division,
        palette=palette_of(pictures),
        error=known_error(prior, real, real_codes.mean),
        score=outcome.score,
        steps=outcome.steps,
    )
    # The faces as they will be drawn, at the exemplars' size.
    painter = Painter(style.rounded(), AgileganConfig())
    drawn = torch.cat([painter.paint(face[None]) for face in enlarged(crowd[: config.crowd], size).clamp(-1, 1)])
    return replace(style, contrast=contrast_between(drawn, pictures))


def published(
    prior: FlatPrior,
    exemplars: Sequence[Tensor],
    faces: FaceSampler,
    config: AgileganConfig,
    progress: Progress,
    seed: int,
) -> LearntStyle:
    """A style that others have learnt, from their files; exemplars only tell the colours of what is no face."""
    progress("reading the published style", 0.1)
    drawing = read_official(Path(config.encoder), Path(config.generator))
    progress("looking at realistic faces", 0.5)
    real = faces.sample(config.faces, torch.Generator().manual_seed(seed)).images.float().cpu()
    codes = told(prior, real).mean
    male = ATTRIBUTES.index("male")
    return LearntStyle(
        prior=prior,
        drawing=drawing,
        contrast=None,
        division=Division(male, float(attribute_of(codes, male).median()), len(LETTERS)),
        palette=palette_of(torch.stack([enlarged(exemplar[None], SEEN)[0] for exemplar in exemplars])),
        error=known_error(prior, real, codes),
        score=None,
        steps=0,
    )


def enlarged(images: Tensor, size: int) -> Tensor:
    """Pictures (N, 3, S, S) as (N, 3, size, size), smoothly."""
    if images.shape[-1] >= size:
        return resized(images.float().cpu(), size)
    return F.interpolate(images.float().cpu(), (size, size), mode="bicubic", align_corners=False)


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.shape[2] < LEAST:
        raise ConfigError(f"Pictures are (N, 3, S, S) with S of {LEAST} or more, not {tuple(images.shape)}.")
