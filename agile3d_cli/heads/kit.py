"""The CC0 MakeHuman head kit: meshes that ride on the base mesh, and their textures.

In: the folder with ``parts.npz`` and the texture folders (see docs/mini.md for where it comes from). Out: ``Kit``.
Textures are linear-light float arrays (H, W, 3 or 4) in [0, 1] with row 0 at v = 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from agile3d_cli.errors import MissingError

DECIMETRE = 0.26646644948546583
"""World units of one unit of the base mesh at its default size: the scale of the kit's offsets."""
TEXTURE_SIZE = 512


@dataclass(frozen=True)
class Part:
    """A mesh given by references to base vertices: position = sum of three weighted vertices + offset."""

    references: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    face_uvs: np.ndarray

    def vertices(self, base: np.ndarray, spread: float = 1.0) -> np.ndarray:
        """Vertices (N, 3) on a subject's base mesh (V, 3); ``spread`` scales the offsets."""
        return (base[self.references] * self.weights[..., None]).sum(1) + self.offsets * (DECIMETRE * spread)


class Kit:
    """Parts and textures, read on demand and kept."""

    def __init__(self, folder: Path):
        if not (folder / "parts.npz").is_file():
            raise MissingError(f"{folder} holds no parts.npz; give the folder of the MakeHuman head kit.")
        self.folder = folder
        self._textures: dict[str, np.ndarray] = {}

    @cached_property
    def parts(self) -> dict[str, Part]:
        """All parts by 'category/name'."""
        with np.load(self.folder / "parts.npz") as stored:
            names = sorted({key.rsplit("/", 1)[0] for key in stored.files})
            return {
                name: Part(*(stored[f"{name}/{field}"] for field in ("ref", "w", "off", "uv", "f", "fuv")))
                for name in names
            }

    @cached_property
    def skins(self) -> dict[str, np.ndarray]:
        """Skin textures by name, 512 px."""
        names = sorted(p.stem for p in (self.folder / "skins").glob("*.png"))
        return {name: self.texture(f"skins/{name}.png")[..., :3] for name in names}

    def texture(self, name: str) -> np.ndarray:
        """Texture (512, 512, 3 or 4) float32, colour linear, alpha as stored."""
        if name not in self._textures:
            with Image.open(self.folder / name) as stored:
                mode = "RGBA" if stored.mode in ("RGBA", "LA", "P", "PA") else "RGB"
                image = stored.convert(mode).resize((TEXTURE_SIZE, TEXTURE_SIZE), Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.float32) / 255
            pixels = np.concatenate([pixels[..., :3] ** 2.2, pixels[..., 3:]], -1)
            self._textures[name] = pixels
        return self._textures[name]

    def softened(self, name: str, width: float) -> np.ndarray:
        """``texture`` with opacity filtered by a Gaussian of ``width`` texels, brought back to a largest of 1."""
        key = f"{name}~{width}"
        if key not in self._textures:
            pixels = self.texture(name).copy()
            opacity = gaussian_filter(pixels[..., 3], width)
            pixels[..., 3] = opacity / opacity.max()
            self._textures[key] = pixels
        return self._textures[key]


def sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear look-up at texture coordinates (N, 2), v up -> (N, C)."""
    height, width = texture.shape[:2]
    x = np.clip(uv[:, 0] % 1.0 * width - 0.5, 0, width - 1.001)
    y = np.clip((1 - uv[:, 1] % 1.0) * height - 0.5, 0, height - 1.001)
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[:, None], (x - j)[:, None]
    top = texture[i, j] * (1 - fx) + texture[i, j + 1] * fx
    bottom = texture[i + 1, j] * (1 - fx) + texture[i + 1, j + 1] * fx
    return top * (1 - fy) + bottom * fy
