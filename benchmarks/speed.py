"""What a view and a surface of an EG3D-type generator cost here, beside a program that works as the papers describe it.

    python -m benchmarks.speed [--rounds 2] [--precision bf16] [--resolution 256] [--small]

The generator has the official FFHQ 512-128 size and random weights (``planted.py``); the yardstick is
``as_described.py``. Both take turns on one thread, CPU seconds count (``time.process_time``), the best round of each is
taken. Prints one JSON document: seconds of each stage and side, ratios of each task, peak memory over the loaded
program, and how far apart the results are. The yardstick's surface is one batch of a million points times the number of
batches, and its marching cubes and file in full.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from agile3d_cli import __version__, camera
from agile3d_cli.avatar.imported import BORDER, EMPTY, LEVEL, ImportedSurface, imported_surface
from agile3d_cli.models.config import EG3D_FFHQ_512, GeneratorConfig, SuperresolutionConfig
from agile3d_cli.models.folded import folded_planes
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.native import compiled
from agile3d_cli.models.precision import PRECISIONS
from agile3d_cli.models.published import (
    PublishedSubject,
    full_picture,
    published_subject,
    ray_picture,
    render_published,
)
from agile3d_cli.models.separable import grid_density
from benchmarks import as_described
from benchmarks.planted import planted

Result = TypeVar("Result")
SMALL = replace(
    EG3D_FFHQ_512,
    channel_base=2048,
    channel_max=32,
    coarse_samples=12,
    fine_samples=12,
    superresolution=SuperresolutionConfig(rendered=32, entry=64, sizes=(64, 128), channels=(16, 8)),
)
"""For a try in seconds; its ratios mean little."""
TASKS = {
    "first_view": ("mapping", "backbone", "subject", "render", "superresolution"),
    "further_view": ("render", "superresolution"),
    "mesh": ("mapping", "backbone", "subject", "surface"),
}
"""Stages of ours. The yardstick's further view is its first one again, as it makes the planes anew."""
NATIVE = "_native"
"""Ending of stages with what ``agile3d models native`` has built, if it has."""


@dataclass
class Sides:
    """Best CPU seconds of each stage."""

    ours: dict[str, float] = field(default_factory=dict)
    described: dict[str, float] = field(default_factory=dict)

    def time(self, side: dict[str, float], stage: str, work: Callable[[], Result]) -> Result:
        """Runs a stage and keeps its time, if it is the best."""
        start = time.process_time()
        result = work()
        side[stage] = min(side.get(stage, float("inf")), time.process_time() - start)
        return result

    def ratios(self, resolution: int) -> dict[str, float]:
        """How many times the yardstick's seconds are ours."""
        view = sum(self.described[stage] for stage in ("mapping", "backbone", "render", "superresolution"))
        mesh = self.described["batch"] * as_described.batches(resolution) + self.described["surface"]
        whole = {"first_view": view, "further_view": view, "mesh": mesh}
        found = {task: whole[task] / sum(self.ours[stage] for stage in stages) for task, stages in TASKS.items()}
        if f"render{NATIVE}" in self.ours:
            for task, stages in TASKS.items():
                seconds = sum(self.ours.get(f"{stage}{NATIVE}", self.ours[stage]) for stage in stages)
                found[f"{task}{NATIVE}"] = whole[task] / seconds
        both = ("backbone", "render", "superresolution")
        return found | {stage: self.described[stage] / self.ours[stage] for stage in both}


def asked(config: GeneratorConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Latent, conditioning label and the label of the view."""
    z = torch.randn(1, config.z_dim, generator=torch.Generator().manual_seed(0))
    return z, camera.portrait_label(0.0, 0.0)[None], camera.portrait_label(0.3, 0.1)[None]


@dataclass(frozen=True)
class Round:
    """What one round made."""

    subject: PublishedSubject
    surface: ImportedSurface
    pairs: dict[str, tuple[Tensor, Tensor]]
    """Ours and the yardstick's."""


@torch.no_grad()
def take_turns(sides: Sides, generator: TriplaneGenerator, resolution: int, precision: str) -> Round:
    """One round of everything but the yardstick's marching cubes."""
    ours, theirs, (z, condition, label) = sides.ours, sides.described, asked(generator.config)
    dtype = PRECISIONS[precision]
    ws = sides.time(ours, "mapping", lambda: generator.mapping(z, condition))
    sides.time(theirs, "mapping", lambda: generator.mapping(z, condition))
    planes = sides.time(ours, "backbone", lambda: folded_planes(generator.backbone, ws, dtype))
    known = sides.time(theirs, "backbone", lambda: as_described.planes_of(generator, ws))
    subject = sides.time(ours, "subject", lambda: published_subject(generator, ws, planes, precision, False))
    seen = sides.time(ours, "render", lambda: ray_picture(subject, label, 0.5, None))
    rendered, depth = sides.time(theirs, "render", lambda: as_described.rendered(generator, known, label))
    image = sides.time(ours, "superresolution", lambda: full_picture(subject, seen.rendered))
    wanted = sides.time(theirs, "superresolution", lambda: as_described.enlarged(generator, rendered, ws))
    surface = sides.time(ours, "surface", lambda: imported_surface(subject, resolution))
    sides.time(theirs, "batch", lambda: as_described.field_batch(generator, z, condition, resolution))
    pairs = {"planes": (planes, known), "image_raw": (seen.rendered[:, :3], rendered[:, :3])}
    pairs |= {"image_depth": (seen.held_depth, depth), "image": (image, wanted)}
    native = compiled()
    if native is not None:
        backbone, render, enlarge = (f"{stage}{NATIVE}" for stage in ("backbone", "render", "superresolution"))
        planes = sides.time(ours, backbone, lambda: folded_planes(generator.backbone, ws, dtype, native.smooth))
        quick = published_subject(generator, ws, planes, precision)
        seen = sides.time(ours, render, lambda: ray_picture(quick, label, 0.5, None))
        image = sides.time(ours, enlarge, lambda: full_picture(quick, seen.rendered))
        pairs[f"planes{NATIVE}"] = (planes, known)
        pairs[f"image_raw{NATIVE}"] = (seen.rendered[:, :3], rendered[:, :3])
        pairs |= {f"image_depth{NATIVE}": (seen.held_depth, depth), f"image{NATIVE}": (image, wanted)}
    return Round(subject, surface, pairs)


def measure(config: GeneratorConfig, rounds: int, resolution: int, precision: str) -> dict[str, Any]:
    """The document's seconds, ratios and differences."""
    generator, sides = planted(config), Sides()
    for _ in range(rounds):
        last = take_turns(sides, generator, resolution, precision)
    dense = imported_surface(last.subject, resolution, dense=True)
    values = whole_grid(last.subject, resolution)
    sides.time(sides.described, "surface", lambda: as_described.surface_bytes(values, LEVEL))
    return {
        "ratios": sides.ratios(resolution),
        "cpu_seconds": {"ours": sides.ours, "described": sides.described},
        "batches": as_described.batches(resolution),
        "differences": {name: _difference(*pair) for name, pair in last.pairs.items()},
        "surface": {
            "vertices": len(last.surface.vertices),
            "nodes_asked": last.surface.evaluated,
            "equal_to_dense": bool(np.array_equal(last.surface.vertices, dense.vertices)),
        },
    }


def whole_grid(subject: PublishedSubject, resolution: int) -> np.ndarray:
    """Raw density at all nodes, empty at the border, for the yardstick's marching cubes."""
    half, cut = subject.config.box / 2, int(BORDER * resolution)
    density = grid_density(subject.field, torch.linspace(-half, half, resolution))
    line = torch.arange(resolution)
    y, z = (grid.reshape(-1) for grid in torch.meshgrid(line, line, indexing="ij"))
    values = np.full((resolution,) * 3, EMPTY, np.float32)
    for x in range(cut, resolution - cut):
        values[x] = density.raw(torch.stack([torch.full_like(y, x), y, z])).reshape(resolution, resolution).numpy()
    values[:, :cut] = values[:, -cut:] = values[:, :, :cut] = values[:, :, -cut:] = EMPTY
    return values


def _difference(found: Tensor, wanted: Tensor) -> dict[str, float]:
    miss = (found - wanted).abs()
    return {
        "max": float(miss.max()),
        "rms": float(miss.square().mean().sqrt()),
        "range": float(wanted.abs().max()),
    }


@torch.no_grad()
def peak(side: str, config: GeneratorConfig, precision: str) -> int:
    """Bytes that a first view takes on top of what this fresh process has."""
    generator, (z, condition, label) = planted(config), asked(config)
    ws = generator.mapping(z, condition)
    with Watch() as watch:
        if side == "ours":
            render_published(generator, ws, label, precision=precision)
        else:
            rendered, _ = as_described.rendered(generator, as_described.planes_of(generator, ws), label)
            as_described.enlarged(generator, rendered, ws)
    return watch.most - watch.before


class Watch:
    """Looks at the memory of this process every millisecond (Linux)."""

    def __enter__(self) -> Watch:
        gc.collect()
        self.before = self.most = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.001):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peaks(words: list[str]) -> dict[str, float]:
    """Peak memory of both sides, each in a process of its own."""
    found: dict[str, float] = {}
    for side in ("ours", "described"):
        command = [sys.executable, "-m", "benchmarks.speed", "--peak", side, *words]
        found[side] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {**found, "ratio": found["ours"] / found["described"]}


def main(arguments: list[str] | None = None) -> None:
    """Prints the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=256, help="cells along each side of the surface's grid")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="float32", help="of our convolutions")
    parser.add_argument("--small", action="store_true", help="a small generator, for a try")
    parser.add_argument("--peak", choices=["ours", "described"], help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = SMALL if args.small else EG3D_FFHQ_512
    if args.peak:
        print(peak(args.peak, config, args.precision))
        return
    words = ["--precision", args.precision, *(["--small"] if args.small else [])]
    document = {
        "schema": "agile3d.benchmark.speed/1",
        "agile3d": __version__,
        "torch": torch.__version__,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
        },
        "precision": args.precision,
        "resolution": args.resolution,
        "small": args.small,
    }
    document |= measure(config, args.rounds, args.resolution, args.precision)
    if sys.platform == "linux":
        document["peak_bytes_of_a_view"] = peaks(words)
    print(json.dumps(rounded(document), indent=2))


def rounded(value: Any) -> Any:
    """A document with four digits of each number."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
