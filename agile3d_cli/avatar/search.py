"""Shape + photo -> the other latent coordinates: second step of the inversion.

In: the fitted shape, a first guess and the photo's pixels. Out: a latent whose head has the photo's skin, hair, light
and outline. Hair styles are islands in the latent space, so the guess is also given each of several stored styles;
those that fit best are tried for a few steps, and the search goes on from the one that came nearest. How sure
the guess is makes the prior that keeps it a head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from agile3d_cli.avatar.config import InvertConfig
from agile3d_cli.avatar.likeness import Shape, lead_of
from agile3d_cli.avatar.photo import Pixels
from agile3d_cli.models.backbone import decided
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.encoder import Guess
from agile3d_cli.models.generator import Subject, TriplaneGenerator
from agile3d_cli.models.volume import composite, importance_depths, interval_weights, spread_depths

Progress = Callable[[float], None]


@dataclass(frozen=True)
class _Problem:
    """What stays the same during the search."""

    generator: TriplaneGenerator
    lead: Tensor
    """(1, components) coordinates of the shape."""
    backward: Tensor | None
    target: Pixels
    guess: Guess
    choosing: Tensor
    """(1, z_dim - components) whether a searched coordinate chooses."""
    config: InvertConfig
    rng: torch.Generator


def search_latent(
    base: BaseModel,
    shape: Shape | None,
    guess: Guess,
    target: Pixels,
    config: InvertConfig,
    rng: torch.Generator,
    progress: Progress,
) -> Tensor:
    """Latent (1, z_dim) by rendering loss; ``guess`` (1, z_dim - components) is where it starts and its prior."""
    generator, lead = base.generator, lead_of(shape, base.generator)
    backward = None
    if generator.deforms:
        with torch.no_grad():
            moved = None if shape is None else shape.displacement
            backward = generator.backward(generator.deformation.weights(lead), moved)
    choosing = _choosing(generator.config).to(lead.device)[None, lead.shape[1] :]
    problem = _Problem(generator, lead, backward, target, guess, choosing, config, rng)
    starts = _starts(base, guess, lead.shape[1])
    tries = min(config.tries, len(starts)) if len(starts) > 1 else 0
    total = tries * config.try_steps + config.search_steps
    done = 0

    def told() -> None:
        nonlocal done
        done += 1
        progress(done / total)

    z = centre = starts[:1]
    if tries:
        nearest = _misfits(problem, starts).argsort()[:tries]
        tried = [(*_descend(problem, starts[k, None], starts[k, None], config.try_steps, told), k) for k in nearest]
        z, _, best = min(tried, key=lambda row: row[1])
        centre = starts[best, None]
    found = torch.cat([lead, _descend(problem, z, centre, config.search_steps, told)[0]], 1)
    return decided(found, generator.config.choices)


def _choosing(config: GeneratorConfig) -> Tensor:
    """Which coordinates of z choose, (z_dim,)."""
    found = torch.zeros(config.z_dim, dtype=torch.bool)
    for start, bias in config.choices.groups:
        found[start : start + len(bias)] = True
    for number, _ in config.choices.switches:
        found[number] = True
    return found


def _starts(base: BaseModel, guess: Guess, lead: int) -> Tensor:
    """The guess, and the guess with each of the stored styles, (1 + A, z_dim - lead)."""
    if base.starts is None:
        return guess.mean
    styles = base.starts[:, lead:].to(guess.mean)
    return torch.cat([guess.mean, torch.where(styles == 0, guess.mean, styles)])


@torch.no_grad()
def _misfits(problem: _Problem, starts: Tensor) -> Tensor:
    """How badly each start fits the photo, (A,)."""
    picked = _draw(problem)[: problem.config.start_rays]
    subjects = (_subject(problem, start[None]) for start in starts)
    return torch.stack([_misfit(problem, subject, _rays(problem, subject, picked)) for subject in subjects])


def _misfit(problem: _Problem, subject: Subject, rays: _Rays) -> Tensor:
    """Difference of colours and outlines at the rays' pixels."""
    config, target = problem.config, problem.target
    colour, covered = _look(problem, subject, rays)
    alpha, weight = target.alpha[rays.picked], target.weight[rays.picked]
    colour = colour + (1 - covered)[:, None] * config.background
    wanted = target.colour[rays.picked] * alpha[:, None] + (1 - alpha)[:, None] * config.background
    outline = config.outline * (weight * (covered - alpha).abs()).mean()
    return (weight * (colour - wanted).abs().mean(1)).mean() + outline


def _descend(
    problem: _Problem, z: Tensor, centre: Tensor, steps: int, told: Callable[[], None]
) -> tuple[Tensor, float]:
    """Coordinates (1, D) after ``steps`` from ``z`` with the prior around ``centre``, and the mean loss at the end."""
    config = problem.config
    z = z.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=config.search_rate, betas=(0.9, 0.99))
    losses: list[float] = []
    for step in range(steps):
        subject = _subject(problem, z)
        if step % config.hold == 0:
            rays = _rays(problem, subject, _draw(problem))
        far = ((z - centre) / problem.guess.deviation).square().sum()
        loss = _misfit(problem, subject, rays) + config.prior * far
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            z.copy_(torch.where(problem.choosing, z, z.clamp(-config.reach, config.reach)))
        told()
    last = losses[-5:]
    return z.detach(), sum(last) / max(len(last), 1)


def _draw(problem: _Problem) -> Tensor:
    count = len(problem.target.alpha)
    return torch.randint(count, (problem.config.rays,), generator=problem.rng).to(problem.target.alpha.device)


def _subject(problem: _Problem, z: Tensor) -> Subject:
    generator = problem.generator
    ws = generator.mapping(torch.cat([problem.lead, z], 1), None)
    return Subject(generator.backbone(ws), problem.backward, generator.colours_of_parts(ws))


@dataclass(frozen=True)
class _Rays:
    """Pixels that are compared, and where along their rays the head is."""

    picked: Tensor
    """(P,) numbers of pixels."""
    depths: Tensor
    """(1, P, fine)."""


@torch.no_grad()
def _rays(problem: _Problem, subject: Subject, picked: Tensor) -> _Rays:
    """Finds the surface along the rays of picked pixels."""
    config, settings = problem.config, problem.generator.config
    origin, direction = problem.target.origin[picked][None], problem.target.direction[picked][None]
    jitter = torch.rand(1, len(picked), config.coarse, generator=problem.rng).to(origin)
    coarse = spread_depths(settings.near, settings.far, config.coarse, origin, jitter)
    points = (origin[..., None, :] + direction[..., None, :] * coarse[..., None]).flatten(1, 2)
    density = problem.generator.look(subject, points).density
    jitter = torch.rand(1, len(picked), config.fine, generator=problem.rng).to(origin)
    weights = interval_weights(density.reshape(coarse.shape), coarse)
    return _Rays(picked, importance_depths(coarse, weights, config.fine, jitter))


def _look(problem: _Problem, subject: Subject, rays: _Rays) -> tuple[Tensor, Tensor]:
    """Colours (P, 3), multiplied by alpha, and alpha (P,) that the subject shows, with gradients."""
    target, depths = problem.target, rays.depths
    origin, direction = target.origin[rays.picked][None], target.direction[rays.picked][None]
    points = (origin[..., None, :] + direction[..., None, :] * depths[..., None]).flatten(1, 2)
    density, features = problem.generator.field(subject, points)
    pixels = composite(density.reshape(depths.shape), features.reshape(*depths.shape, -1)[..., :3], depths)
    return pixels.colour[0], pixels.alpha[0]
