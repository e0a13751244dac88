"""Folder of real photos -> aligned faces with cameras, one at a time.

Cameras are estimated, or taken from a ``dataset.json`` in EG3D's layout where the folder has one; its pictures are cut
already.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.errors import PhotoError
from agile3d_cli.face.align import align_face
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.image import read_photo, to_tensor
from agile3d_cli.safefile import file_sha256
from agile3d_cli.style.eg3d_layout import read_layout
from agile3d_cli.style.exemplars import SUFFIXES


@dataclass(frozen=True)
class Photo:
    """One picture of a folder."""

    path: Path
    label: Tensor | None
    """(25,) its camera, where the folder says it; the picture is the crop then."""


@dataclass(frozen=True)
class PhotoFace:
    """A photo as the stylizer sees it."""

    image: Tensor
    """(3, S, S) in [-1, 1]."""
    label: Tensor
    """(25,)."""


def find_photos(folder: Path) -> list[Photo]:
    """The pictures of a folder in the order of their names, or of its ``dataset.json``.

    Raises:
        PhotoError: it holds none.
        RefusedError: its ``dataset.json`` is not what it should be.
    """
    known = read_layout(folder)
    if known is not None:
        return [Photo(path, label) for path, label in known]
    paths = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    ]
    if not paths:
        raise PhotoError(f"{folder} holds no photos; put PNG or JPEG photos of faces into it, or leave --photos away.")
    return [Photo(path, None) for path in paths]


def photo_key(photo: Photo) -> list[Any]:
    """Plain data that changes when the photo or its camera does."""
    return [file_sha256(photo.path), None if photo.label is None else photo.label.tolist()]


def align_photo(photo: Photo, size: int, framing: str) -> PhotoFace | str:
    """The largest face of a photo at the portrait framing and its camera, or the reason why there is none."""
    try:
        pixels = read_photo(photo.path)
    except PhotoError:
        return "unreadable"
    if photo.label is not None:
        return _as_it_is(pixels, photo.label, size)
    config = FaceConfig(size=size, matte=False, template=framing)
    faces = find_faces(pixels, config)
    if not faces:
        return "no face"
    face = align_face(pixels, faces[0], config)
    return PhotoFace(face.image, face.label)


def _as_it_is(pixels: np.ndarray, label: Tensor, size: int) -> PhotoFace | str:
    if pixels.shape[0] != pixels.shape[1]:
        return "not square"
    image = F.interpolate(to_tensor(pixels)[None], (size, size), mode="bilinear", antialias=True, align_corners=False)
    return PhotoFace(image[0], label)
