"""Where the 468 landmarks lie on the mean head: found by our own detector on our own pictures of it.

The mean head is rendered in many skins and hair styles from a few angles; each landmark is carried back onto the mesh
by its ray, and the median over the pictures in which it faces the camera is kept.
"""

from __future__ import annotations

import numpy as np
import torch

from agile3d_cli import camera
from agile3d_cli.errors import NoFaceError
from agile3d_cli.face.config import FaceConfig
from agile3d_cli.face.landmarks import mesh_landmarks
from agile3d_cli.face.template import face_template
from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.masks import build_masks
from agile3d_cli.heads.parameters import LAYOUT, Z_DIM
from agile3d_cli.heads.subject import Subject
from agile3d_cli.heads.template import Template

PEOPLE = 24
VIEWS = ((0.0, 0.0), (0.4, 0.0), (-0.4, 0.0), (0.0, 0.2))
SIZE = 384
FACING = 0.35
"""Least cosine between surface and camera for a landmark to count in a picture."""
NEUTRAL = -12.0
"""Expression coordinates at which every expression is off."""


def mean_head_landmarks(template: Template, kit: Kit) -> np.ndarray:
    """(468, 3) positions in world units on the mean head, mirror-symmetric."""
    masks = build_masks(template, kit)
    found: list[list[np.ndarray]] = [[] for _ in range(468)]
    for person in range(PEOPLE):
        subject = Subject(_mean_latent(person), template, kit, masks)
        for yaw, pitch in VIEWS:
            _collect(subject, camera.portrait_label(yaw, pitch), found)
    if min(len(rows) for rows in found) == 0:
        raise NoFaceError("Some landmarks were never seen on the mean head; render it in more light.")
    points = np.stack([np.median(rows, 0) for rows in found])
    return (points + points[face_template().mirror] * [-1, 1, 1]) / 2


def _mean_latent(person: int) -> np.ndarray:
    z = np.random.default_rng([468, person]).normal(size=Z_DIM)
    start = 0
    for name, size in LAYOUT:
        block = slice(start, start + size)
        if name == "shape":
            z[block] = 0
        elif name == "expression":
            z[block] = NEUTRAL
        elif name == "light":
            z[block] = 0.3 * z[block]
        start += size
    return z


def _collect(subject: Subject, label: torch.Tensor, found: list[list[np.ndarray]]) -> None:
    view = subject.render(label, SIZE)
    picture = ((view.image + (1 - view.alpha[..., None]) * 0.6) * 255).astype(np.uint8)
    faces = mesh_landmarks(picture, FaceConfig())
    if not faces:
        return
    place = torch.from_numpy(faces[0].points[:, :2] / SIZE).double()[None]
    matrix, intrinsic = camera.split_label(label[None].double())
    origin, direction = (rays[0].numpy() for rays in camera.rays_through(matrix, intrinsic, place))
    hits = subject.scene.first_hits(origin, direction)
    for k in np.nonzero(hits.face >= 0)[0]:
        if subject.piece[hits.face[k]] > 1:
            continue
        corners = subject.faces[hits.face[k]]
        normal = (subject.normals[corners] * hits.barycentric[k][:, None]).sum(0)
        if -(normal @ direction[k]) > FACING * np.linalg.norm(normal):
            found[k].append(origin[k] + direction[k] * hits.distance[k])
