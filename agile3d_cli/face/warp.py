"""Similarities of the picture plane, and pictures seen through them without aliasing.

Convention: a similarity is a (2, 3) float64 matrix that takes a position in the new picture, as fractions (u right,
v down, both 0 to 1 across the picture), to a position in the photo in continuous pixels (pixel centres at i + 0.5).
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def similarity(centre: np.ndarray, side: float, angle: float = 0.0) -> np.ndarray:
    """The square of the given centre and side (photo pixels), turned by ``angle`` (radians, clockwise in the photo)."""
    linear = side * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([linear, np.asarray(centre, float) - linear @ [0.5, 0.5]])


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The similarity that takes points ``source`` (P, 2) closest to ``target`` (P, 2) by weighted least squares."""
    weight = np.ones(len(source)) if weights is None else np.asarray(weights, float)
    weight = weight / weight.sum()
    mean_source, mean_target = weight @ source, weight @ target
    s = (source - mean_source) @ [1, 1j]
    t = (target - mean_target) @ [1, 1j]
    factor = (weight @ (t * s.conj())) / (weight @ (abs(s) ** 2))
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    return np.column_stack([linear, mean_target - linear @ mean_source])


def to_photo(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Positions in the new picture (fractions) to the photo (pixels): (P, 2) or (P, 3), a third number only scaled."""
    moved = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return np.column_stack([moved, points[:, 2:] * scale(matrix)])


def to_crop(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The inverse of ``to_photo``."""
    moved = (points[:, :2] - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    return np.column_stack([moved, points[:, 2:] / scale(matrix)])


def scale(matrix: np.ndarray) -> float:
    """Side of the new picture in photo pixels."""
    return float(math.hypot(matrix[0, 0], matrix[1, 0]))


def zoom_out(matrix: np.ndarray, factor: float) -> np.ndarray:
    """The square with the same centre and its side divided by ``factor``."""
    centre = to_photo(matrix, np.array([[0.5, 0.5]]))[0]
    return similarity(centre, scale(matrix) / factor, math.atan2(matrix[1, 0], matrix[0, 0]))


def warp(photo: np.ndarray, matrix: np.ndarray, size: int, outside: str = "border") -> Tensor:
    """The photo seen through a similarity.

    Args:
        photo: (H, W, 3) uint8.
        matrix: (2, 3).
        size: side of the new picture, pixels.
        outside: ``"border"`` continues the photo's edge pixels, ``"zeros"`` gives black.

    Returns:
        (3, size, size) in [0, 255].
    """
    height, width = photo.shape[:2]
    step = scale(matrix) / size
    corners = to_photo(matrix, np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    margin = 4 * max(step, 1.0)
    low = np.clip(np.floor(corners.min(0) - margin), 0, [width - 1, height - 1])
    high = np.clip(np.ceil(corners.max(0) + margin), low + 1, [width, height])
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    # Shrinking goes through an averaging filter first, so that one sample per new pixel is enough.
    columns, rows = (max(1, round(float(extent) / max(step, 1.0))) for extent in high - low)
    part = Image.fromarray(photo).resize((columns, rows), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    factor = np.array([columns, rows]) / (high - low)

    grid = _grid(matrix, size)
    grid = (grid - torch.from_numpy(low)) * torch.from_numpy(factor) / torch.tensor([columns, rows]) * 2 - 1
    source = torch.from_numpy(np.asarray(part).copy()).permute(2, 0, 1)[None].float()
    sampled = F.grid_sample(source, grid[None].float(), "bicubic", "border", align_corners=False)[0].clamp(0, 255)
    return sampled if outside == "border" else sampled * inside(photo, matrix, size)


def inside(photo: np.ndarray, matrix: np.ndarray, size: int) -> Tensor:
    """(1, size, size): 1 where the new picture lies inside the photo, else 0."""
    grid = _grid(matrix, size)
    height, width = photo.shape[:2]
    within = (grid[..., 0] >= 0) & (grid[..., 0] <= width) & (grid[..., 1] >= 0) & (grid[..., 1] <= height)
    return within[None].float()


def _grid(matrix: np.ndarray, size: int) -> Tensor:
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    v, u = torch.meshgrid(centres, centres, indexing="ij")
    linear = torch.from_numpy(matrix)
    return torch.stack([u, v], -1) @ linear[:, :2].T + linear[:, 2]
