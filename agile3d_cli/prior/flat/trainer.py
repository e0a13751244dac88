"""Pictures of the teacher -> the flat generator, then its encoder: the loop in three stages and its resumable state.

First the mapping alone learns what the teacher makes of latents, without any picture; then the whole student draws the
teacher's pictures; then the encoder learns to tell codes from pictures, through the student that is finished.
Time, not steps, measures all: each stage has its share of the budget and its rates fall along it.
"""

from __future__ import annotations

import copy
import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from agile3d_cli.image import save_png
from agile3d_cli.models.flat import CAMERA_NUMBERS, FILE, FlatPrior, read_flat
from agile3d_cli.models.flat_encoder import FlatEncoder, resized
from agile3d_cli.models.layers import Linear, ModulatedConv
from agile3d_cli.models.stylegan2 import Block, StyleGAN2
from agile3d_cli.prior.flat import files as flat_files
from agile3d_cli.prior.flat.config import FlatConfig
from agile3d_cli.prior.flat.disturb import disturbed
from agile3d_cli.prior.flat.losses import code_terms, picture_terms, place_weights, signal_to_noise
from agile3d_cli.prior.flat.teacher import Pool, Teacher

log = logging.getLogger("agile3d.prior")
CHECKPOINT_SECONDS, LOG_SECONDS = 40.0, 10.0
MANY = 4096
"""Latents handled at a time."""
AT_ONCE = 16
"""Pictures handled at a time where nothing is learnt."""
SHEET = 8
MAPPING_SHARE = 0.3
"""Of the mapping's gain, once it is taught by pictures."""
AFFINE_START, OUTPUT_START = 0.5, 0.1
"""Smaller first weights."""
STAGES = ("mapping", "student", "encoder")
M = TypeVar("M", bound=nn.Module)
Step = Callable[[float], dict[str, Tensor]]


class FlatTrainer:
    """The stages and their state; ``save`` and ``load`` make a run resumable."""

    def __init__(self, teacher: Teacher, config: FlatConfig, device: torch.device, out: Path):
        torch.manual_seed(config.seed)
        self.teacher, self.config, self.device, self.out = teacher, config, device, out
        self.rng = torch.Generator(device).manual_seed(config.seed)
        self.steps, self.progress = dict.fromkeys(STAGES, 0), dict.fromkeys(STAGES, 0.0)
        self.student = StyleGAN2(config.student).to(device)
        self.encoder = FlatEncoder(config.encoder).to(device)
        _calm(self.student)
        _channels_last(self.student)
        z = teacher.latents(config.latents, self.rng)
        known = torch.cat([teacher.known(part) for part in z.split(MANY)])
        self.latents, self.known = z / config.spread, (known - known.mean(0)) / (known.std(0) + 1e-3)
        self.readout = Linear(config.student.w_dim, known.shape[1] + CAMERA_NUMBERS).to(device)
        mapping, readout = list(self.student.mapping.parameters()), list(self.readout.parameters())
        drawing = [p for name, p in self.student.named_parameters() if "mapping." not in name and p.dim()]
        rate = config.mapping_rate
        self.mapper = _adam([(mapping, config.mapping_gain * rate), (readout, rate)])
        rate = config.rate
        self.drawer = _adam([(mapping, MAPPING_SHARE * config.mapping_gain * rate), (drawing, rate), (readout, rate)])
        self.teller = _adam([(list(self.encoder.parameters()), config.encoder_rate)])
        self.student_average, self.encoder_average = _frozen(self.student), _frozen(self.encoder)

    @property
    def prior(self) -> FlatPrior:
        """The averaged networks."""
        return FlatPrior(self.student_average, self.encoder_average)

    @property
    def done(self) -> bool:
        """Whether every stage has had its time."""
        return all(share >= 1 for share in self.progress.values())

    def start_from(self, path: Path, stage: str) -> None:
        """Takes over the networks of an earlier training, whose pictures may be smaller or larger, and begins with a
        later stage; what they lack stays new, but draws nothing yet."""
        prior = read_flat(path)
        drawn, known = prior.generator, prior.generator.state_dict()
        with torch.no_grad():
            for block in list(self.student.blocks)[len(drawn.blocks) :]:
                assert isinstance(block, Block)
                block.output.weight.zero_()
            for name, value in self.student.state_dict().items():
                if name in known:
                    value.copy_(known[name])
            seen = torch.randn(len(self.latents), CAMERA_NUMBERS, generator=self.rng, device=self.device)
            styles = self.student.mapping(torch.cat([self.latents, seen], 1))
            rows = torch.cat([styles, torch.ones_like(styles[:, :1])], 1).double()
            found = torch.linalg.lstsq(rows, torch.cat([self.known, seen], 1).double()).solution.T.float()
            self.readout.weight.copy_(found[:, :-1] / self.readout.gain)
            self.readout.bias.copy_(found[:, -1])
            if sum(self.config.encoder.groups) == drawn.config.num_ws:
                self.encoder.load_state_dict(prior.encoder.state_dict())
        self.progress |= dict.fromkeys(STAGES[: STAGES.index(stage)], 1.0)
        self.student_average, self.encoder_average = _frozen(self.student), _frozen(self.encoder)

    def run(self, minutes: float, pool: Pool | None = None) -> None:
        """Draws pictures where none are given, and trains until the budget is used up or it is told to end."""
        start, self._stopped = time.monotonic(), False
        before = signal.signal(signal.SIGTERM, self._stop)
        c = self.config
        if pool is None:
            self.held = self.teacher.fill(c.held_out, math.inf, torch.Generator(self.device).manual_seed(c.seed + 1))
        else:
            self.held, pool = pool.split(c.held_out)
        log.info("%d pictures held out (%.1f s)", len(self.held), time.monotonic() - start)
        if not self.done:
            pool_rng = torch.Generator(self.device).manual_seed(c.seed + 2)
            pool = pool or self.teacher.fill(c.pictures, 60 * minutes * c.draw_share, pool_rng)
            log.info("%d pictures to learn from (%.1f s)", len(pool), time.monotonic() - start)
            self._train(pool, 60 * minutes - (time.monotonic() - start))
        signal.signal(signal.SIGTERM, before)
        self.save()
        log.info("%s (%.1f s)", self._measured(), time.monotonic() - start)

    def _train(self, pool: Pool, seconds: float) -> None:
        c, self._saved = self.config, time.monotonic()
        self._keep(self.drawer, True)
        shares = (c.mapping_share, c.student_share, 1 - c.mapping_share - c.student_share)
        left = sum(share for stage, share in zip(STAGES, shares, strict=True) if self.progress[stage] < 1)
        steps: tuple[Step, ...] = (
            lambda share: self._map(),
            lambda share: self._draw(pool, c.student.size // 2 if share < c.half_share else c.student.size),
            lambda share: self._tell(pool, share),
        )
        for stage, share, step in zip(STAGES, shares, steps, strict=True):
            self._stage(stage, share / left * seconds, step, self._optimizers()[stage])

    def _stage(self, stage: str, seconds: float, step: Step, optimizer: torch.optim.Adam) -> None:
        last = told = time.monotonic()
        sums: dict[str, Tensor] = {}
        count = 0
        while self.progress[stage] < 1 and not self._stopped:
            share = self.progress[stage]
            terms = step(share)
            rate = min(1.0, (self.steps[stage] + 1) / self.config.warmup) * 0.5 * (1 + math.cos(math.pi * share))
            self._update(stage, terms, optimizer, rate)
            for name, value in terms.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach().clone()
            count += 1
            now = time.monotonic()
            self.progress[stage] += (now - last) / max(seconds, 1e-3)
            last = now
            if now - told > LOG_SECONDS or self.progress[stage] >= 1:
                means = " ".join(f"{name} {float(value) / count:.4f}" for name, value in sums.items())
                self._keep(optimizer, bool(torch.stack(list(sums.values())).isfinite().all()))
                speed = (time.monotonic() - told) / count
                figures = "" if stage == "mapping" else self._measured()
                log.info("%s %.2f step %d %s (%.3f s) %s", stage, share, self.steps[stage], means, speed, figures)
                told, sums, count = time.monotonic(), {}, 0
            if now - self._saved > CHECKPOINT_SECONDS:
                self.save()
                self._saved = time.monotonic()

    def _keep(self, optimizer: torch.optim.Adam, sound: bool) -> None:
        """Remembers the networks, or goes back to them where a loss was no number."""
        if sound:
            self._sound = {k: {n: v.clone() for n, v in m.state_dict().items()} for k, m in self._modules().items()}
            return
        log.warning("a loss is not finite; going back to where all were, with half the rate")
        for name, module in self._modules().items():
            module.load_state_dict(self._sound[name])
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["base"] /= 2

    def _update(self, stage: str, terms: dict[str, Tensor], optimizer: torch.optim.Adam, rate: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = rate * group["base"]
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        learning = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        self.steps[stage] += 1
        student, encoder = (self.student_average, self.student), (self.encoder_average, self.encoder)
        average, learnt = encoder if stage == "encoder" else student
        decay = min(self.config.average, self.steps[stage] / (self.steps[stage] + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(learnt.parameters()), 1 - decay)

    def _map(self) -> dict[str, Tensor]:
        """What the teacher knows of latents, read off the student's w by one linear layer."""
        count = self.config.mapping_batch
        rows = torch.randint(len(self.latents), (count,), generator=self.rng, device=self.device)
        seen = torch.randn(count, CAMERA_NUMBERS, generator=self.rng, device=self.device)
        found = self.readout(self.student.mapping(torch.cat([self.latents[rows], seen], 1)))
        return {"known": (found - torch.cat([self.known[rows], seen], 1)).square().mean()}

    def _draw(self, pool: Pool, size: int) -> dict[str, Tensor]:
        """The teacher's pictures, drawn by the student."""
        codes, wanted, alphas = pool.take(self._rows(pool, self.config.batch), size)
        ws = self._ws(self.student, codes)
        with self._half():
            drawn = self.student(ws, size=size).float()
        weight = place_weights(alphas, self.config)
        known = {name: self.config.known_weight * value for name, value in self._map().items()}
        return picture_terms(drawn, wanted, weight, self.config, self._numbers()) | known

    def _tell(self, pool: Pool, share: float) -> dict[str, Tensor]:
        """Codes, told from disturbed pictures; later drawn again as well."""
        codes, wanted, alphas = pool.take(self._rows(pool, self.config.encoder_batch))
        numbers = self._numbers()
        small = [resized(part, self.config.encoder.size) for part in (wanted, alphas)]
        shown = disturbed(small[0], small[1], self.rng, numbers)
        with self._half():
            mean, spread = self.encoder(shown)
        mean, spread = mean.float(), spread.float()
        terms = code_terms(mean, spread, codes, self.config)
        if share < self.config.redraw_from:
            return terms
        chance = torch.randn(mean.shape, generator=self.rng, device=self.device)
        sample = mean + (spread / 2).exp() * chance
        ws = self.student_average.mapping(self.encoder.styles(sample))
        # At half their size: codes tell where things are and which tones they have, and it takes a quarter of the time.
        size = self.config.student.size // 2
        wanted, alphas = (resized(part, size) for part in (wanted, alphas))
        with self._half():
            drawn = self.student_average(ws, size=size).float()
        return terms | picture_terms(drawn, wanted, place_weights(alphas, self.config), self.config, numbers)

    def _half(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type != "cpu")

    def _rows(self, pool: Pool, count: int) -> Tensor:
        return torch.randint(len(pool), (count,), generator=self.rng, device=self.device)

    def _numbers(self) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, *self.steps.values()])

    def _ws(self, student: StyleGAN2, codes: Tensor) -> Tensor:
        """Codes (N, w_dim) to the same style for every layer (N, num_ws, w_dim)."""
        styles: Tensor = student.mapping(codes)
        return styles[:, None].expand(-1, student.config.num_ws, -1)

    @torch.no_grad()
    def drawn(self, codes: Tensor) -> Tensor:
        """Pictures (N, 3, S, S) of codes (N, w_dim) by the averaged student."""
        parts = [self.student_average(self._ws(self.student_average, part)) for part in codes.split(AT_ONCE)]
        return torch.cat(parts).clamp(-1, 1)

    @torch.no_grad()
    def redrawn(self, images: Tensor) -> Tensor:
        """Pictures (N, 3, S, S), told and drawn again by the averaged networks."""
        prior = self.prior
        told = [prior.generator(prior.expected_styles(prior.codes(part))) for part in images.split(AT_ONCE)]
        return torch.cat(told).clamp(-1, 1)

    def _measured(self) -> str:
        """Figures of the pictures held out."""
        codes, images, _ = self.held.take(slice(None))
        told = f"held-out: student {float(signal_to_noise(self.drawn(codes), images).mean()):.2f} dB"
        if self.steps["encoder"]:
            told += f", redrawn {float(signal_to_noise(self.redrawn(images), images).mean()):.2f} dB"
        return told

    def sheet(self) -> Tensor:
        """Rows of the teacher, the student, and the encoder with the student (3, 3 S, 8 S)."""
        codes, images, _ = self.held.take(slice(SHEET))
        rows = images, self.drawn(codes), self.redrawn(images)
        return torch.cat([torch.cat(list(row), 2) for row in rows], 1).cpu()

    def save(self) -> None:
        """Writes the model, the sheet, and the whole state."""
        flat_files.save_prior(self.out / FILE, self.prior, self.config, self.steps)
        tensors = {f"{k}.{n}": v for k, m in self._modules().items() for n, v in m.state_dict().items()}
        for stage, optimizer in self._optimizers().items():
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"adam.{stage}.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
        tensors["rng"] = self.rng.get_state()
        about = {"steps": self.steps, "progress": self.progress, "config": asdict(self.config)}
        flat_files.write(self.out / flat_files.STATE, tensors, about)
        save_png(self.out / "sheet.png", self.sheet())

    def load(self) -> None:
        """Goes on from ``save``'s state where there is one."""
        path = self.out / flat_files.STATE
        if not path.exists():
            return
        tensors, about = flat_files.read(path)
        for name, module in self._modules().items():
            module.load_state_dict(_strip(tensors, f"{name}."))
        for stage, optimizer in self._optimizers().items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in _strip(tensors, f"adam.{stage}.").items():
                index, kind = key.split(".")
                state.setdefault(int(index), {})[kind] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        steps, progress = about["steps"], about["progress"]
        assert isinstance(steps, dict) and isinstance(progress, dict)
        self.steps, self.progress = steps, progress
        if tensors["rng"].numel() == self.rng.get_state().numel():
            # A run that goes on elsewhere starts its chance anew.
            self.rng.set_state(tensors["rng"])
        log.info("resumed at %s", {stage: round(share, 3) for stage, share in self.progress.items()})

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "student": self.student,
            "student_average": self.student_average,
            "readout": self.readout,
            "encoder": self.encoder,
            "encoder_average": self.encoder_average,
        }

    def _optimizers(self) -> dict[str, torch.optim.Adam]:
        """By stage."""
        return dict(zip(STAGES, (self.mapper, self.drawer, self.teller), strict=True))

    def _stop(self, number: int, frame: object) -> None:
        self._stopped = True


def _calm(student: StyleGAN2) -> None:
    """Starts as a small deviation from grey, and without noise, so that a code draws one picture."""
    with torch.no_grad():
        for module in student.modules():
            if isinstance(module, ModulatedConv):
                module.noise = False
                module.affine.weight.mul_(AFFINE_START)
                if module.plain:
                    module.weight.mul_(OUTPUT_START)


def _channels_last(student: StyleGAN2) -> None:
    """Stores weights of convolutions as processors like them: a step takes three quarters of the time."""
    for parameter in student.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def _adam(groups: list[tuple[list[nn.Parameter], float]]) -> torch.optim.Adam:
    rows = [{"params": params, "base": rate, "lr": rate} for params, rate in groups]
    return torch.optim.Adam(rows, betas=(0.9, 0.99), fused=True)


def _frozen(module: M) -> M:
    return copy.deepcopy(module).requires_grad_(False)


def _strip(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
