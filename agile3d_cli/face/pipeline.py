"""Photo to aligned face in one call: ``load_face``.

In: a photo's path or pixels. Out: the aligned face and notes for the user.
"""

from __future__ import annotations

import os

import numpy as np

from agile3d_cli.errors import NoFaceError
from agile3d_cli.face.align import AlignedFace, align_face
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.estimators import find_faces
from agile3d_cli.image import read_photo

DOUBTFUL_ERROR = {468: 0.03, 5: 0.06}
"""Landmark misses above this are worth a note, crop fractions, by the number of landmarks."""
SMALL_FACE = 64
"""Crops with fewer photo pixels than this per side are worth a note."""
SIDE_VIEW = 40.0
"""Yaw above this is worth a note, degrees."""


def load_face(
    photo: str | os.PathLike[str] | np.ndarray, config: FaceConfig | None = None, face_index: int = 0
) -> tuple[AlignedFace, list[str]]:
    """Reads a photo, finds its faces and aligns one.

    Args:
        photo: path, or pixels (H, W, 3) uint8.
        config: settings.
        face_index: which face, 0 is the largest.

    Returns:
        The aligned face, and sentences for the user about anything unusual.

    Raises:
        PhotoError: the file cannot be read as a photo.
        NoFaceError: there is no face, or none with that number.
    """
    config = config or FaceConfig()
    name = "the photo" if isinstance(photo, np.ndarray) else str(photo)
    pixels = photo if isinstance(photo, np.ndarray) else read_photo(photo)
    faces = find_faces(pixels, config)
    if not faces:
        raise NoFaceError(
            f"No face was found in {name}; use a photo where one face is large, lit and seen from the front."
        )
    if not 0 <= face_index < len(faces):
        raise NoFaceError(
            f"There is no face {face_index} in {name}, which shows {len(faces)}; count from 0, the largest."
        )
    aligned = align_face(pixels, faces[face_index], config)
    return aligned, _notes(aligned, len(faces), face_index)


def _notes(face: AlignedFace, count: int, index: int) -> list[str]:
    notes = []
    if count > 1:
        which = "the largest" if index == 0 else f"number {index}"
        notes.append(f"The photo shows {count} faces; {which} was taken, --face N takes another.")
    side = float(np.hypot(face.crop[0, 0], face.crop[1, 0]))
    if side < SMALL_FACE:
        notes.append(f"The face is small ({side:.0f} pixels across its crop); details will be missing.")
    if abs(face.yaw) > SIDE_VIEW:
        notes.append(f"The head is turned by {abs(face.yaw):.0f} degrees; the far side is guessed.")
    if face.error > DOUBTFUL_ERROR[len(face.landmarks)]:
        notes.append("The landmarks fit a face badly, so the camera is doubtful.")
    return notes
