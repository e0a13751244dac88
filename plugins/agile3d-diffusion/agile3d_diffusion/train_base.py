"""Shards of synthetic heads -> the tiny base, exactly resumable.

    python -m agile3d_diffusion.train_base --heads FOLDER --out FOLDER --minutes 55 --threads 1

Shards come from ``agile3d_cli.prior.subjects``; only the views in which the face fills the picture are used. The folder
gets ``state.safetensors`` every few minutes and at the end, and ``tiny.safetensors``, the averaged weights in half
precision. Called again with the same folder, the training goes on; with ``--steps`` it then ends with the same bits as
one that was never interrupted.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from agile3d_diffusion.tiny import LEARNT, SIZE, TinyBase, noise_levels, write_tiny

log = logging.getLogger("agile3d.diffusion")
CLOSE_VIEWS = 5
"""The first views of a subject fill the picture with the face, as portraits do."""
GREY = 0.775
"""Background of the faces that stylizers are given, in [0, 1]."""
PLAIN = 0.7
"""Share of the pictures on that grey; the others stand before one colour, drawn anew each time."""
HELD_OUT = 100
"""Pictures at the end of the last shard that are never trained on."""
HEAVIEST = 16.0
"""Largest weight of a squared error: the loss of velocities, 1 / variance of the noise, has no bound."""
CHECKPOINT_SECONDS = 240
REPORT = 100
"""Steps between two lines of the log."""
STATE, RESULT = "state.safetensors", "tiny.safetensors"


@dataclass(frozen=True)
class BaseTraining:
    """How the tiny base is trained."""

    batch: int = 8
    """Pictures a step."""
    rate: float = 8e-4
    """Step size of AdamW after the warm-up; it falls to zero along a half cosine."""
    warmup: int = 100
    """Steps until the full rate."""
    average: float = 0.995
    """Decay of the averaged weights a step."""
    steps: int = 0
    """Length; 0 lets the time say when it ends."""
    seed: int = 0
    """All chance comes from it and the step's number."""


def read_pictures(folder: Path, size: int = SIZE) -> Tensor:
    """All close views, (P, 4, size, size) uint8: colours on black, and how much of a pixel the head covers."""
    paths = sorted(folder.glob("heads-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no heads-*.safetensors; make them with agile3d_cli.prior.subjects")
    pictures = []
    for path in paths:
        with safe_open(path, "pt") as shard:
            pixels = shard.get_slice("pixels")[:, :CLOSE_VIEWS].flatten(0, 1)
        small = F.interpolate(pixels.permute(0, 3, 1, 2).float(), size=(size, size), mode="area")
        pictures.append(small.round().to(torch.uint8))
    return torch.cat(pictures)


def batch_at(pictures: Tensor, step: int, training: BaseTraining) -> tuple[Tensor, Tensor, Tensor]:
    """The batch of a numbered step: pictures (B, 3, S, S) in [-1, 1], noise levels (B,), noise (B, 3, S, S)."""
    epoch, place = divmod(step, len(pictures) // training.batch)
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(training.seed * 1_000_003 + epoch))
    rng = torch.Generator().manual_seed((training.seed + 1) * 7_368_787 + step)
    chosen = pictures[order[place * training.batch : (place + 1) * training.batch]]
    turned = torch.rand(len(chosen), generator=rng) < 0.5
    chosen = torch.where(turned[:, None, None, None], chosen.flip(-1), chosen)
    ground = torch.rand(len(chosen), 3, 1, 1, generator=rng)
    ground = torch.where(torch.rand(len(chosen), 1, 1, 1, generator=rng) < PLAIN, torch.tensor(GREY), ground)
    # One stratum of the noise levels each: their mean is steadier than of independent draws.
    level = (torch.arange(len(chosen)) + torch.rand(len(chosen), generator=rng)) / len(chosen) * LEARNT
    clean = before(chosen, ground)
    return clean, level.long(), torch.randn(clean.shape, generator=rng)


def before(pictures: Tensor, ground: Tensor) -> Tensor:
    """Pictures (B, 4, S, S) uint8 before a colour in [0, 1] that broadcasts -> (B, 3, S, S) in [-1, 1]."""
    values = pictures.float() / 255
    return 2 * (values[:, :3] + (1 - values[:, 3:]) * ground) - 1


def denoising_loss(base: TinyBase, clean: Tensor, level: Tensor, noise: Tensor, levels: Tensor) -> Tensor:
    """Mean squared error of the predicted picture in units of the noise: the loss of velocities, capped."""
    kept = levels[level][:, None, None, None]
    seen = base(kept.sqrt() * clean + (1 - kept).sqrt() * noise, level)
    weight = (1 / (1 - kept)).clamp(max=HEAVIEST)
    return (weight * (seen - clean).square()).mean()


class BaseTrainer:
    """The loop and its state."""

    def __init__(self, base: TinyBase, training: BaseTraining, out: Path) -> None:
        self.base, self.training, self.out, self.step, self.seconds = base, training, out, 0, 0.0
        self.optimizer = torch.optim.AdamW(base.parameters(), lr=training.rate, betas=(0.9, 0.99), weight_decay=1e-3)
        self.average = {name: value.detach().clone() for name, value in base.named_parameters()}
        self._levels = noise_levels()

    def run(self, pictures: Tensor, minutes: float) -> None:
        """Trains until the time or the steps are used up, or until it is told to end; the state is saved each time."""
        stopped: list[int] = []
        usual = signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
        c, kept = self.training, pictures[:-HELD_OUT] if len(pictures) > 2 * HELD_OUT else pictures
        begun = saved = time.monotonic()
        before_us, recent = self.seconds, list[float]()
        while True:
            self.seconds = before_us + time.monotonic() - begun
            spent = self.seconds / (60 * minutes)
            done = self.step / c.steps if c.steps else spent
            if stopped or max(spent, done) >= 1:
                break
            recent.append(self._update(kept, done))
            if self.step % REPORT == 0:
                held_out = self.held_out(pictures[-HELD_OUT:])
                mean = sum(recent) / len(recent)
                log.info("%d loss %.4f held-out %.4f (%.0f s)", self.step, mean, held_out, self.seconds)
                recent = []
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()
        signal.signal(signal.SIGTERM, usual)

    def _update(self, pictures: Tensor, done: float) -> float:
        """One step, ``done`` (0 ... 1) of the way through the training."""
        c = self.training
        rate = c.rate * min(1.0, (self.step + 1) / c.warmup) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = denoising_loss(self.base, *batch_at(pictures, self.step, c), self._levels)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.base.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(c.average, self.step / (self.step + 10))
        with torch.no_grad():
            named = dict(self.base.named_parameters())
            torch._foreach_lerp_([self.average[name] for name in named], list(named.values()), 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def held_out(self, pictures: Tensor) -> float:
        """The loss of the averaged weights on pictures never trained on, always with the same noise."""
        current = {name: value.detach().clone() for name, value in self.base.named_parameters()}
        self._take(self.average)
        batch = batch_at(pictures, 0, BaseTraining(batch=min(48, len(pictures)), seed=12))
        loss = float(denoising_loss(self.base, *batch, self._levels))
        self._take(current)
        return loss

    def averaged(self) -> TinyBase:
        """A copy of the network with the averaged weights."""
        copy = TinyBase(self.base.widths, self.base.size)
        copy.load_state_dict(self.average)
        return copy

    def save(self) -> None:
        """Writes state and result, each under another name first."""
        state = {f"base.{name}": value.detach() for name, value in self.base.named_parameters()}
        state |= {f"average.{name}": value for name, value in self.average.items()}
        names = [name for name, _ in self.base.named_parameters()]
        for number, kept in self.optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{key}.{names[number]}": value for key, value in kept.items()}
        about = {"step": self.step, "seconds": self.seconds}
        temporary = self.out / f"{STATE}.part"
        save_file({name: value.contiguous() for name, value in state.items()}, temporary, {"at": json.dumps(about)})
        os.replace(temporary, self.out / STATE)
        facts = {
            "license": "CC0-1.0",
            "origin": "made by this project from synthetic heads of CC0 parts; no photo of a person was used",
            "steps": self.step,
            "batch": self.training.batch,
            "minutes": round(self.seconds / 60, 1),
        }
        write_tiny(self.out / RESULT, self.averaged(), facts)

    def load(self) -> bool:
        """Goes on from the folder's state, where there is one."""
        if not (self.out / STATE).is_file():
            return False
        with safe_open(self.out / STATE, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads(file.metadata()["at"])
        self.step, self.seconds = about["step"], about["seconds"]
        names = [name for name, _ in self.base.named_parameters()]
        self._take({name: state[f"base.{name}"] for name in names})
        self.average = {name: state[f"average.{name}"] for name in names}
        keys = ("step", "exp_avg", "exp_avg_sq")
        moments = {k: {key: state[f"optimizer.{key}.{name}"] for key in keys} for k, name in enumerate(names)}
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        return True

    @torch.no_grad()
    def _take(self, weights: dict[str, Tensor]) -> None:
        for name, value in self.base.named_parameters():
            value.copy_(weights[name])


def main() -> None:
    """Trains, or goes on training."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, required=True, help="folder of heads-*.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder of the state and the result")
    parser.add_argument("--minutes", type=float, default=55, help="in all, earlier calls included")
    parser.add_argument("--steps", type=int, default=0, help="length in steps, whatever the machine's speed")
    parser.add_argument("--batch", type=int, default=BaseTraining.batch)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    training = BaseTraining(batch=args.batch, steps=args.steps)
    torch.manual_seed(training.seed)
    trainer = BaseTrainer(TinyBase(), training, args.out)
    if trainer.load():
        log.info("goes on at step %d", trainer.step)
    trainer.run(read_pictures(args.heads), args.minutes)


if __name__ == "__main__":
    main()
