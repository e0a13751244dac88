"""Likeness in a gallery: whose photo does each avatar find first?

    python -m benchmarks.gallery [--photos FOLDER] [--count 20] [--style cartoon]

Makes the portraits of ``--count`` photos and ranks each among the embeddings of all photos of the folder
(``identity_rank`` of scores.py): from the photo's camera, from 25 degrees to either side, and from the photo's camera
without what is painted (``latent_alone``: what a style lives on). Prints one JSON document and writes two sheets into
the git-ignored reports folder: photo, portrait, latent alone and side views of each person, and the first ``TURNED``
people at five yaws above the normals of their surface. Chance is 1 / folder for top-1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

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
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.registry import find_file
from agile3d_cli.scores import identity_rank

CELL = 256
SIDE = np.deg2rad(25.0)
TURNED, YAWS = 8, (-60.0, -30.0, 0.0, 30.0, 60.0)
"""People on the sheet of yaws, and the yaws in degrees."""
PHOTOS = Path(__file__).parents[1] / "../shared/assets/photos-london-smiling"
"""102 people of the Face Research Lab London Set, where it lies beside the repository."""


def _likeness(portraits: torch.Tensor, photos: torch.Tensor, own: list[int]) -> dict[str, float]:
    """Rank and distances; ``portraits`` holds the same number of views of each chosen photo, one after another."""
    numbers = torch.tensor(own).repeat_interleave(len(portraits) // len(own))
    rank = identity_rank(portraits, photos, numbers)
    distances = (portraits - photos[numbers]).norm(dim=1)
    return {"top1": rank.top1, "top5": rank.top5, "identity_median": float(distances.median())}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=PHOTOS, help="folder of photos of different people, one each")
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--style", default="cartoon", help="none for the unstylized heads")
    parser.add_argument("--refine", type=int, default=ApplyConfig.refine)
    parser.add_argument("--identity", type=float, default=ApplyConfig.identity)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("reports"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    base = load_base("mini")
    style = None if args.style == "none" else open_style(read_style(find_file(args.style, "style")), base)
    config = FaceConfig(template=base.framing)
    paths = sorted(args.photos.glob("*.jpg"))
    chosen = [round(k * (len(paths) - 1) / max(args.count - 1, 1)) for k in range(min(args.count, len(paths)))]
    photos = torch.cat([photo_embedding(load_face(path, config)[0]) for path in paths])
    found: dict[str, list[torch.Tensor]] = {"front": [], "side": [], "latent_alone": []}
    rows: list[np.ndarray] = []
    turned: list[np.ndarray] = []
    started, unseen = time.perf_counter(), 0
    for number in chosen:
        path = paths[number]
        face, _ = load_face(path, config)
        latent = invert(face, base, InvertConfig(paint_steps=args.refine), config.wide, lambda share: None)
        head = build_head(latent, base, style, args.identity, 1.0, 1.0)
        bare = build_head(replace(latent, paint=None), base, style, args.identity, 1.0, 1.0)
        yaw = np.deg2rad(face.yaw)
        sides = [camera.portrait_label(yaw + side, np.deg2rad(face.pitch)) for side in (-SIDE, SIDE)]
        wide = camera.portrait_label(0.9, 0.0, camera.FOCAL * 0.62)
        views = head.render(torch.stack([face.label, *sides, wide]), CELL, 1.0).image
        plain = bare.render(face.label[None], CELL, 1.0).image[0]
        for name, image in zip(("front", "side", "side", "latent_alone"), (*views[:3], plain), strict=True):
            code = embedding(image, None)
            # A portrait in which no face is found must not count as anyone's.
            unseen += code is None
            found[name].append(code if code is not None else torch.full((1, 128), 1e3))
        photo = F.interpolate(face.image[None], (CELL, CELL), mode="area")[0]
        rows.append(to_array(torch.cat([photo, views[0], plain, views[2], views[3]], 2)))
        if len(turned) < TURNED:
            turned.append(_turned(head))
        sys.stderr.write(f"{path.name}: distance {float((found['front'][-1] - photos[number]).norm()):.3f}\n")
    half = (len(rows) + 1) // 2
    rows += [np.full_like(rows[0], 255)] * (2 * half - len(rows))
    sheet = np.concatenate([np.concatenate(rows[:half]), np.concatenate(rows[half:])], 1)
    saved = save_png(args.out / f"gallery-{Path(args.style).stem}.png", sheet)
    save_png(args.out / f"gallery-{Path(args.style).stem}-turned.png", np.concatenate(turned))
    facts = {
        "photos": len(chosen),
        "gallery": len(photos),
        "style": args.style,
        **{name: _likeness(torch.cat(codes), photos, chosen) for name, codes in found.items()},
        "faces_not_found": unseen,
        "seconds_per_photo": round((time.perf_counter() - started) / max(len(chosen), 1), 1),
        "threads": args.threads,
        "sheet": str(saved),
    }
    sys.stdout.write(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
