"""Faces + stylizer -> stylized pictures with camera and real pair: the style prior of AgileGAN3D.

In: a fitted stylizer, the base generator, and real photos if there are any. Out: rows in shards on disk, see
``shards.py``, so an interrupted run goes on; and what of them is worth learning from, see ``filters.py``. Faces of the
generator have an exact camera and a latent, which renders the exact real pair; photos have the camera that was
estimated for them, the paper's route, and no latent.
Source: AgileGAN3D (arXiv 2303.14297), style prior creation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from agile3d_cli.errors import PhotoError
from agile3d_cli.style.config import FilterConfig
from agile3d_cli.style.faces import GeneratorFaces
from agile3d_cli.style.filters import counts, judge
from agile3d_cli.style.measure import Moved, measure_pair
from agile3d_cli.style.photos import Photo, align_photo, photo_key
from agile3d_cli.style.shards import Made, Rows, Shard, ShardSet, StoredRows, stored_rows
from agile3d_cli.stylizer import Progress, Stylizer

SHARD = 10
"""Rows that are stylized at once and stored together."""
NO_FACE = "no face"
"""Reason of rows that are not stored at all: the face of either picture is not found."""


@dataclass(frozen=True)
class Pairs:
    """N stylized faces of the generator with what they were made from."""

    z: Tensor
    """(N, z_dim)."""
    labels: Tensor
    """(N, 25)."""
    stylized: Rows
    """(N, 3, S, S) in [-1, 1], half precision."""
    alphas: Rows
    """(N, 1, S, S) coverage of the real pair, half precision."""
    moved: Tensor
    """(N, 468, 2) landmarks of the stylized picture minus those of the real one, crop fractions."""

    def __len__(self) -> int:
        return len(self.z)


@dataclass(frozen=True)
class PhotoPairs:
    """N stylized photos. They have no latent, so they show shapes, and no colours are learnt from them."""

    labels: Tensor
    """(N, 25) estimated cameras of the photos, kept for their stylized versions."""
    real: StoredRows
    """(N, 3, S, S) in [-1, 1], half precision."""
    stylized: StoredRows
    """The same."""
    moved: Tensor
    """(N, 468, 2), as in ``Pairs``."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Harvest:
    """What became of the rows."""

    made: int
    kept: int
    dropped: Mapping[str, int]
    """Rows left out, by reason."""


def make_pairs(
    faces: GeneratorFaces,
    stylizer: Stylizer,
    count: int,
    folder: Path,
    recipe: Mapping[str, Any],
    seed: int,
    progress: Progress,
    filters: FilterConfig | None = None,
) -> tuple[Pairs, Harvest]:
    """Stylizes ``count`` sampled faces; shards that are in ``folder`` already and can be trusted are taken as they are.

    Raises:
        PhotoError: nothing worth learning from is left.
    """
    stored = ShardSet(folder, recipe)
    total = (count + SHARD - 1) // SHARD
    shards = []
    for number in range(total):
        chance = torch.Generator().manual_seed(seed * 1_000_003 + number)
        shards.append(stored.shard(number, lambda chance=chance: _shard(faces, stylizer, chance)))  # type: ignore[misc]
        progress("stylized faces", (number + 1) / total)
    if not any(shard.rows for shard in shards):
        raise PhotoError(
            f"No face was found in any of the {total * SHARD} pictures that the stylizer drew; "
            "choose clearer exemplars or another --stylizer."
        )
    kept, harvest = _sift(shards, filters or FilterConfig())
    if not harvest.kept:
        raise PhotoError(
            f"None of the {harvest.made} pictures that the stylizer drew can be used ({_told(harvest)}); "
            "choose clearer exemplars or another --stylizer."
        )
    pairs = Pairs(
        z=_all(shards, "z")[kept],
        labels=_all(shards, "labels")[kept],
        stylized=stored_rows(shards, "stylized", kept.tolist()),
        alphas=stored_rows(shards, "alphas", kept.tolist()),
        moved=_all(shards, "moved")[kept],
    )
    return pairs, harvest


def make_photo_pairs(
    photos: Sequence[Photo],
    stylizer: Stylizer,
    size: int,
    framing: str,
    folder: Path,
    recipe: Mapping[str, Any],
    progress: Progress,
    filters: FilterConfig | None = None,
) -> tuple[PhotoPairs, Harvest]:
    """Stylizes real photos; like ``make_pairs``. Photos that join a folder add shards to it.

    Raises:
        PhotoError: nothing worth learning from is left.
    """
    stored = ShardSet(folder, recipe)
    shards = []
    for number, start in enumerate(range(0, len(photos), SHARD)):
        some = photos[start : start + SHARD]
        key = [photo_key(photo) for photo in some]
        make = lambda some=some: _photo_shard(some, stylizer, size, framing)  # noqa: E731
        shards.append(stored.shard(number, make, key))
        progress("stylized photos", min(1.0, (start + SHARD) / len(photos)))
    kept, harvest = _sift(shards, filters or FilterConfig())
    if not harvest.kept:
        raise PhotoError(
            f"None of the {harvest.made} photos can be used ({_told(harvest)}); "
            "use photos where one face is large, lit and seen from the front, or leave --photos away."
        )
    pairs = PhotoPairs(
        labels=_all(shards, "labels")[kept],
        real=stored_rows(shards, "real", kept.tolist()),
        stylized=stored_rows(shards, "stylized", kept.tolist()),
        moved=_all(shards, "moved")[kept],
    )
    return pairs, harvest


def _shard(faces: GeneratorFaces, stylizer: Stylizer, rng: torch.Generator) -> Made:
    known = faces.draw(SHARD, rng)
    stylized = stylizer.stylize(known.images)
    kept, measures = _measured(known.images, stylized)
    tensors = {
        "z": known.z[kept],
        "labels": known.labels[kept],
        "stylized": stylized[kept].half(),
        "alphas": known.alphas[kept].half(),
    }
    return Made(tensors | measures, {"dropped": {NO_FACE: SHARD - len(kept)}})


def _photo_shard(photos: Sequence[Photo], stylizer: Stylizer, size: int, framing: str) -> Made:
    found = [align_photo(photo, size, framing) for photo in photos]
    faces = [face for face in found if not isinstance(face, str)]
    reasons = Counter(face for face in found if isinstance(face, str))
    real = torch.stack([face.image for face in faces]) if faces else torch.zeros(0, 3, size, size)
    labels = torch.stack([face.label for face in faces]) if faces else torch.zeros(0, 25)
    stylized = stylizer.stylize(real)
    kept, measures = _measured(real, stylized)
    reasons[NO_FACE] += len(faces) - len(kept)
    tensors = {"labels": labels[kept], "real": real[kept].half(), "stylized": stylized[kept].half()}
    return Made(tensors | measures, {"dropped": dict(reasons)})


def _measured(real: Tensor, stylized: Tensor) -> tuple[list[int], dict[str, Tensor]]:
    """Rows with a face in both pictures, and their measures."""
    found: dict[int, Moved] = {}
    for number, (one, two) in enumerate(zip(real, stylized, strict=True)):
        measures = measure_pair(one, two)
        if measures is not None:
            found[number] = measures
    rows = list(found.values())
    empty = {"moved": torch.zeros(0, 468, 2), "identity": torch.zeros(0), "look": torch.zeros(0, 384)}
    if not rows:
        return [], empty
    return list(found), {
        "moved": torch.stack([row.landmarks for row in rows]),
        "identity": torch.stack([row.identity for row in rows]),
        "look": torch.stack([row.look for row in rows]),
    }


def _sift(shards: Sequence[Shard], filters: FilterConfig) -> tuple[Tensor, Harvest]:
    """Which stored rows are kept, (N,) bool, and what became of all."""
    reasons = judge(_all(shards, "moved"), _all(shards, "identity"), _all(shards, "look"), filters)
    kept = ~torch.stack(list(reasons.values())).any(0)
    missing: Counter[str] = Counter({NO_FACE: 0})
    for shard in shards:
        missing.update(shard.facts["dropped"])
    made = len(kept) + sum(missing.values())
    return kept, Harvest(made, int(kept.sum()), {**missing, **counts(reasons)})


def _told(harvest: Harvest) -> str:
    return ", ".join(f"{count} for {reason}" for reason, count in harvest.dropped.items() if count)


def _all(shards: Sequence[Shard], name: str) -> Tensor:
    return torch.cat([shard.tensor(name) for shard in shards])
