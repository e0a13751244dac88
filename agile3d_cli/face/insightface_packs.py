"""Landmarks by the insightface model packs that a user has put on this machine. Nothing is ever downloaded.

In: a photo. Out: five landmarks per face, which is enough for pose and crop. The packs allow non-commercial use only
unless their owner has bought other terms.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import Landmarks, make_landmarks
from agile3d_cli.registry import home

PREFERRED = ("buffalo_l", "antelopev2", "buffalo_m", "buffalo_s")
"""Packs in the order in which one is chosen; others follow by name."""
TASKS = ["detection", "landmark_3d_68"]
EYES = ((36, 39), (42, 45))
"""Corners of the eyes among the 68 points."""
NOSE, MOUTH = 30, (48, 54)


def pack_landmarks(photo: np.ndarray, config: FaceConfig) -> list[Landmarks]:
    """Five landmarks of every face in a photo (H, W, 3) uint8, largest first.

    Raises:
        MissingError: there is no pack, or insightface is not installed.
        RefusedError: insightface cannot use the pack.
    """
    analysis = _open(find_pack(), config.detection_threshold)
    faces = [
        make_landmarks(_five(face), float(face.det_score))
        for face in analysis.get(np.ascontiguousarray(photo[..., ::-1]))
    ]
    return sorted(faces, key=lambda face: -(face.box[2] - face.box[0]) * (face.box[3] - face.box[1]))


def find_pack() -> Path:
    """The folder of the model pack that will be used."""
    places = (home() / "models" / "insightface", Path.home() / ".insightface" / "models")
    for place in places:
        packs = sorted(folder for folder in place.glob("*") if any(folder.glob("*.onnx")))
        if packs:
            return min(packs, key=lambda pack: PREFERRED.index(pack.name) if pack.name in PREFERRED else len(PREFERRED))
    raise MissingError(
        f"There is no insightface model pack in {places[0]} or {places[1]}; unpack one (such as buffalo_l, whose terms "
        "are non-commercial) into a folder there, or leave out --pose insightface."
    )


@cache
def _open(pack: Path, threshold: float) -> Any:
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise MissingError("The package insightface is not installed; install it with pip.") from error
    try:
        # A folder instead of a pack's name: insightface then has no reason to look for it on the network.
        analysis = FaceAnalysis(name=str(pack), allowed_modules=TASKS, providers=["CPUExecutionProvider"])
        analysis.prepare(ctx_id=-1, det_thresh=threshold)
    except Exception as error:
        reason = f" ({error})" if str(error) else ""
        raise RefusedError(f"insightface cannot use the model pack {pack}{reason}; unpack it again.") from error
    return analysis


def _five(face: Any) -> np.ndarray:
    """(5, 3) of one insightface result: from its 68 points where the pack has them, else the detector's five."""
    if face.landmark_3d_68 is not None:
        points = np.asarray(face.landmark_3d_68, float)
        eyes = [points[list(corners)].mean(0) for corners in EYES]
        return np.stack([*eyes, points[NOSE], points[MOUTH[0]], points[MOUTH[1]]])
    return np.column_stack([np.asarray(face.kps, float), np.zeros(5)])
