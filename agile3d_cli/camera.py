"""Cameras: the one home of every geometric convention in the project.

World: y up, the face looks along +z, the head lies inside the cube [-0.5, 0.5]^3. One world unit is
``METRES_PER_UNIT`` metres (the BFM unit of 10 cm times 0.27).
Camera: x right, y down, z forward, given as a camera-to-world 4x4.
Label: 25 numbers = 16 of the camera-to-world matrix, row-major, + 9 of the intrinsics, row-major and divided by the
image size (so the centre is 0.5 whatever the size). Pixel centres lie at (i + 0.5) / size.
Angles: yaw > 0 moves the camera towards +x (the sitter's left side comes into view), pitch > 0 moves it up, roll > 0
turns the picture's content clockwise. Radians in code, degrees in reports.

Source: EG3D (Chan et al., CVPR 2022), section 4 and supplement; the published label convention.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FOCAL = 4.2647
"""Focal length of the standard portrait camera as a fraction of the image size."""
RADIUS = 2.7
"""Distance of the standard camera from the world origin, world units."""
PIVOT = (0.0, 0.0, 0.2)
"""Point the standard cameras look at, world units."""
METRES_PER_UNIT = 0.1 / 0.27
"""Size of one world unit in metres."""

FIVE_POINTS = (
    (-0.31149, 0.29036, 0.13378),
    (0.30980, 0.28972, 0.13180),
    (0.00325, -0.04618, 0.55244),
    (-0.25217, -0.38134, 0.22406),
    (0.24847, -0.38128, 0.22236),
)
"""Eye, eye, nose tip, mouth corner, mouth corner of the standard face in decimetres (Deep3DFaceRecon's alignment)."""
FIVE_POINTS_SCALE = 0.27
FIVE_POINTS_SHIFT = (0.0, 0.006, 0.161)


def five_points_world() -> Tensor:
    """The five alignment points of the standard face in world units, (5, 3)."""
    return torch.tensor(FIVE_POINTS) * FIVE_POINTS_SCALE + torch.tensor(FIVE_POINTS_SHIFT)


def look_at(yaw: float, pitch: float, radius: float = RADIUS, pivot: tuple[float, float, float] = PIVOT) -> Tensor:
    """Camera-to-world of a camera on the sphere around the origin that looks at ``pivot``.

    Args:
        yaw: radians, 0 is in front of the face, positive towards +x.
        pitch: radians, positive above the face.
        radius: distance from the origin, world units.
        pivot: point in the centre of the picture, world units.

    Returns:
        (4, 4) float32.
    """
    origin = radius * torch.tensor(
        [math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)], dtype=torch.float64
    )
    forward = torch.nn.functional.normalize(torch.tensor(pivot, dtype=torch.float64) - origin, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0]).double()), dim=0)
    down = torch.linalg.cross(forward, right)
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = right, down, forward, origin
    return matrix.float()


def intrinsics(focal: float = FOCAL) -> Tensor:
    """Normalised intrinsics (3, 3) with the principal point in the centre of the picture."""
    return torch.tensor([[focal, 0.0, 0.5], [0.0, focal, 0.5], [0.0, 0.0, 1.0]])


def make_label(camera_to_world: Tensor, intrinsic: Tensor | None = None) -> Tensor:
    """Packs (4, 4) and (3, 3) into the 25-number label."""
    matrix = intrinsics() if intrinsic is None else intrinsic
    return torch.cat([camera_to_world.reshape(16), matrix.reshape(9).to(camera_to_world)])


def split_label(label: Tensor) -> tuple[Tensor, Tensor]:
    """Unpacks labels (..., 25) into camera-to-world (..., 4, 4) and intrinsics (..., 3, 3)."""
    return label[..., :16].reshape(*label.shape[:-1], 4, 4), label[..., 16:].reshape(*label.shape[:-1], 3, 3)


def portrait_label(yaw: float = 0.0, pitch: float = 0.0, focal: float = FOCAL) -> Tensor:
    """Label of the standard camera at the given angles; a smaller ``focal`` shows more around the face."""
    return make_label(look_at(yaw, pitch), intrinsics(focal))


def flip_label(label: Tensor) -> Tensor:
    """Label of the mirrored picture (left and right exchanged), same shape."""
    flipped = label.clone()
    flipped[..., [1, 2, 3, 4, 8]] *= -1
    return flipped


def with_focal(label: Tensor, focal: float) -> Tensor:
    """The same camera with another focal length: smaller shows more around the face."""
    changed = label.clone()
    changed[..., [16, 20]] = focal
    return changed


def angles(label: Tensor) -> tuple[float, float, float]:
    """Yaw, pitch and roll in radians of one label (25,): the direction in which the camera looks at the head.

    Yaw and pitch follow the viewing direction, not the position, so a camera that is shifted sideways but looks
    straight ahead has yaw 0.
    """
    rotation = split_label(label)[0][:3, :3].double()
    back = -rotation[:, 2]
    yaw = math.atan2(float(back[0]), float(back[2]))
    pitch = math.atan2(float(back[1]), math.hypot(float(back[0]), float(back[2])))
    level_right = torch.tensor([math.cos(yaw), 0.0, -math.sin(yaw)], dtype=torch.float64)
    level_down = torch.linalg.cross(rotation[:, 2], level_right)
    right = rotation[:, 0]
    # The picture's content turns against the camera.
    roll = -math.atan2(float(right @ level_down), float(right @ level_right))
    return yaw, pitch, roll


def rays(label: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rays through the pixel centres of each label.

    Args:
        label: (N, 25).
        height: rows of the picture, which spans [0, 1] vertically whatever its size.
        width: columns.

    Returns:
        Origins and unit directions, each (N, height * width, 3), row-major.
    """
    camera, intrinsic = split_label(label)
    v = (torch.arange(height, device=label.device, dtype=label.dtype) + 0.5) / height
    u = (torch.arange(width, device=label.device, dtype=label.dtype) + 0.5) / width
    grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
    pixel = torch.stack([grid_u, grid_v], -1).reshape(1, -1, 2)
    return rays_through(camera, intrinsic, pixel.expand(label.shape[0], -1, -1))


def rays_through(camera: Tensor, intrinsic: Tensor, pixel: Tensor) -> tuple[Tensor, Tensor]:
    """Rays through given picture positions: ``pixel`` (N, R, 2) as fractions of the picture (u right, v down)."""
    fx, fy = intrinsic[:, 0, 0, None], intrinsic[:, 1, 1, None]
    cx, cy, skew = intrinsic[:, 0, 2, None], intrinsic[:, 1, 2, None], intrinsic[:, 0, 1, None]
    y = (pixel[..., 1] - cy) / fy
    x = (pixel[..., 0] - cx - skew * y) / fx
    direction = torch.stack([x, y, torch.ones_like(x)], -1) @ camera[:, :3, :3].transpose(1, 2)
    direction = torch.nn.functional.normalize(direction, dim=-1)
    origin = camera[:, None, :3, 3].expand_as(direction)
    return origin, direction


def project(label: Tensor, points: Tensor) -> Tensor:
    """World points to picture positions.

    Args:
        label: (N, 25).
        points: (N, P, 3) world units.

    Returns:
        (N, P, 3): u right, v down, as fractions of the picture, and depth along the optical axis.
    """
    camera, intrinsic = split_label(label)
    local = (points - camera[:, None, :3, 3]) @ camera[:, :3, :3]
    image = local @ intrinsic.transpose(1, 2)
    return torch.cat([image[..., :2] / image[..., 2:], local[..., 2:]], -1)
