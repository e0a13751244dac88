"""Folder -> checked exemplar set: first stage of the flow exemplars -> style.

In: a folder of pictures. Out: pictures at the portrait framing with the hash and size of each file.
Source: AgileGAN3D (arXiv 2303.14297), about 20 unpaired exemplars a style.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from agile3d_cli.errors import PhotoError
from agile3d_cli.face.align import align_face
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.image import read_photo
from agile3d_cli.safefile import file_sha256

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
FEWEST = 5
"""Fewer pictures than this do not show what a style has in common."""


@dataclass(frozen=True)
class Exemplar:
    """One picture of the style."""

    path: Path
    image: Tensor
    """(3, S, S) in [-1, 1] at the portrait framing."""
    sha256: str
    size: tuple[int, int]
    """Width and height of the file's picture, pixels."""


@dataclass(frozen=True)
class ExemplarSet:
    """What a style is learned from."""

    exemplars: tuple[Exemplar, ...]
    notes: tuple[str, ...]
    """Sentences about pictures that were left out."""

    @property
    def images(self) -> list[Tensor]:
        """Aligned pictures, each (3, S, S)."""
        return [exemplar.image for exemplar in self.exemplars]

    def card(self) -> list[dict[str, object]]:
        """Hash and size of each, for the bundle; never the pictures."""
        return [{"sha256": e.sha256, "size": list(e.size)} for e in self.exemplars]


def read_exemplars(folder: Path, framing: str) -> ExemplarSet:
    """Reads, aligns and checks the pictures of a folder, in the order of their names.

    Args:
        folder: pictures of the style.
        framing: ``BaseModel.framing`` of the generator the style is learnt for.

    Raises:
        PhotoError: too few of the pictures show a face.
    """
    config = FaceConfig(matte=False, template=framing)
    kept, notes = [], []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")):
        try:
            pixels = read_photo(path)
        except PhotoError as error:
            notes.append(f"{path.name} was left out: {error}")
            continue
        faces = find_faces(pixels, config)
        if not faces:
            notes.append(f"{path.name} was left out: no face was found in it.")
            continue
        image = align_face(pixels, faces[0], config).image
        kept.append(Exemplar(path, image, file_sha256(path), (pixels.shape[1], pixels.shape[0])))
    if len(kept) < FEWEST:
        raise PhotoError(
            f"{folder} holds {len(kept)} pictures with a face; a style needs at least {FEWEST}, about 20 are good."
        )
    return ExemplarSet(tuple(kept), tuple(notes))


def as_batch(exemplars: ExemplarSet, size: int) -> Tensor:
    """All exemplars at one size, (N, 3, size, size)."""
    rows = [
        torch.nn.functional.interpolate(image[None], (size, size), mode="bilinear", antialias=True, align_corners=False)
        for image in exemplars.images
    ]
    return torch.cat(rows)
