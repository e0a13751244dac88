"""Generator + points of synthetic heads -> trained weights: losses, the loop, and its exactly resumable state.

Supervision is exact and per point (``points``), so no ray is marched. Checkpoints come every few minutes.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.triplane import plane_features
from agile3d_cli.prior.config import MINI, TrainConfig
from agile3d_cli.prior.points import PAIRED, HeadPoints, PointBatch

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger("agile3d.prior")
CHECKPOINT_SECONDS = 240
REPORT = 200
"""Steps between two lines of the log."""
STATE = "state.safetensors"
"""Name of the checkpoint in the folder of a run."""


def losses(generator: TriplaneGenerator, batch: PointBatch, config: TrainConfig) -> dict[str, Tensor]:
    """Colour, density and smoothness terms of one batch."""
    # The convolutions in bfloat16 on an accelerator (processors are slower in it, some twenty times); planes, decoder
    # and losses stay in single precision.
    device = batch.z.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        ws = generator.mapping(batch.z)
        planes = generator.backbone(ws)
    palette, mean = generator.colours_of_parts(ws.float()), generator.backbone.mean_planes
    assert mean is not None, "mini has mean planes"
    return field_losses(generator, planes, palette, mean, batch, config)


def field_losses(
    generator: TriplaneGenerator,
    planes: Tensor,
    palette: Tensor | None,
    middle: Tensor,
    batch: PointBatch,
    config: TrainConfig,
) -> dict[str, Tensor]:
    """``losses`` of planes (B, 3, C, S, S), whose difference to ``middle`` should be smooth, and their palette."""
    asked = [batch.surface, batch.inside, batch.empty, batch.beside]
    sizes = [points.shape[1] for points in asked]
    decoder, place = generator.decoder, generator.deformation.focus.forward(torch.cat(asked, 1))
    raw = decoder.raw(plane_features(planes, place, generator.config.plane_axes))
    hit = raw[:, : sizes[0]]
    colour = decoder.colour(hit, None if palette is None else decoder.tone(hit, palette))
    step = decoder.density(raw[..., 0]) * config.opaque_step
    surface, inside, empty, beside = step.split(sizes, 1)
    solid = torch.cat([batch.solid * batch.weight, torch.ones_like(inside)], 1)
    opaque = -torch.log(-torch.expm1(-torch.cat([surface, inside], 1)) + 1e-6)
    opaque = (opaque * solid).sum() / solid.sum()
    counted = F.pad(batch.weight, (0, empty.shape[1] - surface.shape[1]), value=1.0)
    clear = (empty.clamp(max=20) * counted).sum() / counted.sum()
    torn = torch.exp(-empty[:, ::PAIRED]) - torch.exp(-beside)
    off, own = colour - batch.colour, planes - middle
    rough = torch.stack([own.diff(dim=d).square().mean() for d in (-1, -2)]).sum()
    terms = {} if palette is None else {"part": config.part_weight * _unlikely(hit, decoder.colours, batch)}
    return terms | {
        "colour": off.abs().mean(),
        "tone": config.tone_weight * off.square().mean(),
        "density": config.density_weight * (opaque + clear),
        "torn": config.torn_weight * torn.abs().mean(),
        "smooth": config.smooth_weight * rough,
    }


def _unlikely(raw: Tensor, colours: int, batch: PointBatch) -> Tensor:
    """Mean surprise at the parts of places where the decoder said ``raw`` (B, S, ...)."""
    surprise = F.cross_entropy(raw[..., 1 + colours :].flatten(0, 1), batch.part.flatten(), reduction="none")
    return (surprise * batch.weight.flatten()).sum() / batch.weight.sum()


class Trainer:
    """The loop and its state; ``save`` and ``load`` make a run exactly resumable.

    ``several`` are processes that train together, each on batches of its own: gradients are averaged, the first writes.
    """

    def __init__(
        self, generator: TriplaneGenerator, config: TrainConfig, out: Path, several: Accelerator | None = None
    ):
        self.generator, self.config, self.out, self.step = generator, config, out, 0
        self._several = several if several is not None and several.num_processes > 1 else None
        self.device = next(generator.parameters()).device
        if generator.config.traits.count:
            # Learnt from far more latents than there are pictures.
            generator.mapping.traits.requires_grad_(False)
        mean = [generator.backbone.mean_planes]
        bank = [generator.backbone.bank] if generator.config.bank.shares else []
        bank += list(generator.backbone.tint.parameters()) if generator.config.tinted else []
        bank += list(generator.palette.parameters()) if generator.config.parts else []
        decoder = list(generator.decoder.parameters())
        known = {id(p) for p in mean + bank + decoder}
        rest = [p for p in generator.parameters() if id(p) not in known and p.requires_grad]
        rates = (
            (rest, config.rate),
            (decoder, config.decoder_rate),
            (mean, config.mean_rate),
            (bank, config.bank_rate),
        )
        groups = [{"params": p, "base": r, "lr": r} for p, r in rates if p]
        self.optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99), fused=True)
        self.average = {name: p.detach().clone() for name, p in generator.named_parameters()}

    def run(self, data: HeadPoints, minutes: float) -> None:
        """Trains until the time or the steps are used up, or until it is told to end; the state is saved each time.

        Without a number of steps (``steps`` 0) the rates fall along the time, whatever the machine's speed.
        """
        begun = saved = time.monotonic()
        recent, block = [], time.monotonic()
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        while True:
            spent = self._latest((time.monotonic() - begun) / (60 * minutes) if not stopped else 1.0)
            done = self.step / self.config.steps if self.config.steps else spent
            if max(spent, done) >= 1:
                break
            batch = data.at_step(self._turn(), self.config.batch, self.config.points, self.config.seed)
            terms = self._update(batch, done)
            recent.append(torch.stack(list(terms.values())).detach())
            if self.step % REPORT == 0:
                means = " ".join(f"{n} {v:.4f}" for n, v in zip(terms, torch.stack(recent).mean(0), strict=True))
                pace = (time.monotonic() - block) / len(recent)
                log.info("%d %s held-out %.4f (%.3f s)", self.step, means, self.held_out(data), pace)
                recent, block = [], time.monotonic()
                if more := data.grow():
                    log.info("%d more heads, %d in all", more, len(data))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()

    def _turn(self) -> int:
        """Number of this step's batch of this process."""
        return (
            self.step
            if self._several is None
            else self.step * self._several.num_processes + self._several.process_index
        )

    def _latest(self, share: float) -> float:
        """The largest share that one of the processes names, so that all end at the same step."""
        if self._several is None:
            return share
        return float(self._several.gather(torch.tensor([share], device=self.device)).max())

    def _update(self, batch: PointBatch, done: float) -> dict[str, Tensor]:
        """One step, ``done`` (0 ... 1) of the way through the training."""
        c = self.config
        warm = min(1.0, (self.step + 1) / c.warmup)
        share = warm * (c.final + (1 - c.final) * 0.5 * (1 + math.cos(math.pi * done)))
        for group in self.optimizer.param_groups:
            group["lr"] = share * group["base"]
        terms = losses(self.generator, batch, c)
        self.optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        if self._several is not None:
            gradients = [p.grad for p in self.generator.parameters() if p.grad is not None]
            for own, mean in zip(gradients, self._several.reduce(gradients, "mean"), strict=True):
                own.copy_(mean)
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(c.average, self.step / (self.step + 10))
        with torch.no_grad():
            named = dict(self.generator.named_parameters())
            torch._foreach_lerp_([self.average[name] for name in named], list(named.values()), 1 - decay)
        return terms

    @torch.no_grad()
    def held_out(self, data: HeadPoints) -> float:
        """Mean colour error on subjects never trained on, with the averaged weights."""
        kept = {name: p.detach().clone() for name, p in self.generator.named_parameters()}
        self._write(self.average)
        rng = torch.Generator(self.device).manual_seed(1)
        numbers = list(range(data.train, len(data)))[:24]
        terms = losses(self.generator, data.batch(numbers, 1024, rng), self.config)
        self._write(kept)
        return float(terms["colour"])

    def _write(self, values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.generator.named_parameters():
                p.copy_(values[name])

    def save(self) -> None:
        """Writes the whole state, then puts it in place of the former one."""
        if self._several is not None and not self._several.is_main_process:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{k}": v for k, v in self.generator.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        temporary = self.out / "state.part"
        metadata = {"step": str(self.step), "config": json.dumps(asdict(self.config))}
        save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, temporary, metadata)
        os.replace(temporary, self.out / STATE)

    def load(self) -> None:
        """Goes on from ``save``'s file where there is one."""
        path = self.out / STATE
        if not path.exists():
            return
        tensors = load_file(path, str(self.device))
        self.generator.load_state_dict(_strip(tensors, "model."))
        self.average = _strip(tensors, "average.")
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _strip(tensors, "optimizer.").items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.step = int(next(iter(state.values()))["step"]) if state else 0
        log.info("resumed at step %d", self.step)


def averaged(state: Path) -> TriplaneGenerator:
    """The generator with a checkpoint's averaged weights."""
    tensors = load_file(state)
    generator = TriplaneGenerator(MINI)
    generator.load_state_dict(_strip(tensors, "model.") | _strip(tensors, "average."))
    return generator.eval().requires_grad_(False)


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
