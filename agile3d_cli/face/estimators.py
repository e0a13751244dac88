"""Who finds the landmarks: a name in a table, so that other estimators stand beside the shipped one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agile3d_cli.errors import MissingError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import Landmarks, mesh_landmarks


@dataclass(frozen=True)
class Estimator:
    """One way to find faces and their landmarks."""

    name: str
    summary: str
    license: str
    find: Callable[[np.ndarray, FaceConfig], list[Landmarks]]
    """Photo (H, W, 3) uint8 to landmarks, largest face first."""


ESTIMATORS = {
    estimator.name: estimator
    for estimator in (
        Estimator("mesh", "BlazeFace and the 468-point face mesh, shipped", "Apache-2.0", mesh_landmarks),
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
