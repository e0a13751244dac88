"""Parameters + template + kit -> one head that can be looked at from any camera with exact colour and depth.

The pieces (skin, eyes, brows, lashes, teeth, hair) are one triangle soup with a piece number per triangle; light,
ambient occlusion and soft shadow are computed once per vertex, colours per hit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agile3d_cli import camera
from agile3d_cli.heads.appearance import SkinPainter, eye_texture, hair_colours
from agile3d_cli.heads.kit import Kit, Part, sample
from agile3d_cli.heads.masks import Masks
from agile3d_cli.heads.parameters import Parameters, parameters
from agile3d_cli.heads.raycast import Scene
from agile3d_cli.heads.template import Template

OCCLUSION_RAYS = 16
OCCLUSION_REACH = 0.25
SHADOW_RAYS = 5
ALPHA = {"hair": 0.35, "brows": 0.6}
"""Opacity from which a texel of a piece counts as solid; 0.5 for the others."""
FACE_WINDOW = 0.135
"""Half-width of the arch kept free of hair in front of the face."""


@dataclass(frozen=True)
class View:
    """One picture: ``image`` (S, S, 3) sRGB in [0, 1] on black, ``alpha`` (S, S), ``depth`` (S, S) along the ray."""

    image: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _Piece:
    name: str
    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    """(F, 3, 2) texture coordinates per corner."""
    texture: np.ndarray | None


class Subject:
    """A head made from z (Z_DIM,)."""

    def __init__(self, z: np.ndarray, template: Template, kit: Kit, masks: Masks):
        self.p: Parameters = parameters(z)
        self.template, self.kit, self.masks = template, kit, masks
        self.base = template.vertices(self.p.shape, self.p.expression)
        self._pieces = self._assemble()
        self._join()
        self._light()
        self._skin = SkinPainter(self.p, kit)

    def _assemble(self) -> list[_Piece]:
        p, t = self.p, self.template
        pieces = [_Piece("skin", self.base, t.faces, t.uvs[t.face_uvs], None)]
        pieces.append(self._kit_piece("eyes", "eyes/low-poly", eye_texture(self.kit, p.eye_colour)))
        pieces.append(self._kit_piece("teeth", "teeth/teeth_base", self.kit.texture("teeth/teeth_base.png")))
        brow = f"eyebrow{p.brow_style + 1:03d}"
        pieces.append(self._kit_piece("brows", f"eyebrows/{brow}", self.kit.texture(f"eyebrows/{brow}.png")))
        if p.male < 0.6:
            texture = self.kit.texture("eyelashes/eyelashes01.png")
            pieces.append(self._kit_piece("lashes", "eyelashes/eyelashes01", texture))
        if p.hair_style not in ("buzz", "bald"):
            texture = self.kit.texture(f"hair/{p.hair_style}.png")
            pieces.append(self._kit_piece("hair", f"hair/{p.hair_style}", texture, p.hair_volume, p.hair_mirrored))
        return pieces

    def _kit_piece(
        self, name: str, key: str, texture: np.ndarray, spread: float = 1.0, mirrored: bool = False
    ) -> _Piece:
        part: Part = self.kit.parts[key]
        vertices, faces, face_uvs = part.vertices(self.base, spread), part.faces, part.face_uvs
        if mirrored:
            vertices = vertices * [-1, 1, 1]
            faces, face_uvs = faces[:, ::-1], face_uvs[:, ::-1]
        if name == "hair":
            keep = ~self._cut(vertices[faces].mean(1))
            faces, face_uvs = faces[keep], face_uvs[keep]
        return _Piece(name, vertices, faces, part.uvs[face_uvs], texture)

    def _join(self) -> None:
        starts = np.cumsum([0] + [len(p.vertices) for p in self._pieces])
        self.vertices = np.concatenate([p.vertices for p in self._pieces])
        self.faces = np.concatenate([p.faces + s for p, s in zip(self._pieces, starts[:-1], strict=True)])
        self.uvs = np.concatenate([p.uvs for p in self._pieces])
        self.piece = np.repeat(np.arange(len(self._pieces)), [len(p.faces) for p in self._pieces])
        self.normals = np.concatenate([vertex_normals(p.vertices, p.faces) for p in self._pieces])
        self.scene = Scene(self.vertices[self.faces])
        self._names = [p.name for p in self._pieces]

    def _light(self) -> None:
        """Ambient occlusion and key-light visibility per vertex, each in [0, 1]."""
        rng = np.random.default_rng(0)
        used = np.unique(self.faces)
        used = used[self.vertices[used, 1] > -0.56]
        v, n = self.vertices[used], self.normals[used]
        around = rng.normal(size=(OCCLUSION_RAYS, 3))
        around /= np.linalg.norm(around, axis=1, keepdims=True)
        direction = n[:, None] + 0.97 * around
        direction /= np.linalg.norm(direction, axis=2, keepdims=True)
        origin = np.repeat((v + 0.004 * n)[:, None], OCCLUSION_RAYS, 1)
        reach = self.scene.distances(origin.reshape(-1, 3), direction.reshape(-1, 3)).reshape(len(v), -1)
        self.occlusion = np.ones(len(self.vertices))
        self.occlusion[used] = np.clip(reach / OCCLUSION_REACH, 0, 1).mean(1)
        lit = np.zeros(len(v))
        for _ in range(SHADOW_RAYS):
            towards = self.p.light + 0.18 * rng.normal(size=3)
            towards /= np.linalg.norm(towards)
            rays = np.broadcast_to(towards, v.shape)
            lit += self.scene.distances(v + 0.006 * n, rays) > 2
        self.shadow = np.ones(len(self.vertices))
        self.shadow[used] = lit / SHADOW_RAYS

    def render(self, label: torch.Tensor, size: int) -> View:
        """Looks at the head with the camera of a label (25,)."""
        origin, direction = camera.rays(label[None].double(), size, size)
        origins, directions = origin[0].numpy(), direction[0].numpy()
        hits = self.scene.first_hits(origins, directions, self._opaque)
        seen = np.nonzero(hits.face >= 0)[0]
        position = origins[seen] + directions[seen] * hits.distance[seen, None]
        colour = self._shade(hits.face[seen], hits.barycentric[seen], position)
        image, alpha = np.zeros((size * size, 3), np.float32), np.zeros(size * size, np.float32)
        image[seen], alpha[seen] = colour, 1
        shape = (size, size)
        return View(image.reshape(*shape, 3), alpha.reshape(shape), hits.distance.reshape(shape).astype(np.float32))

    def _opaque(self, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        solid = np.ones(len(face), bool)
        for number, piece in enumerate(self._pieces):
            if piece.texture is None or piece.texture.shape[2] == 3:
                continue
            mine = self.piece[face] == number
            uv = (self.uvs[face[mine]] * weights[mine][..., None]).sum(1)
            solid[mine] = sample(piece.texture[..., 3:], uv)[:, 0] > ALPHA.get(piece.name, 0.5)
        return solid

    def _cut(self, position: np.ndarray) -> np.ndarray:
        """Where hair is cut away: below its bottom, and under an arch in front of the face."""
        x, y, z = position.T
        arch = self.p.fringe - 2.5 * np.clip(np.abs(x) - 0.06, 0, None) ** 2
        window = (np.abs(x) < FACE_WINDOW) & (z > 0.1) & (y < arch)
        return (y < self.p.hair_bottom) | window

    def _shade(self, face: np.ndarray, weights: np.ndarray, position: np.ndarray) -> np.ndarray:
        p, w = self.p, weights[..., None]
        corners = self.faces[face]
        normal = (self.normals[corners] * w).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        occlusion = (self.occlusion[corners] * weights).sum(1)
        shadow = (self.shadow[corners] * weights).sum(1)
        albedo, gloss = self._albedo(face, weights, normal, position)
        is_skin = self.piece[face] == 0
        facing = normal @ p.light
        wrap = np.where(is_skin, 0.3, 0.15)
        diffuse = np.clip((facing + wrap) / (1 + wrap), 0, 1) * (0.3 + 0.7 * shadow)
        bleed = np.where(is_skin[:, None], np.array([1.0, 0.88, 0.84]), 1.0) ** (4 * diffuse * (1 - diffuse))[:, None]
        sky = (0.78 + 0.22 * normal[:, 1]) * (0.2 + 0.8 * occlusion**1.2)
        key_colour = np.array([1 + p.warmth, 1, 1 - p.warmth])
        light = p.ambient * sky[:, None] + (1.4 - p.ambient) * diffuse[:, None] * key_colour * bleed
        half = p.light + np.array([0, 0, 1.0])
        half /= np.linalg.norm(half)
        sheen = np.clip(normal @ half, 0, 1) ** 18 * gloss * shadow * occlusion
        linear = p.brightness * (albedo * light + sheen[:, None])
        return np.clip(linear, 0, 1) ** (1 / 2.2)

    def _albedo(
        self, face: np.ndarray, weights: np.ndarray, normal: np.ndarray, position: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        albedo, gloss = np.zeros((len(face), 3)), np.zeros(len(face))
        uv = (self.uvs[face] * weights[..., None]).sum(1)
        for number, piece in enumerate(self._pieces):
            mine = self.piece[face] == number
            if not mine.any():
                continue
            if piece.name == "skin":
                mask = self.masks.at(self.faces[face[mine]], weights[mine])
                albedo[mine], gloss[mine] = self._skin.paint(uv[mine], mask)
                continue
            assert piece.texture is not None
            texel = sample(piece.texture, uv[mine])[:, :3]
            if piece.name == "hair":
                albedo[mine], gloss[mine] = hair_colours(texel, piece.texture, self.p.hair_colour), 0.05
            elif piece.name == "brows":
                albedo[mine] = self.p.hair_colour * (0.9 - 0.55 * self.p.brow_darkness)
            elif piece.name == "lashes":
                albedo[mine] = 0.012
            elif piece.name == "eyes":
                albedo[mine], gloss[mine] = texel, 0.1
            else:
                albedo[mine], gloss[mine] = texel * 0.9, 0.1
        return albedo, gloss


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, k], cross[:, axis], len(vertices))
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12)
