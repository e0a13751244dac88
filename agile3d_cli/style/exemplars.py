"""Folder -> checked exemplar set: first stage of the flow exemplars -> style.

In: a folder of pictures. Out: pictures at the portrait framing with the hash and size of each file, and a sentence
about everything in the folder that was left out or had to be guessed.
Source: AgileGAN3D (arXiv 2303.14297), about 20 unpaired exemplars a style.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.errors import PhotoError
from agile3d_cli.face.align import align_face
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.face.landmarks import Landmarks
from agile3d_cli.face.warp import scale, warp
from agile3d_cli.image import read_photo
from agile3d_cli.safefile import file_sha256
from agile3d_cli.style.layout import middle_square, usual_crop
from agile3d_cli.style.points import POINTS, face_of, read_points
from agile3d_cli.style.remarks import MANY, Remarks

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
TERMS = "LICENSE.txt"
"""The terms of the pictures. With ``points.POINTS`` the only other file that belongs into the folder."""
FOUND, POINTED, ALIKE, MIDDLE = "found", "points.json", "like others", "middle"
"""How a face was placed: by the detector, by the user, like other pictures, or by nobody: the middle was taken."""
SMALLEST = 32
"""Pictures with a smaller side than this show nothing, pixels."""
MANY_SIZE = 256
"""Side at which more than ``MANY`` pictures are kept, so that memory suffices, pixels."""


@dataclass(frozen=True)
class Exemplar:
    """One picture of the style."""

    path: Path
    image: Tensor
    """(3, S, S) in [-1, 1] at the portrait framing."""
    sha256: str
    size: tuple[int, int]
    """Width and height of the file's picture, pixels."""
    face: str
    """``FOUND``, ``POINTED``, ``ALIKE`` or ``MIDDLE``."""
    side: float
    """Side of the portrait in the file's picture, pixels."""
    angles: tuple[float, float] | None
    """Yaw and pitch of the head, degrees; None where no face was found."""


@dataclass(frozen=True)
class ExemplarSet:
    """What a style is learned from."""

    exemplars: tuple[Exemplar, ...]
    notes: tuple[str, ...]
    """Sentences about what was left out, and about what was guessed."""
    warnings: tuple[str, ...] = ()
    """Those of them that cast doubt on the set."""
    points: str | None = None
    """SHA-256 of ``points.json``, where there is one."""

    @property
    def images(self) -> list[Tensor]:
        """Aligned pictures, each (3, S, S)."""
        return [exemplar.image for exemplar in self.exemplars]

    def card(self) -> list[dict[str, object]]:
        """Hash and size of each, for the bundle; never the pictures."""
        return [{"sha256": e.sha256, "size": list(e.size)} for e in self.exemplars]


def read_exemplars(folder: Path, framing: str) -> ExemplarSet:
    """Reads, aligns and checks the pictures of a folder, in the order of their names.

    A picture without a face that is found is cut like the others of its size where those agree, else it is taken as
    framed already; what ``points.json`` says goes before either, see ``points.py``. What cannot be used is left out
    with a note; one usable picture is enough.

    Args:
        folder: pictures of the style.
        framing: ``BaseModel.framing`` of the generator the style is learnt for.

    Raises:
        PhotoError: none of the files can be used.
        RefusedError: ``points.json`` is not what it should be.
    """
    points = read_points(folder)
    remarks = Remarks()
    paths = _pictures(folder, remarks)
    config = FaceConfig(size=MANY_SIZE if len(paths) > MANY else FaceConfig.size, matte=False, template=framing)
    remarks.unknown = sorted(set(points) - {path.name for path in paths})
    found = _look_for_faces(paths, config, points, remarks)
    if not found:
        raise PhotoError(
            f"{folder} holds no picture that a style can be learnt from; put about 20 PNG or JPEG pictures of faces "
            f"into it. {remarks.summary()}".strip()
        )
    kept = []
    for one in found:
        if one.face is not None:
            image, crop, how = one.face.image, one.face.crop, POINTED if one.path.name in points else FOUND
        else:
            image, crop, how = _without_face(one, found, config, remarks)
        angles = (one.face.yaw, one.face.pitch) if one.face else None
        kept.append(Exemplar(one.path, image, file_sha256(one.path), one.size, how, scale(crop), angles))
    told = file_sha256(folder / POINTS) if points else None
    return ExemplarSet(tuple(kept), tuple(remarks.sentences()), tuple(remarks.warnings()), told)


def as_batch(exemplars: ExemplarSet, size: int) -> Tensor:
    """All exemplars at one size, (N, 3, size, size)."""
    rows = [
        torch.nn.functional.interpolate(image[None], (size, size), mode="bilinear", antialias=True, align_corners=False)
        for image in exemplars.images
    ]
    return torch.cat(rows)


def _pictures(folder: Path, remarks: Remarks) -> list[Path]:
    """Files that may be pictures by their names; the rest goes to the remarks."""
    pictures = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            remarks.hidden.append(path.name)
        elif path.is_dir():
            remarks.folders.append(path.name)
        elif path.suffix.lower() in SUFFIXES:
            pictures.append(path)
        elif path.name not in (TERMS, POINTS):
            remarks.others.append(path.name)
    return pictures


@dataclass(frozen=True)
class _Face:
    """The part of an aligned face that is kept."""

    image: Tensor
    """(3, S, S) in [-1, 1]."""
    crop: np.ndarray
    """Its similarity (2, 3)."""
    yaw: float
    pitch: float
    """Degrees."""


@dataclass(frozen=True)
class _Found:
    """A usable picture, and what was found in it."""

    path: Path
    size: tuple[int, int]
    face: _Face | None
    """The largest face, or the one that the user points at."""


def _look_for_faces(
    paths: list[Path], config: FaceConfig, points: Mapping[str, np.ndarray], remarks: Remarks
) -> list[_Found]:
    found: list[_Found] = []
    first_with: dict[str, str] = {}
    for path in paths:
        try:
            pixels = read_photo(path)
        except PhotoError as error:
            remarks.left_out(path.name, str(error))
            continue
        height, width = pixels.shape[:2]
        same = first_with.setdefault(_digest(pixels), path.name)
        if min(width, height) < SMALLEST:
            remarks.left_out(path.name, f"it has {width} x {height} pixels; {SMALLEST} a side are the least.")
        elif same != path.name:
            remarks.left_out(path.name, f"it is the same picture as {same}.")
        else:
            given = face_of(path.name, points, (width, height), path.parent)
            faces = find_faces(pixels, config) if given is None else [given]
            remarks.picture(path, pixels, len(faces))
            found.append(_Found(path, (width, height), _aligned(pixels, faces[0], config) if faces else None))
    return found


def _aligned(pixels: np.ndarray, landmarks: Landmarks, config: FaceConfig) -> _Face:
    face = align_face(pixels, landmarks, config)
    return _Face(face.image, face.crop, face.yaw, face.pitch)


def _without_face(
    one: _Found, found: list[_Found], config: FaceConfig, remarks: Remarks
) -> tuple[Tensor, np.ndarray, str]:
    """The portrait (3, S, S) of a picture without a face, not enlarged, where it lies, and how that was guessed."""
    crop = usual_crop([other.face.crop for other in found if other.face is not None and other.size == one.size])
    (remarks.faceless if crop is None else remarks.alike).append(one.path.name)
    how, crop = (MIDDLE, middle_square(one.size)) if crop is None else (ALIKE, crop)
    side = max(SMALLEST, min(round(scale(crop)), config.size))
    return warp(read_photo(one.path), crop, side) / 127.5 - 1, crop, how


def _digest(pixels: np.ndarray) -> str:
    """Tells pictures apart, whatever file format they are in."""
    return hashlib.sha256(f"{pixels.shape}".encode() + pixels.tobytes()).hexdigest()
