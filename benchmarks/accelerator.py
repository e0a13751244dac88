"""What a view of an EG3D-type generator costs on an accelerator, how near it is to the CPU's, and to a bound.

    python -m benchmarks.accelerator --device cuda [--rounds 20] [--batch 8] [--resolution 256] [--small]

The generator has the official FFHQ 512-128 size and random weights (``planted.py``); the yardstick is
``as_described.py``, as in ``speed.py``. Both take turns on the device; the median of all rounds counts, by the device's
own clock, after a warm-up. Errors are those from the CPU's results, with constant noise and the same uniform draws;
depth is compared where a ray met enough for it to be one (``ray_field.CLEAR``), ``compared`` is the share of such rays.
Float32 throughout; ``tf32`` tells of convolutions in TF32. Where Triton takes the rays, ``torch_steps`` has errors and
milliseconds without it. Prints one JSON document; ``bound.py`` has the renderer's bound.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from agile3d_cli import __version__, camera
from agile3d_cli.avatar.imported import imported_surface
from agile3d_cli.device import choose_device
from agile3d_cli.errors import DeviceError
from agile3d_cli.models.config import EG3D_FFHQ_512, GeneratorConfig
from agile3d_cli.models.folded import folded_planes
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.precision import PRECISIONS, rounds
from agile3d_cli.models.published import (
    PublishedSubject,
    full_picture,
    published_subject,
    ray_picture,
    render_subject,
)
from agile3d_cli.models.ray_field import CLEAR, march_rays
from benchmarks import as_described
from benchmarks.bound import renderer
from benchmarks.clock import Clock
from benchmarks.eg3d import tf32
from benchmarks.planted import planted
from benchmarks.speed import SMALL, rounded

Work = Callable[[], object]
NEAR = 1e-3
"""How far float32 results may be from the CPU's."""
WARM_UP = 3
"""Rounds that do not count."""


@dataclass(frozen=True)
class Asked:
    """What is asked of the generator."""

    z: Tensor
    condition: Tensor
    labels: Tensor
    """(N, 25) cameras."""
    coarse: Tensor
    """(1, R * R, samples) in [0, 1)."""
    fine: Tensor

    def to(self, device: torch.device) -> Asked:
        """The same on a device."""
        return Asked(*(getattr(self, name).to(device) for name in ("z", "condition", "labels", "coarse", "fine")))


def asked(config: GeneratorConfig, views: int) -> Asked:
    """Draws and cameras around the front."""
    rng, rays = torch.Generator().manual_seed(0), config.superresolution.rendered**2
    return Asked(
        torch.randn(1, config.z_dim, generator=rng),
        camera.portrait_label(0.0, 0.0)[None],
        torch.stack([camera.portrait_label(0.3 - 0.6 * k / views, 0.1) for k in range(views)]),
        torch.rand(1, rays, config.coarse_samples, generator=rng),
        torch.rand(1, rays, config.fine_samples, generator=rng),
    )


@torch.no_grad()
def made(
    generator: TriplaneGenerator, given: Asked, precision: str = "float32", native: bool = True
) -> dict[str, Tensor]:
    """Everything that is compared, on the CPU; ``native`` counts on CUDA only."""
    ws = generator.mapping(given.z, given.condition)
    planes = _planes(generator, ws, precision)
    subject = _subject(generator, ws, planes, precision, native)
    seen = ray_picture(subject, given.labels[:1], given.coarse, given.fine)
    image = full_picture(subject, seen.rendered)
    found = {"ws": ws, "planes": planes, "image_raw": seen.rendered[:, :3], "image_depth": seen.held_depth}
    return {name: value.cpu() for name, value in (found | {"seen": seen.seen, "image": image}).items()}


def _planes(generator: TriplaneGenerator, ws: Tensor, precision: str) -> Tensor:
    return folded_planes(generator.backbone, ws, PRECISIONS[precision], tf32=rounds(precision))


def _subject(
    generator: TriplaneGenerator,
    ws: Tensor,
    planes: Tensor | None = None,
    precision: str = "float32",
    native: bool = True,
) -> PublishedSubject:
    return published_subject(generator, ws, planes, precision, native and ws.device.type != "cpu")


def errors(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """Of each result; ``beyond`` is the share of its numbers that are farther off than ``NEAR``."""
    told = {}
    for name, exact in wanted.items():
        miss = (found[name].double() - exact.double()).abs()
        clear = wanted["seen"] >= CLEAR if name == "image_depth" else torch.ones_like(miss, dtype=torch.bool)
        miss = miss[clear]
        told[name] = {
            "max": float(miss.max()),
            "rms": float(miss.square().mean().sqrt()),
            "range": float(exact.abs().max()),
            "beyond": float((miss > NEAR).double().mean()),
            "compared": float(clear.double().mean()),
        }
    return told


@torch.no_grad()
def take_turns(
    ours: Clock,
    theirs: Clock,
    generator: TriplaneGenerator,
    given: Asked,
    precision: str = "float32",
    swapped: bool = False,
) -> PublishedSubject:
    """One round of everything but surfaces; the yardstick goes first if ``swapped``."""
    z, condition, label = given.z, given.condition, given.labels[:1]
    ws = generator.mapping(z, condition)
    planes, known = _planes(generator, ws, precision), as_described.planes_of(generator, ws)
    subject = _subject(generator, ws, planes, precision)
    seen, (rendered, _) = ray_picture(subject, label, 0.5, None), as_described.rendered(generator, known, label)
    both: dict[str, tuple[Work, Work]] = {
        "mapping": (lambda: generator.mapping(z, condition), lambda: generator.mapping(z, condition)),
        "backbone": (lambda: _planes(generator, ws, precision), lambda: as_described.planes_of(generator, ws)),
        "render": (
            lambda: ray_picture(subject, label, given.coarse, given.fine),
            lambda: as_described.rendered(generator, known, label),
        ),
        "superresolution": (
            lambda: full_picture(subject, seen.rendered),
            lambda: as_described.enlarged(generator, rendered, ws),
        ),
        "first_view": (
            lambda: _first_view(generator, z, condition, label, precision),
            lambda: _described_view(generator, z, condition, label),
        ),
    }
    for stage, works in both.items():
        sides = list(zip((ours, theirs), works, strict=True))
        for clock, work in reversed(sides) if swapped else sides:
            clock.time(stage, work)
    ours.time("subject", lambda: _subject(generator, ws, planes, precision))
    ours.time("further_view", lambda: render_subject(subject, label))
    ours.time("batch", lambda: render_subject(subject, given.labels))
    return subject


def _first_view(
    generator: TriplaneGenerator, z: Tensor, condition: Tensor, label: Tensor, precision: str = "float32"
) -> Tensor | None:
    subject = _subject(generator, generator.mapping(z, condition), precision=precision)
    return render_subject(subject, label).image


def _described_view(generator: TriplaneGenerator, z: Tensor, condition: Tensor, label: Tensor) -> Tensor:
    ws = generator.mapping(z, condition)
    rendered, _ = as_described.rendered(generator, as_described.planes_of(generator, ws), label)
    return as_described.enlarged(generator, rendered, ws)


def ratios(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """How many times ours the yardstick's milliseconds are; it makes the planes anew for a further view, and once
    more is compared as if it had kept them."""
    found = {stage: theirs[stage] / ours[stage] for stage in ("backbone", "render", "superresolution", "first_view")}
    found["further_view"] = theirs["first_view"] / ours["further_view"]
    found["further_view_of_kept_planes"] = (theirs["render"] + theirs["superresolution"]) / ours["further_view"]
    return found


@torch.no_grad()
def peaks(generator: TriplaneGenerator, given: Asked) -> dict[str, float]:
    """Bytes that a first view of each side takes on top of the generator's (CUDA)."""
    found: dict[str, float] = {}
    for side, view in (("ours", _first_view), ("described", _described_view)):
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        view(generator, given.z, given.condition, given.labels[:1])
        torch.cuda.synchronize()
        found[side] = torch.cuda.max_memory_allocated() - before
    return found | {"ratio": found["ours"] / found["described"]}


def surface(here: PublishedSubject, there: PublishedSubject, device: torch.device, resolution: int) -> dict[str, Any]:
    """Milliseconds of a surface, marching cubes on the CPU included, and how far a vertex is from the nearest one that
    the CPU finds, or the other way round."""
    clock = Clock(device)
    for _ in range(2):
        found = clock.time("surface", lambda: imported_surface(there, resolution)).vertices
    wanted = imported_surface(here, resolution).vertices
    return {
        "milliseconds": min(clock.spent["surface"]),
        "vertices": len(found),
        "vertices_on_cpu": len(wanted),
        "farthest": max(float(cKDTree(one).query(other)[0].max()) for one, other in ((found, wanted), (wanted, found))),
    }


@torch.no_grad()
def measure(config: GeneratorConfig, device: torch.device, rounds: int, batch: int, resolution: int) -> dict[str, Any]:
    """The document's numbers."""
    generator, given = planted(config), asked(config, batch)
    moved, sent = copy.deepcopy(generator).to(device), given.to(device)
    wanted, ours, theirs = made(generator, given), Clock(device), Clock(device)
    document: dict[str, Any] = {"errors": errors(made(moved, sent), wanted)}
    document["within"] = all(error["max"] <= NEAR for error in document["errors"].values())
    subject = take_rounds(ours, theirs, moved, sent, rounds)
    mine, described = ours.medians(), theirs.medians()
    document |= {
        "milliseconds": {"ours": mine, "described": described},
        "ratios": ratios(mine, described),
        "views_per_second": {
            "first": 1000 / mine["first_view"],
            "further": 1000 / mine["further_view"],
            "further_in_batches": 1000 * batch / mine["batch"],
        },
        "renderer": renderer(config, mine["render"], device),
    }
    if subject.march is not march_rays:
        document["torch_steps"] = _with_torch_steps(subject, moved, sent, wanted, rounds)
    if device.type == "cuda":
        document["peak_bytes_of_a_view"] = peaks(moved, sent)
        document["tf32"] = _with_tf32(moved, sent, wanted, rounds)
    here = published_subject(generator, wanted["ws"], wanted["planes"], native=False)
    return document | {"surface": surface(here, subject, device, resolution)}


def take_rounds(
    ours: Clock, theirs: Clock, generator: TriplaneGenerator, given: Asked, rounds: int, precision: str = "float32"
) -> PublishedSubject:
    """Warm-up and rounds, each side first in every other one."""
    for _ in range(WARM_UP):
        take_turns(Clock(ours.device), Clock(ours.device), generator, given, precision)
    for n in range(rounds):
        subject = take_turns(ours, theirs, generator, given, precision, swapped=bool(n % 2))
    return subject


def _with_torch_steps(
    subject: PublishedSubject, generator: TriplaneGenerator, given: Asked, wanted: dict[str, Tensor], rounds: int
) -> dict[str, Any]:
    """Errors and milliseconds of rays without Triton."""
    clock, plain = Clock(given.z.device), replace(subject, march=march_rays)
    for _ in range(WARM_UP + rounds):
        clock.time("render", lambda: ray_picture(plain, given.labels[:1], given.coarse, given.fine))
    found = errors(made(generator, given, native=False), wanted)
    return {"errors": found, "milliseconds": clock.medians()}


def _with_tf32(
    generator: TriplaneGenerator, given: Asked, wanted: dict[str, Tensor], rounds: int
) -> dict[str, dict[str, Any]]:
    """Errors and milliseconds where convolutions may be rounded."""
    ours, theirs = Clock(given.z.device), Clock(given.z.device)
    with tf32(True):
        take_rounds(ours, theirs, generator, given, rounds, "tf32")
    found = errors(made(generator, given, "tf32"), wanted)
    return {"errors": found, "milliseconds": {"ours": ours.medians(), "described": theirs.medians()}}


def main(arguments: list[str] | None = None) -> int:
    """Prints the document; a device that is not there is one sentence and its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=8, help="views that are asked for at once")
    parser.add_argument("--resolution", type=int, default=256, help="cells along each side of the surface's grid")
    parser.add_argument("--small", action="store_true", help="a small generator, for a try")
    args = parser.parse_args(arguments)
    try:
        device = choose_device(args.device)
    except DeviceError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    document = {
        "schema": "agile3d.benchmark.accelerator/1",
        "agile3d": __version__,
        "torch": torch.__version__,
        "device": {"type": device.type, "name": name},
        "small": args.small,
        "rounds": args.rounds,
        "batch": args.batch,
        "resolution": args.resolution,
    }
    with tf32(False):
        config = SMALL if args.small else EG3D_FFHQ_512
        document |= measure(config, device, args.rounds, args.batch, args.resolution)
    print(json.dumps(rounded(document), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
