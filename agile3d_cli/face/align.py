"""Photo and landmarks to the aligned face: crop, wider picture, person mask, camera label.

In: a photo and one face's landmarks. Out: ``AlignedFace``. The framing is EG3D's: pivot in the centre, head upright,
``camera.FOCAL``; see ``pose`` for how crop and camera are made to agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.camera import angles
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import Landmarks
from agile3d_cli.face.matte import person_matte
from agile3d_cli.face.pose import solve_pose
from agile3d_cli.face.warp import inside, to_crop, to_photo, warp, zoom_out


@dataclass(frozen=True)
class AlignedFace:
    """A face as the standard portrait camera sees it, and that camera."""

    image: Tensor
    """(3, S, S) in [-1, 1]: the crop, focal length ``camera.FOCAL``."""
    wide: Tensor
    """(3, S, S) in [-1, 1]: the same camera with focal ``FOCAL * config.wide``; the photo's edge continues outside."""
    matte: Tensor
    """(1, S, S) in [0, 1]: how much of each pixel of ``wide`` is the person."""
    valid: Tensor
    """(1, S, S): 1 where ``wide`` lies inside the photo."""
    label: Tensor
    """(25,) camera of ``image``; ``camera.with_focal(label, FOCAL * config.wide)`` is that of ``wide``."""
    landmarks: np.ndarray
    """(468, 3), or (5, 3): places in ``image`` as fractions (u right, v down), z in the same unit."""
    yaw: float
    """Degrees, direction in which the camera looks at the head; positive shows the sitter's left side."""
    pitch: float
    """Degrees, positive looks from above."""
    roll: float
    """Degrees by which the head was turned clockwise in the photo; the crop is upright."""
    crop: np.ndarray
    """(2, 3): takes fractions of ``image`` to photo pixels."""
    error: float
    """How far the standard face misses the landmarks, root mean square in crop fractions; below 0.02 is usual."""


def align_face(photo: np.ndarray, landmarks: Landmarks, config: FaceConfig | None = None) -> AlignedFace:
    """Cuts the standard portrait of one face out of a photo (H, W, 3) uint8."""
    config = config or FaceConfig()
    pose = solve_pose(landmarks.points, config.template)
    beyond = zoom_out(pose.crop, config.wide)
    image = warp(photo, pose.crop, config.size) / 127.5 - 1
    wide = warp(photo, beyond, config.size) / 127.5 - 1
    label = pose.label
    yaw, pitch, _ = angles(label)
    return AlignedFace(
        image=image,
        wide=wide,
        matte=_matte(wide, pose.crop, beyond, config),
        valid=inside(photo, beyond, config.size),
        label=label,
        landmarks=to_crop(pose.crop, landmarks.points).astype(np.float32),
        yaw=math.degrees(yaw),
        pitch=math.degrees(pitch),
        roll=math.degrees(math.atan2(pose.crop[1, 0], pose.crop[0, 0])),
        crop=pose.crop,
        error=pose.error,
    )


def _matte(wide: Tensor, crop: np.ndarray, beyond: np.ndarray, config: FaceConfig) -> Tensor:
    if not config.matte:
        return torch.ones(1, config.size, config.size)
    middle = to_crop(beyond, to_photo(crop, np.array([[0.5, 0.5]])))[0]
    return person_matte(wide, middle, config)
