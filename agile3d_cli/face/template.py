"""Average faces: the 468 mesh points of a head in world units, read from the package once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
from safetensors.numpy import load_file

from agile3d_cli.face.config import TEMPLATES


@dataclass(frozen=True)
class FaceTemplate:
    """Average face in the world's frame; made by ``tools/make_face_template.py`` and ``make_mini_template.py``."""

    points: np.ndarray
    """(468, 3) float64, world units; the five alignment points of "standard" are ``camera.five_points_world``."""
    weights: np.ndarray
    """(468,) in (0, 1]: how much a point says about the pose; low where people and expressions differ."""
    mirror: np.ndarray
    """(468,) index of the point that each one becomes in a mirrored picture."""


@cache
def face_template(name: str = "standard") -> FaceTemplate:
    """The shipped template ``name``, one of ``config.TEMPLATES``."""
    with as_file(files("agile3d_cli") / "assets" / f"{TEMPLATES[name]}.safetensors") as path:
        tensors = load_file(path)
    return FaceTemplate(
        tensors["points"].astype(np.float64), tensors["weights"].astype(np.float64), tensors["mirror"].astype(np.int64)
    )
