"""Pairs + base generator -> stylized generator: guided transfer learning.

In: stylized pictures at known latents and cameras, and the style's displacement. Out: the weight difference of a second
generator that parts and colours are read from. Surfaces come from the base, moved by the displacement, so a style
cannot tear or flatten a head. The colours of the head's parts are solved first, see ``tones.py``; trained are the mean
planes, the backbone's plane outputs, what of the planes follows the person's tones (accents), and finer texels for what
is drawn on faces (details); pictures are bent until they agree, see ``bends.py``. Of an imported generator, which may
have none of these, mean planes start at zero; decoder and super-resolution's outputs are trained too, and with them all
its surfaces, see ``rendered.py``.
Source: AgileGAN3D (arXiv 2303.14297), guided transfer learning. The paper's losses are not published; here the pairs
guide by colour and by its differences between neighbouring pixels.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.errors import Agile3dError, UsageError
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.styled import ACCENTS, DETAILS, MEAN, StyleDifference, give, stylized
from agile3d_cli.style.augment import Pairs
from agile3d_cli.style.bends import no_bends
from agile3d_cli.style.config import TransferConfig
from agile3d_cli.style.log import Log, NoLog
from agile3d_cli.style.losses import Guidance, Guided
from agile3d_cli.style.rendered import RenderedGuidance, scale_of
from agile3d_cli.style.state import SECONDS, read_state, write_state
from agile3d_cli.style.stopping import Watch
from agile3d_cli.style.surfaces import Head
from agile3d_cli.style.together import Together
from agile3d_cli.style.tones import take_tones
from agile3d_cli.stylizer import Progress

BENDS = "bends"
"""Name of what is learnt of the pictures; the others are names of weights."""


@dataclass(frozen=True)
class Transferred:
    """A learnt difference and how the learning went."""

    difference: StyleDifference
    steps: int
    early: bool
    """Whether it was stopped before its planned length."""
    losses: Mapping[str, float]
    """Mean of each term over the last tenth of the steps."""


def transfer(
    pairs: Pairs,
    heads: Sequence[Head] | None,
    base: BaseModel,
    displacement: Tensor | None,
    config: TransferConfig,
    state: Path,
    progress: Progress,
    log: Log | None = None,
    together: Together | None = None,
    wanted: Tensor | None = None,
) -> Transferred:
    """Fine-tunes the base on the pairs.

    Args:
        pairs: what to learn from.
        heads: theirs, traced with ``displacement``; None for an imported generator.
        base: the generator; it stays as it is.
        displacement: of the style, see ``StyleDifference``.
        config: settings.
        state: file from which an interrupted run goes on; the first of several processes writes it.
        progress: told how far the work is.
        log: told the terms of each step.
        together: processes that share each step's pictures; the result is that of one but for the order of sums.
        wanted: (M, D) style features of the exemplars, by which ``config.early`` stops.

    Raises:
        UsageError: there are more processes than pictures in a step.
        Agile3dError: the terms are no numbers any more.
    """
    log, together = log or NoLog(), together or Together()
    if together.count > config.batch:
        raise UsageError(f"{together.count} processes share the {config.batch} pictures of a step; start fewer.")
    generator = stylized(base.generator, StyleDifference({}, displacement))
    own = {ACCENTS: config.accents, DETAILS: config.details and heads is not None, MEAN: heads is None}
    give(generator, *(name for name, learn in own.items() if learn))
    generator.requires_grad_(False)
    toned = take_tones(generator, pairs, heads) if heads and config.tones and generator.config.parts else {}
    trained = _trained(generator, imported=heads is None)
    start = {name: parameter.detach().clone() for name, parameter in trained.items()}
    learnt: dict[str, Tensor] = dict(trained)
    guidance: Guided
    if heads is None:
        scale = scale_of(base.generator, pairs)
        guidance = RenderedGuidance(generator, base.generator, pairs, trained, start, config, scale)
    else:
        bends = no_bends(len(pairs), next(generator.parameters()))
        if config.laid:
            learnt[BENDS] = bends
        scale, guidance = 1.0, Guidance(generator, pairs, heads, trained, start, bends, config)
    planes = scale * config.rate
    rates = {MEAN: planes, DETAILS: planes, ACCENTS: config.accent_rate, BENDS: config.laid_rate}
    groups = [
        {"params": [p.requires_grad_(True)], "base": rates.get(name, config.output_rate)} for name, p in learnt.items()
    ]
    optimizer = torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.98))
    rng = torch.Generator().manual_seed(config.seed)
    watch = Watch(config.steps, wanted if config.early else None)
    step, watch = read_state(state, learnt, optimizer, rng, watch)
    recent: list[dict[str, float]] = []
    saved = time.monotonic()
    while step < watch.end:
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * watch.pace(step)
        terms = guidance.terms(rng, together)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        seen = torch.stack(list(terms.values())).detach()
        together.add_up([seen, *(p.grad for p in learnt.values() if p.grad is not None)])
        if not seen.isfinite().all():
            told = ", ".join(f"{name} {value:g}" for name, value in zip(terms, seen.tolist(), strict=True))
            raise Agile3dError(f"The learning went astray at step {step + 1} ({told}); try another --seed.")
        optimizer.step()
        step += 1
        recent.append(dict(zip(terms, seen.tolist(), strict=True)))
        log.step(step, recent[-1])
        progress("transfer", step / watch.end)
        watch = watch.look(step, guidance, together)
        due = step % config.checkpoint == 0 or time.monotonic() - saved >= SECONDS
        if due and together.first:
            write_state(state, learnt, optimizer, rng, watch, step)
            saved = time.monotonic()
    difference = toned | {name: parameter.detach() - start[name] for name, parameter in trained.items()}
    last = recent[-max(1, watch.end // 10) :]
    losses = {name: sum(row[name] for row in last) / len(last) for name in (last[0] if last else {})}
    return Transferred(StyleDifference(difference, displacement), watch.end, watch.stopped is not None, losses)


def _trained(generator: TriplaneGenerator, imported: bool) -> dict[str, torch.nn.Parameter]:
    chosen = {}
    for name, parameter in generator.named_parameters():
        drawing = name.startswith(("backbone.", "superresolution."))
        output = drawing and ".output." in name and "affine" not in name
        if name in (MEAN, ACCENTS, DETAILS) or output or (imported and name.startswith("decoder.")):
            chosen[name] = parameter
    return chosen
