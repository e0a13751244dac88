"""Likeness in a gallery: whose photo does each avatar find first?

    python -m benchmarks.gallery [--photos FOLDER] [--count 20] [--style cartoon] [--workers 2]

Makes the portraits of ``--count`` photos and ranks each among the embeddings of all photos of the folder
(``identity_rank`` of scores.py): from the photo's camera, from 25 degrees to either side, and from the photo's camera
without what is painted (``latent_alone``: what a style lives on). Prints one JSON document and writes two sheets into
the git-ignored reports folder: photo, portrait, latent alone and side views of each person, and the first ``TURNED``
people at five yaws above the normals of their surface. Chance is 1 / folder for top-1. What was measured of a photo is
kept in the reports folder, so that an interrupted run goes on; another model, style or setting begins anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from agile3d_cli import camera
from agile3d_cli.avatar.config import ApplyConfig, InvertConfig
from agile3d_cli.avatar.invert import invert
from agile3d_cli.avatar.latents import build_head, open_style
from agile3d_cli.avatar.measure import embedding, photo_embedding
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.bundle import read_style
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.pipeline import load_face
from agile3d_cli.image import save_png, to_array
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.registry import ASSETS, find_file
from agile3d_cli.safefile import file_sha256
from agile3d_cli.scores import identity_rank

CELL = 256
NOBODY = 1e3
"""Every number of the code of a portrait in which no face is found; far from everybody."""
SIDE = np.deg2rad(25.0)
TURNED, YAWS = 8, (-60.0, -30.0, 0.0, 30.0, 60.0)
"""People on the sheet of yaws, and the yaws in degrees."""
PHOTOS = Path(__file__).parents[1] / "../shared/assets/photos-london-smiling"
"""102 people of the Face Research Lab London Set, where it lies beside the repository."""


def _likeness(portraits: torch.Tensor, photos: torch.Tensor, own: list[int]) -> dict[str, float]:
    """Rank and distances; ``portraits`` holds the same number of views of each chosen photo, one after another.

    A portrait in which no face is found finds nobody.
    """
    numbers = torch.tensor(own).repeat_interleave(len(portraits) // len(own))
    seen = portraits[:, 0] != NOBODY
    share = float(seen.float().mean())
    rank = identity_rank(portraits[seen], photos, numbers[seen]) if share else None
    distances = (portraits - photos[numbers]).norm(dim=1)
    top1, top5 = (share * rank.top1, share * rank.top5) if rank else (0.0, 0.0)
    return {"top1": top1, "top5": top5, "identity_median": float(distances.median())}


def _turned(head: GeneratorHead) -> np.ndarray:
    """The head at five yaws above its normals, (2 * CELL, 5 * CELL, 3) uint8."""
    labels = torch.stack([camera.portrait_label(np.deg2rad(yaw), 0.0, camera.FOCAL * 0.62) for yaw in YAWS])
    seen = head.render(labels, CELL, 1.0)
    views = zip(labels, seen.depth, seen.alpha, strict=True)
    normals = [_normals(label, depth[0], alpha[0]) for label, depth, alpha in views]
    return np.concatenate([to_array(torch.cat(list(seen.image), 2)), to_array(torch.cat(normals, 2))])


def _normals(label: torch.Tensor, depth: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Normals of a depth picture (S, S) as colours (3, S, S) in [-1, 1]: to the right, up, and towards the camera."""
    size = len(depth)
    origin, direction = camera.rays(label[None], size, size)
    points = (origin[0] + direction[0] * depth.reshape(-1, 1)).reshape(size, size, 3)
    right = F.pad(points[:, 2:] - points[:, :-2], (0, 0, 1, 1))
    down = F.pad(points[2:] - points[:-2], (0, 0, 0, 0, 1, 1))
    world = F.normalize(torch.linalg.cross(down, right), dim=-1)
    matrix, _ = camera.split_label(label[None])
    # The camera looks along its z, with y down.
    own = world @ matrix[0, :3, :3] * torch.tensor([1.0, -1.0, -1.0])
    return torch.where(alpha > 0.5, own.permute(2, 0, 1), torch.ones(3, 1, 1))


@dataclass(frozen=True)
class Work:
    """What is done to every photo."""

    style: str
    refine: int
    identity: float
    turned: bool

    def key(self) -> str:
        """Changes with everything that a portrait depends on but the code."""
        files = [find_file("mini", "model"), ASSETS / "mini_encoder.safetensors"]
        files += [] if self.style == "none" else [find_file(self.style, "style")]
        named = [self.style, self.refine, self.identity, *(file_sha256(path) for path in files)]
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:12]


@cache
def _base() -> BaseModel:
    torch.set_num_threads(1)
    return load_base("mini")


def _portrait(path: Path, work: Work) -> dict[str, torch.Tensor]:
    """Codes of a photo's portrait by the kind of view (a portrait without a face has one far from everybody's), a row
    of pictures, and the seconds of the inversion."""
    base = _base()
    style = None if work.style == "none" else open_style(read_style(find_file(work.style, "style")), base)
    config = FaceConfig(template=base.framing)
    face, _ = load_face(path, config)
    started = time.perf_counter()
    latent = invert(face, base, InvertConfig(paint_steps=work.refine), config.wide, lambda share: None)
    seconds = time.perf_counter() - started
    head = build_head(latent, base, style, work.identity, 1.0, 1.0)
    bare = build_head(replace(latent, paint=None), base, style, work.identity, 1.0, 1.0)
    yaw = np.deg2rad(face.yaw)
    sides = [camera.portrait_label(yaw + side, np.deg2rad(face.pitch)) for side in (-SIDE, SIDE)]
    wide = camera.portrait_label(0.9, 0.0, camera.FOCAL * 0.62)
    views = head.render(torch.stack([face.label, *sides, wide]), CELL, 1.0).image
    plain = bare.render(face.label[None], CELL, 1.0).image[0]
    photo = F.interpolate(face.image[None], (CELL, CELL), mode="area")[0]
    found = {
        "front": _codes(views[:1]),
        "side": _codes(views[1:3]),
        "latent_alone": _codes(plain[None]),
        "row": torch.from_numpy(to_array(torch.cat([photo, views[0], plain, views[2], views[3]], 2))),
        "seconds": torch.tensor(seconds),
    }
    return found | ({"turned": torch.from_numpy(_turned(head))} if work.turned else {})


def _codes(views: torch.Tensor) -> torch.Tensor:
    codes = [embedding(view, None) for view in views]
    return torch.cat([torch.full((1, 128), NOBODY) if code is None else code for code in codes])


def _kept(path: Path, folder: Path, work: Work) -> Path:
    """The file of what ``_portrait`` found of a photo, made where it is not there."""
    target = folder / f"{path.stem}.safetensors"
    if not target.exists():
        temporary = target.with_suffix(".part")
        save_file({name: value.contiguous() for name, value in _portrait(path, work).items()}, temporary)
        os.replace(temporary, target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos of different people, one each")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--style", default="cartoon", help="none for the unstylized heads")
    parser.add_argument("--refine", type=int, default=ApplyConfig.refine)
    parser.add_argument("--identity", type=float, default=ApplyConfig.identity)
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args()
    paths = sorted(args.photos.glob("*.jpg"))
    chosen = [round(k * (len(paths) - 1) / max(args.count - 1, 1)) for k in range(min(args.count, len(paths)))]
    name = f"gallery-{Path(args.style).stem}-{args.photos.resolve().name}"
    work = Work(args.style, args.refine, args.identity, turned=False)
    folder = args.out / name / work.key()
    folder.mkdir(parents=True, exist_ok=True)
    config = FaceConfig(template=_base().framing)
    photos = torch.cat([photo_embedding(load_face(path, config)[0]) for path in paths])
    rows = []
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        turned = [replace(work, turned=k < TURNED) for k in range(len(chosen))]
        jobs = [pool.submit(_kept, paths[k], folder, one) for k, one in zip(chosen, turned, strict=True)]
        for number, job in zip(chosen, jobs, strict=True):
            rows.append(load_file(job.result()))
            distance = float((rows[-1]["front"][0] - photos[number]).norm())
            sys.stderr.write(f"{paths[number].name}: distance {distance:.3f}\n")
    pictures = [row["row"].numpy() for row in rows]
    half = (len(pictures) + 1) // 2
    pictures += [np.full_like(pictures[0], 255)] * (2 * half - len(pictures))
    sheet = np.concatenate([np.concatenate(pictures[:half]), np.concatenate(pictures[half:])], 1)
    saved = save_png(args.out / f"{name}.png", sheet)
    around = [row["turned"].numpy() for row in rows if "turned" in row]
    if around:
        save_png(args.out / f"{name}-turned.png", np.concatenate(around))
    kinds = ("front", "side", "latent_alone")
    facts = {
        "photos": len(chosen),
        "gallery": len(photos),
        "style": args.style,
        **{kind: _likeness(torch.cat([row[kind] for row in rows]), photos, chosen) for kind in kinds},
        "faces_not_found": sum(int((row[kind][:, 0] == NOBODY).sum()) for row in rows for kind in kinds),
        "inversion_seconds_median": round(float(torch.stack([row["seconds"] for row in rows]).median()), 1),
        "workers": args.workers,
        "sheet": str(saved),
    }
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
