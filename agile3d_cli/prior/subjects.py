"""Subjects -> shards of pictures with exact depth and cameras, resumable.

Each shard is one safetensors file of ``SHARD`` subjects; a shard that exists is not made again, so an interrupted run
goes on where it stopped, and several runs may share the work (``--part 0/2``).

    python -m agile3d_cli.prior.subjects --kit HEAD_KIT --out runs/heads --count 1500
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from agile3d_cli import camera
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import build_masks
from agile3d_cli.heads.parameters import Z_DIM
from agile3d_cli.heads.subject import Subject
from agile3d_cli.heads.template import build_template
from agile3d_cli.prior.config import CLOSE

SHARD = 50
TURNED, AROUND = 3, 5
"""Views a subject besides the close ones: turned to the sides; all round, back and top included."""
SIZE = 144
WIDE = 0.62
"""Focal length of the turned and all-round views relative to the portrait camera: the whole head fits in."""


def random_labels(rng: np.random.Generator) -> Tensor:
    """Cameras of one subject, (CLOSE + TURNED + AROUND, 25)."""
    labels = [camera.portrait_label(rng.normal(0, 0.35), rng.normal(0, 0.16)) for _ in range(CLOSE)]
    wide = camera.FOCAL * WIDE
    labels += [camera.portrait_label(rng.uniform(-1.4, 1.4), rng.normal(0, 0.2), wide) for _ in range(TURNED)]
    start = rng.uniform(0, 2 * np.pi)
    for k in range(AROUND):
        labels.append(camera.portrait_label(start + 2 * np.pi * k / AROUND, rng.uniform(-0.35, 0.75), wide))
    return torch.stack(labels)


def latent(index: int) -> np.ndarray:
    """The latent of a numbered subject (Z_DIM,), the same on every machine."""
    return np.random.default_rng([2303, index]).normal(size=Z_DIM)


def render_subject(subject: Subject, labels: Tensor, size: int) -> dict[str, Tensor]:
    """Pictures (V, S, S, 4) uint8 with alpha, depth (V, S, S) float16 along the ray, 0 for a miss, and part labels."""
    views = [subject.render(label, size) for label in labels]
    pixels = [np.concatenate([v.image, v.alpha[..., None]], -1) for v in views]
    return {
        "pixels": torch.from_numpy((np.stack(pixels) * 255 + 0.5).astype(np.uint8)),
        "depth": torch.from_numpy(np.stack([v.depth for v in views]).astype(np.float16)),
        "part": torch.from_numpy(np.stack([v.part for v in views])),
    }


def main() -> None:
    """Renders the shards this part is responsible for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kit", type=Path, required=True, help="folder of the MakeHuman head kit")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--count", type=int, default=1500, help="subjects in all")
    parser.add_argument("--part", default="0/1", help="i/n: make every n-th shard, starting with the i-th")
    args = parser.parse_args()
    part, parts = (int(x) for x in args.part.split("/"))
    args.out.mkdir(parents=True, exist_ok=True)
    template, kit = build_template(), Kit(args.kit)
    masks = build_masks(template, kit)
    for shard in range(part, (args.count + SHARD - 1) // SHARD, parts):
        target = args.out / f"heads-{shard:04d}.safetensors"
        if target.exists():
            continue
        rows = []
        for index in range(shard * SHARD, (shard + 1) * SHARD):
            z, labels = latent(index), random_labels(np.random.default_rng([97, index]))
            row = render_subject(Subject(z, template, kit, masks), labels, SIZE)
            rows.append(row | {"z": torch.from_numpy(z).float(), "labels": labels})
        temporary = target.with_suffix(".part")
        save_file({key: torch.stack([row[key] for row in rows]) for key in rows[0]}, temporary)
        os.replace(temporary, target)


if __name__ == "__main__":
    main()
