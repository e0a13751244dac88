"""How near an imported EG3D-type generator comes to recorded results of its reference, and what each stage costs.

    python -m benchmarks.eg3d --pickle FILE --case CASE.npz [--threads 1] [--rendered PX] [--precision bf16] [--native]
                             [--device cuda]

Imports FILE as ``agile3d models import`` does (in memory), replays the case and prints one JSON document: largest and
root mean square error of everything that the case holds (``range`` is the largest recorded magnitude), and CPU seconds
of each stage, or on an accelerator, where single precision is kept throughout, seconds by the clock.
``docs/import.md`` lists the arrays of a case; those that are not there are named under ``absent``.
Noise is the constant one of the file. Exit code 0 whatever the errors are: they are for the reader to judge.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agile3d_cli import __version__
from agile3d_cli.device import choose_device
from agile3d_cli.errors import Agile3dError, MissingError, RefusedError
from agile3d_cli.models.checkpoints import build
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.folded import folded_planes, smooth
from agile3d_cli.models.generator import TriplaneGenerator
from agile3d_cli.models.importing import ImportOptions, convert
from agile3d_cli.models.native import compiled
from agile3d_cli.models.precision import PRECISIONS, rounds
from agile3d_cli.models.published import full_picture, published_subject, ray_picture
from agile3d_cli.models.triplane import plane_features
from agile3d_cli.safefile import file_sha256

NEEDED = ("z", "c_cond", "c_views")
STRIDED = "planes_stride8"
"""Every eighth pixel of the planes, in cases that have to be small."""


@dataclass
class Replay:
    """What was measured."""

    device: torch.device
    errors: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """CPU seconds of all threads, or seconds until an accelerator is done."""
        start = self._now()
        yield
        self.seconds[name] = round(self._now() - start, 4)

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.accelerator.synchronize()
        return time.perf_counter()

    def compare(self, name: str, found: Tensor, case: Mapping[str, Tensor]) -> None:
        """Notes the error of one array, if the case has it."""
        if name not in case:
            self.absent.append(name)
            return
        wanted = case[name].double()
        if found.numel() != wanted.numel():
            raise RefusedError(
                f"The case's {name} has the shape {tuple(wanted.shape)}; {tuple(found.shape)} is expected."
            )
        miss = (found.cpu().double().reshape(wanted.shape) - wanted).abs()
        self.errors[name] = {
            "max": float(miss.max()),
            "rms": float(miss.square().mean().sqrt()),
            "range": float(wanted.abs().max()),
            "max_relative": float((miss / wanted.abs().clamp(min=1)).max()),
        }


@torch.no_grad()
def replay(
    generator: TriplaneGenerator, case: Mapping[str, Tensor], precision: str = "float32", native: bool = False
) -> Replay:
    """Makes everything that a case holds anew, where the generator lies, and compares."""
    device = generator.mapping.w_avg.device
    done, config = Replay(device), generator.config
    z, condition = case["z"].float().to(device), case["c_cond"].float().to(device)
    psi, cutoff = float(case.get("psi", torch.tensor(1.0))), int(case.get("cutoff", torch.tensor(0)))
    with done.stage("mapping"):
        ws = generator.mapping(z, condition, psi, cutoff)
    done.compare("ws", ws, case)
    done.compare("ws_psi1", generator.mapping(z, condition), case)
    dtype, quick = PRECISIONS[precision], compiled() if native else None
    after = quick.smooth if quick else smooth
    with done.stage("backbone"):
        planes = torch.cat([folded_planes(generator.backbone, w, dtype, after, rounds(precision)) for w in ws.split(1)])
    flat = planes.flatten(1, 2)
    if STRIDED in case:
        done.compare(STRIDED, flat[:, :, ::8, ::8], case)
    else:
        done.compare("planes", flat, case)
    if "points" in case:
        points = case["points"].float().to(device).reshape(1, -1, 3)
        with done.stage("points"):
            raw = generator.decoder.raw(plane_features(planes[:1], points * (2 / config.box), config.plane_axes))
        done.compare("sigma", raw[..., :1], case)
        coloured = case["point_rgb"].numel() // (raw.shape[-1] - 1) if "point_rgb" in case else 0
        done.compare("point_rgb", (torch.sigmoid(raw[..., 1:]) * 1.002 - 0.001)[:, :coloured], case)
    else:
        done.absent.append("points")
    views = case["c_views"].float().to(device).reshape(-1, 25)
    for k, label in enumerate(views):
        coarse, fine = _draws(case, k, len(views), config, device)
        # One latent may have many views, or each view its own.
        own = slice(k, k + 1) if len(ws) == len(views) else slice(0, 1)
        if k == 0 or len(ws) == len(views):
            with done.stage(f"subject_{k}"):
                subject = published_subject(generator, ws[own], planes[own], precision, native)
        with done.stage(f"render_{k}"):
            seen = ray_picture(subject, label[None], coarse, fine)
        done.compare(f"image_raw_{k}", seen.rendered[:, :3], case)
        done.compare(f"image_depth_{k}", seen.held_depth, case)
        if config.superresolution.sizes:
            with done.stage(f"superresolution_{k}"):
                image = full_picture(subject, seen.rendered)
            done.compare(f"image_{k}", image, case)
    return done


def _draws(
    case: Mapping[str, Tensor], view: int, views: int, config: GeneratorConfig, device: torch.device
) -> tuple[Tensor | float, Tensor | None]:
    """The uniform draws of one view, (1, rays, samples) each; without them samples lie in the middle, evenly."""
    rays, found = config.superresolution.rendered**2, list[Tensor | None]()
    for name, samples in (("u_coarse", config.coarse_samples), ("u_fine", config.fine_samples)):
        draws = case.get(f"{name}_{view}", case.get(name))
        if draws is not None:
            if draws.numel() == 0 or draws.numel() % (rays * samples):
                shape = tuple(draws.shape)
                raise RefusedError(f"The case's {name} has the shape {shape}; {rays} rays have {samples} samples each.")
            draws = draws.float().to(device).reshape(-1, rays, samples)
            draws = draws[view : view + 1] if len(draws) == views else draws[:1]
        found.append(draws)
    coarse, fine = found
    return 0.5 if coarse is None else coarse, fine


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether CUDA's convolutions may round what they multiply to ten bits, as they do unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = allowed, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def read_case(path: Path) -> dict[str, Tensor]:
    """The arrays of a case.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is no ``.npz`` file of numbers, or lacks what is needed.
    """
    if not path.is_file():
        raise MissingError(f"There is no case {path}; check the path.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            case = {name: torch.from_numpy(np.ascontiguousarray(arrays[name])) for name in arrays.files}
    except (ValueError, OSError, TypeError, zipfile.BadZipFile) as error:
        raise RefusedError(f"{path} is no .npz file of plain numbers ({error}).") from error
    missing = [name for name in NEEDED if name not in case]
    if missing:
        raise RefusedError(f"{path} has no {', '.join(missing)}; docs/import.md lists the arrays of a case.")
    return case


def measure(
    pickle: Path,
    case: Path,
    rendered: int | None = None,
    precision: str = "float32",
    native: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """The document of a file and a case."""
    where, given = choose_device(device), read_case(case)
    start = time.process_time()
    imported = convert(pickle, ImportOptions(name="benchmark", rendered=rendered))
    generator, _ = build(imported.model, pickle)
    seconds = {"import": round(time.process_time() - start, 4)}
    with tf32(False):
        done = replay(generator.to(where), given, precision, native)
    worst: dict[str, float] = {}
    for name, error in done.errors.items():
        kind = re.sub(r"_\d+$", "", name)
        worst[kind] = max(worst.get(kind, 0.0), error["max"])
    return {
        "schema": "agile3d.benchmark.eg3d/1",
        "agile3d": __version__,
        "file": {"name": pickle.name, "sha256": file_sha256(pickle)},
        "case": case.name,
        "architecture": imported.model.architecture,
        "assumed": list(imported.notes),
        "max": worst,
        "errors": done.errors,
        "absent": done.absent,
        "device": where.type,
        "cpu_seconds" if where.type == "cpu" else "seconds": seconds | done.seconds,
        "precision": precision,
        "native": native,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main(arguments: list[str] | None = None) -> int:
    """Prints the document; an expected error is one sentence and its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pickle", type=Path, required=True, help="network pickle, PyTorch or safetensors file")
    parser.add_argument("--case", type=Path, required=True, help="recorded case, .npz")
    parser.add_argument("--rendered", type=int, help="pixels that are rendered, over what the file says")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="float32", help="of the convolutions")
    parser.add_argument("--native", action="store_true", help="use what `agile3d models native` has built")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or mps")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    try:
        document = measure(args.pickle, args.case, args.rendered, args.precision, args.native, args.device)
    except Agile3dError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
