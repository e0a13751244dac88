"""Faces + stylizer -> stylized pictures with camera and real pair: the style prior of AgileGAN3D.

In: the base generator and a fitted stylizer. Out: shards of pairs in a folder, so an interrupted run goes on, and the
pairs in memory. Pictures that the stylizer moved or could not find a face in are left out.
Source: AgileGAN3D (arXiv 2303.14297), style prior creation.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from agile3d_cli.errors import PhotoError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.image import to_array
from agile3d_cli.style.faces import GeneratorFaces
from agile3d_cli.stylizer import Progress, Stylizer

SHARD = 10


@dataclass(frozen=True)
class Pairs:
    """N stylized pictures with what they were made from."""

    z: Tensor
    """(N, z_dim)."""
    labels: Tensor
    """(N, 25)."""
    stylized: Tensor
    """(N, 3, S, S) in [-1, 1], half precision."""
    alphas: Tensor
    """(N, 1, S, S) coverage of the real pair, half precision."""
    moved: Tensor
    """(N, 468, 2) landmarks of the stylized picture minus those of the real one, crop fractions."""

    def __len__(self) -> int:
        return len(self.z)


def make_pairs(
    faces: GeneratorFaces, stylizer: Stylizer, count: int, folder: Path, seed: int, progress: Progress
) -> Pairs:
    """Stylizes ``count`` sampled faces; shards that are in ``folder`` already are taken as they are.

    Raises:
        PhotoError: no face is found in any of the stylized pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    total = (count + SHARD - 1) // SHARD
    for number in range(total):
        path = folder / f"pairs-{number:04d}.safetensors"
        if not path.exists():
            shard = _shard(faces, stylizer, torch.Generator().manual_seed(seed * 1_000_003 + number))
            temporary = path.with_suffix(".part")
            save_file(shard, temporary)
            os.replace(temporary, path)
        shards.append(load_file(path))
        progress("stylized faces", (number + 1) / total)
    if not any(len(shard["z"]) for shard in shards):
        raise PhotoError(
            f"No face was found in any of the {total * SHARD} pictures that the stylizer drew; "
            "choose clearer exemplars or another --stylizer."
        )
    names = ("z", "labels", "stylized", "alphas", "moved")
    return Pairs(*(torch.cat([shard[name] for shard in shards]) for name in names))


def _shard(faces: GeneratorFaces, stylizer: Stylizer, rng: torch.Generator) -> dict[str, Tensor]:
    known = faces.draw(SHARD, rng)
    stylized = stylizer.stylize(known.images)
    kept, moved = [], []
    for k in range(SHARD):
        # Both pictures are measured by the same detector, so that its own bias cancels.
        real, drawn = _landmarks(known.images[k]), _landmarks(stylized[k])
        if real is not None and drawn is not None:
            kept.append(k)
            moved.append(drawn - real)
    moved_stack = torch.stack(moved) if moved else torch.zeros(0, 468, 2)
    return {
        "z": known.z[kept].contiguous(),
        "labels": known.labels[kept].contiguous(),
        "stylized": stylized[kept].half().contiguous(),
        "alphas": known.alphas[kept].half().contiguous(),
        "moved": moved_stack,
    }


def _landmarks(image: Tensor) -> Tensor | None:
    faces = find_faces(to_array(image), FaceConfig())
    if not faces or len(faces[0].points) != 468:
        return None
    return torch.from_numpy(faces[0].points[:, :2]) / image.shape[-1]
