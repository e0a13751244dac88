"""Parameters + template + kit -> one head that can be looked at from any camera with exact colour and depth.

The pieces (skin, eyes, brows, lashes, teeth, hair) are one triangle soup with a piece number per triangle; light,
ambient occlusion and soft shadow are computed once per vertex, colours per hit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from agile3d_cli import camera
from agile3d_cli.heads.appearance import DRESSED, HAIRY, SkinPainter, eye_texture, hair_colours, iris, skin_tone
from agile3d_cli.heads.glasses import frames
from agile3d_cli.heads.headwear import HIDDEN, depth_under, shell
from agile3d_cli.heads.kit import Kit, Part, sample
from agile3d_cli.heads.masks import Masks
from agile3d_cli.heads.parameters import BROWS, Parameters, parameters
from agile3d_cli.heads.parts import PARTS
from agile3d_cli.heads.raycast import Scene
from agile3d_cli.heads.template import Template

OCCLUSION_RAYS = 16
OCCLUSION_REACH = 0.25
SHADOW_RAYS = 5
ALPHA = {"hair": 0.35, "brows": 0.36, "lashes": 0.5}
"""Opacity from which a texel of a piece counts as solid; 0.5 for the others."""
SOFT = {"brows": 7.0, "lashes": 8.0}
"""Width of the filter over these pieces' opacity, texels: single hairs are thinner than anything that a small generator
can hold, and were learnt as a broad black bar."""
FULL_BROW = 0.6
"""Softened opacity from which no skin shows between the hairs of a brow."""
LASHES_SPREAD = 0.45
"""Lashes are shortened to a dark line: single hairs are thinner than anything a small generator can hold."""
SHINE = {"eyes": (160.0, 0.6)}
"""Exponent and strength of the sheen where they differ from skin's."""
FACE_WINDOW = 0.135
"""Half-width of the arch kept free of hair in front of the face."""


@dataclass(frozen=True)
class View:
    """One picture: ``image`` (S, S, 3) sRGB in [0, 1] on black, ``alpha`` (S, S), ``depth`` (S, S) along the ray.

    ``part`` (S, S) uint8 holds 1 + the index into ``PARTS`` of what was hit, 0 for nothing.
    """

    image: np.ndarray
    alpha: np.ndarray
    depth: np.ndarray
    part: np.ndarray


@dataclass(frozen=True)
class _Piece:
    name: str
    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    """(F, 3, 2) texture coordinates per corner."""
    texture: np.ndarray | None
    shown: np.ndarray | None = None
    """(V,) the piece is there where this is positive; everywhere without it."""


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
        bare = HIDDEN - depth_under("scarf", t.mean) if p.headwear == "scarf" else None
        pieces = [_Piece("skin", self.base, t.faces, t.uvs[t.face_uvs], None, bare)]
        pieces.append(self._eyes())
        pieces.append(self._kit_piece("teeth", "teeth/teeth_base", self.kit.texture("teeth/teeth_base.png")))
        brow = f"eyebrow{BROWS[p.brow_style]:03d}"
        texture = self.kit.softened(f"eyebrows/{brow}.png", SOFT["brows"])
        pieces.append(self._kit_piece("brows", f"eyebrows/{brow}", texture))
        if p.male < 0.6:
            texture = self.kit.softened("eyelashes/eyelashes01.png", SOFT["lashes"])
            pieces.append(self._kit_piece("lashes", "eyelashes/eyelashes01", texture, LASHES_SPREAD))
        if p.hair_style not in ("buzz", "bald") and p.headwear != "scarf":
            texture = self.kit.texture(f"hair/{p.hair_style}.png")
            self._hair_mean = float(texture[texture[..., 3] > 0.5][:, :3].mean())
            pieces.append(self._kit_piece("hair", f"hair/{p.hair_style}", texture, p.hair_volume, p.hair_mirrored))
        if p.glasses:
            vertices, faces = frames(
                self._eye_fronts(pieces[1].vertices), self.base[np.unique(t.faces)], p.glasses_form
            )
            pieces.append(_Piece("glasses", vertices, faces, np.zeros((len(faces), 3, 2)), None))
        if p.headwear != "none":
            normals = vertex_normals(self.base, t.faces)
            vertices, faces, depth = shell(p.headwear, self.base, normals, t.mean, t.faces)
            pieces.append(_Piece("headwear", vertices, faces, np.zeros((len(faces), 3, 2)), None, depth))
        return pieces

    def _eyes(self) -> _Piece:
        """Both eyeballs, each turned about its own centre."""
        piece = self._kit_piece("eyes", "eyes/low-poly", eye_texture(self.kit, self.p.eye_colour, self.p.tone))
        right, up = self.p.gaze
        yaw = np.array([[np.cos(right), 0, np.sin(right)], [0, 1, 0], [-np.sin(right), 0, np.cos(right)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(up), np.sin(up)], [0, -np.sin(up), np.cos(up)]])
        vertices = piece.vertices.copy()
        for side in (-1, 1):
            mine = side * vertices[:, 0] > 0
            low, high = vertices[mine].min(0), vertices[mine].max(0)
            centre = (low + high) / 2
            centre[2] = high[2] - (high[0] - low[0]) / 2
            vertices[mine] = (vertices[mine] - centre) @ (yaw @ pitch).T + centre
        return _Piece(piece.name, vertices, piece.faces, piece.uvs, piece.texture)

    @staticmethod
    def _eye_fronts(vertices: np.ndarray) -> np.ndarray:
        """(2, 3): middle of each eyeball's outline at the depth of its foremost point."""
        fronts = []
        for side in (-1, 1):
            mine = vertices[side * vertices[:, 0] > 0]
            middle = (mine.min(0) + mine.max(0)) / 2
            fronts.append([middle[0], middle[1], mine[:, 2].max()])
        return np.array(fronts)

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
            if self.p.headwear == "beanie":
                around = part.vertices(self.template.mean.astype(float))
                keep &= depth_under("beanie", around)[part.faces].max(1) < -0.01
                keep &= around[part.faces][..., 2].max(1) < 0.08
            faces, face_uvs = faces[keep], face_uvs[keep]
        return _Piece(name, vertices, faces, part.uvs[face_uvs], texture)

    def _join(self) -> None:
        starts = np.cumsum([0] + [len(p.vertices) for p in self._pieces])
        self.vertices = np.concatenate([p.vertices for p in self._pieces])
        self.faces = np.concatenate([p.faces + s for p, s in zip(self._pieces, starts[:-1], strict=True)])
        self.uvs = np.concatenate([p.uvs for p in self._pieces])
        self.piece = np.repeat(np.arange(len(self._pieces)), [len(p.faces) for p in self._pieces])
        self._starts = starts[:-1]
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
        colour, shown = self._shade(hits.face[seen], hits.barycentric[seen])
        part = np.zeros(size * size, np.uint8)
        part[seen] = 1 + shown
        image, alpha = np.zeros((size * size, 3), np.float32), np.zeros(size * size, np.float32)
        image[seen], alpha[seen] = colour, 1
        shape = (size, size)
        depth = hits.distance.reshape(shape).astype(np.float32)
        return View(image.reshape(*shape, 3), alpha.reshape(shape), depth, part.reshape(shape))

    def _opaque(self, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
        solid = np.ones(len(face), bool)
        for number, piece in enumerate(self._pieces):
            if piece.shown is not None:
                mine = self.piece[face] == number
                corners = self.faces[face[mine]] - self._starts[number]
                solid[mine] = (piece.shown[corners] * weights[mine]).sum(1) > 0
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

    def _shade(self, face: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Colours (N, 3) and numbers of parts (N,) of hits."""
        p, w = self.p, weights[..., None]
        corners = self.faces[face]
        normal = (self.normals[corners] * w).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        occlusion = (self.occlusion[corners] * weights).sum(1)
        shadow = (self.shadow[corners] * weights).sum(1)
        albedo, gloss, part = self._albedo(face, weights)
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
        facing = np.clip(normal @ half, 0, 1)
        sheen = facing**18 * gloss * shadow * occlusion
        for name, (exponent, strength) in SHINE.items():
            mine = self.piece[face] == self._names.index(name)
            sheen[mine] = strength * facing[mine] ** exponent
        linear = p.brightness * (albedo * light + sheen[:, None])
        return np.clip(linear, 0, 1) ** (1 / 2.2), part

    def _albedo(self, face: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        albedo, gloss = np.zeros((len(face), 3)), np.zeros(len(face))
        part = np.array([PARTS.index(name) for name in self._names])[self.piece[face]]
        uv = (self.uvs[face] * weights[..., None]).sum(1)
        for number, piece in enumerate(self._pieces):
            mine = self.piece[face] == number
            if not mine.any():
                continue
            if piece.name == "skin":
                mask = self.masks.at(self.faces[face[mine]], weights[mine])
                albedo[mine], gloss[mine], shown = self._skin.paint(uv[mine], mask)
                named = {HAIRY: PARTS.index("painted_hair"), DRESSED: PARTS.index("cloth")}
                part[mine] = np.select([shown == k for k in named], list(named.values()), part[mine])
                continue
            if piece.texture is None:
                worn = self.p.glasses_colour if piece.name == "glasses" else self.p.headwear_colour
                albedo[mine], gloss[mine] = worn, 0.2 * (piece.name == "glasses")
                continue
            texel = sample(piece.texture, uv[mine])
            cover, texel = texel[:, 3:], texel[:, :3]
            if piece.name == "hair":
                albedo[mine], gloss[mine] = hair_colours(texel, self._hair_mean, self.p.hair_colour), 0.05
            elif piece.name == "brows":
                share = np.clip(cover / FULL_BROW, 0, 1)
                brow = self.p.hair_colour * (0.9 - 0.55 * self.p.brow_darkness)
                albedo[mine] = skin_tone(self.p.tone, self.p.redness) * (1 - share) + brow * share
            elif piece.name == "lashes":
                albedo[mine] = 0.012
            elif piece.name == "eyes":
                albedo[mine] = texel
                part[mine] = np.where(iris(uv[mine]), PARTS.index("iris"), part[mine])
            else:
                albedo[mine], gloss[mine] = texel * 0.9, 0.1
        return albedo, gloss, part


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals (V, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    cross = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for k in range(3):
        for axis in range(3):
            total[:, axis] += np.bincount(faces[:, k], cross[:, axis], len(vertices))
    return total / (np.linalg.norm(total, axis=1, keepdims=True) + 1e-12)
