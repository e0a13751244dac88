"""A texture shows the head's colours at the right places, and cutting the surface open leaves it closed in shape."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.export import export_head
from agile3d_cli.avatar.formula import EYE, HAIR, LIP, SKIN, FormulaHead
from agile3d_cli.avatar.mesh import Mesh, extract_mesh
from agile3d_cli.avatar.texture import _barycentric, _texels

pytest.importorskip("xatlas")
pytest.importorskip("fast_simplification")
SMALL = MeshConfig(resolution=96, faces=6000, texture=512)


@pytest.fixture(scope="module")
def model(head: FormulaHead) -> Mesh:
    return extract_mesh(head, SMALL)


def test_texels_of_a_triangle_are_those_whose_centres_it_holds() -> None:
    triangles = np.array([[[0, 0], [4, 0], [0, 4]], [[4, 0], [4, 4], [0, 4]], [[1, 1], [2, 2], [3, 3]]], float)
    found = np.full((4, 4), -1)
    for face, texel, weight in _texels(triangles, 4):
        centres = np.stack([texel % 4 + 0.5, texel // 4 + 0.5], 1)
        assert np.allclose((triangles[face] * weight[..., None]).sum(1), centres)
        found.reshape(-1)[texel] = face
    assert np.array_equal(found[0], [0, 0, 0, 1]) and (found >= 0).all() and (found < 2).all()
    assert (_barycentric(triangles[2:], np.array([[2.0, 2.0]])) < 0).all()


def test_texture_shows_the_colours_of_the_head(model: Mesh) -> None:
    assert model.uv is not None and model.texture is not None
    assert model.uv.min() >= 0 and model.uv.max() <= 1 and model.texture.shape == (512, 512, 3)
    corners = model.vertices[model.faces]
    for place, color in (((0, 0.39, -0.04), HAIR), ((0, -0.1, 0.225), LIP), ((0.084, 0.085, 0.175), EYE)):
        nearest = ((corners.mean(1) - place) ** 2).sum(1).argmin()
        # The colour where this place's triangle is drawn; triangles are about 0.015 wide.
        u, v = (model.uv[model.faces[nearest]] * 512).astype(int).clip(0, 511).T
        window = model.texture[v.min() : v.max() + 1, u.min() : u.max() + 1].reshape(-1, 3) / 255
        assert np.abs(window - color).max(1).min() < 0.03, (place, color)


def test_eyes_are_sharper_than_the_triangles(model: Mesh) -> None:
    assert model.texture is not None
    iris = np.abs(model.texture / 255.0 - EYE).max(-1) < 0.05
    corners = model.vertices[model.faces]
    eye = np.linalg.norm(corners.mean(1) - (0.084, 0.085, 0.175), axis=1) < 0.014
    assert iris.sum() > 3 * eye.sum()


def test_surface_stays_closed_in_shape(model: Mesh) -> None:
    assert model.watertight
    loaded = trimesh.Trimesh(model.vertices, model.faces, process=False)
    assert not loaded.is_watertight  # cut open along the seams
    loaded.merge_vertices(merge_tex=True, merge_norm=True)
    assert loaded.is_watertight and loaded.is_winding_consistent


def test_flat_cut_has_the_colour_of_its_rim(model: Mesh) -> None:
    assert model.uv is not None and model.texture is not None
    middle = model.vertices[model.faces].mean(1)
    cap = (middle[:, 1] < -0.4999) & (np.hypot(middle[:, 0], middle[:, 2] + 0.05) < 0.1)
    u, v = (model.uv[model.faces[cap]].mean(1) * 512).astype(int).T
    assert cap.any() and np.abs(model.texture[v, u] / 255 - SKIN).max() < 0.03


def test_same_head_gives_the_same_texture(head: FormulaHead, model: Mesh) -> None:
    again = extract_mesh(head, SMALL)
    assert np.array_equal(again.texture, model.texture) and np.array_equal(again.uv, model.uv)  # type: ignore[arg-type]


def test_files_with_a_texture(head: FormulaHead, tmp_path: Path) -> None:
    glb = export_head(head, "glb", tmp_path / "head.glb", mesh=SMALL)
    assert glb.texture == (512, 512) and glb.watertight
    data = glb.file.read_bytes()
    facts = json.loads(data[20 : 20 + int.from_bytes(data[12:16], "little")])
    assert set(facts["meshes"][0]["primitives"][0]["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    loaded = trimesh.load(glb.file, force="mesh")
    assert loaded.visual.material.baseColorTexture.size == (512, 512)

    obj = export_head(head, "obj", tmp_path / "ann.obj", mesh=SMALL)
    assert sorted(entry.name for entry in tmp_path.glob("ann*")) == ["ann.mtl", "ann.obj", "ann.png"]
    seen = trimesh.load(obj.file, force="mesh").visual
    top = trimesh.load(obj.file, force="mesh").vertices[:, 1].argmax()
    pixel = seen.material.image.getpixel((int(seen.uv[top, 0] * 511), int((1 - seen.uv[top, 1]) * 511)))
    assert np.abs(np.array(pixel[:3]) / 255 - HAIR).max() < 0.05

    assert export_head(head, "stl", tmp_path / "head.stl", mesh=SMALL).texture is None


def test_usdz_is_an_aligned_package_of_scene_and_picture(head: FormulaHead, tmp_path: Path) -> None:
    result = export_head(head, "usdz", tmp_path / "head.usdz", mesh=SMALL)
    assert result.texture == (512, 512) and result.watertight
    data = result.file.read_bytes()
    with zipfile.ZipFile(result.file) as package:
        assert [entry.filename for entry in package.infolist()] == ["head.usda", "head.png"]
        for entry in package.infolist():
            name, extra = struct.unpack_from("<HH", data, entry.header_offset + 26)
            assert entry.compress_type == zipfile.ZIP_STORED
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
        scene = package.read("head.usda").decode()
        with package.open("head.png") as picture, Image.open(picture) as image:
            assert image.size == (512, 512)
    points = re.search(r"point3f\[\] points = \[(.*)\]", scene)
    assert points and scene.count("{") == scene.count("}") and 'upAxis = "Y"' in scene
    rows = np.array([row.split(", ") for row in points[1][1:-1].split("), (")], float)
    assert len(rows) == result.vertices and rows[:, 1].min() == 0 and 0.3 < rows[:, 1].max() < 0.35
