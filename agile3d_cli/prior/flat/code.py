"""Latent and camera <-> the flat code, which the small 2D generator takes in place of its z.

A code is about standard normal, as a StyleGAN's z should be: ``mini``'s latent over the spread that it is drawn with,
then two numbers for yaw and pitch, which are bent into angles by a hyperbolic tangent. Nothing else varies: focal
length, distance and pivot are those of the standard portrait camera.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.camera import PIVOT, RADIUS, intrinsics

YAW, PITCH = 0.72, 0.32
"""Angles that cameras come near to but never reach, radians."""
YAW_STEEPNESS, PITCH_STEEPNESS = 0.7, 0.45
"""At these, half of the cameras stand within 0.32 of yaw and 0.09 of pitch: the range in which styles are learnt."""
EDGE = 0.995
"""Share of the furthest angle that a code can still tell."""


def flat_code(z: Tensor, label: Tensor, spread: float) -> Tensor:
    """The code (N, z_dim + 2) of latents (N, z_dim), drawn with ``spread``, seen by cameras of labels (N, 25).

    Convention: z / spread, then yaw, then pitch; the angles are those of the camera's place on its sphere.
    """
    return torch.cat([z / spread, camera_code(label)], 1)


def camera_code(label: Tensor) -> Tensor:
    """Labels (N, 25) to the camera's two numbers (N, 2); angles beyond the range are brought to its edge."""
    x, y, z = label[:, 3], label[:, 7], label[:, 11]
    yaw, pitch = torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))
    shares = torch.stack([yaw / YAW, pitch / PITCH], 1).clamp(-EDGE, EDGE)
    return torch.atanh(shares) / _steepness(label)


def camera_angles(code: Tensor) -> tuple[Tensor, Tensor]:
    """The camera's numbers (N, 2) to yaw and pitch (N,), radians."""
    yaw, pitch = torch.tanh(code * _steepness(code)).unbind(1)
    return YAW * yaw, PITCH * pitch


def camera_labels(code: Tensor) -> Tensor:
    """The camera's numbers (N, 2) to labels (N, 25): ``camera.portrait_label`` of many angles at once."""
    yaw, pitch = camera_angles(code)
    origin = RADIUS * torch.stack([yaw.sin() * pitch.cos(), pitch.sin(), yaw.cos() * pitch.cos()], 1)
    forward = F.normalize(code.new_tensor(PIVOT) - origin, dim=1)
    up = code.new_tensor((0.0, 1.0, 0.0)).expand_as(forward)
    right = F.normalize(torch.linalg.cross(forward, up), dim=1)
    down = torch.linalg.cross(forward, right)
    upper = torch.stack([right, down, forward, origin], 2).flatten(1)
    fixed = torch.cat([code.new_tensor((0.0, 0.0, 0.0, 1.0)), intrinsics().reshape(9).to(code)])
    return torch.cat([upper, fixed.expand(len(code), -1)], 1)


def _steepness(like: Tensor) -> Tensor:
    return like.new_tensor((YAW_STEEPNESS, PITCH_STEEPNESS))
