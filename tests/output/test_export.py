"""Exported files: what other programs read from them is the head, upright, in metres, closed and in its colours."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from agile3d_cli.avatar.config import MeshConfig, ViewsConfig
from agile3d_cli.avatar.export import FORMATS, ExportResult, export_head, export_portrait, placed
from agile3d_cli.avatar.formula import HAIR, SKIN, FormulaHead
from agile3d_cli.avatar.glb import glb_bytes, linear
from agile3d_cli.avatar.mesh import Mesh
from agile3d_cli.avatar.views import can_write_mp4
from agile3d_cli.bundle import BaseReference, Portrait, StyleReference, write_portrait
from agile3d_cli.errors import MissingError, OutputError, UsageError
from agile3d_cli.licenses import LicenseNote

SMALL = MeshConfig(resolution=64)
FEW = ViewsConfig(frames=4, frame_size=32)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    note = LicenseNote("Fluent Emoji", "MIT", "made by somebody", True)
    style = StyleReference("cartoon", "ab" * 32)
    base = BaseReference("mini", "cd" * 32, {"kind": "triplane"})
    file = tmp_path / "portrait.safetensors"
    write_portrait(file, Portrait(torch.zeros(2, 4), torch.zeros(25), base, style, licenses=(note,)))
    return file


def export(portrait: Path, head: FormulaHead, format: str, output: Path | None = None) -> ExportResult:
    return export_portrait(
        portrait, format, output, mesh=SMALL, views=FEW, device="cpu", load=lambda path, device: head
    )


def document(data: bytes) -> dict[str, Any]:
    length, kind = struct.unpack_from("<II", data, 12)
    assert data[:4] == b"glTF" and kind == 0x4E4F534A
    return json.loads(data[20 : 20 + length])


@pytest.mark.parametrize("format", ["glb", "obj", "ply", "stl"])
def test_mesh_files_hold_the_closed_head_in_metres(portrait: Path, head: FormulaHead, format: str) -> None:
    result = export(portrait, head, format)
    assert result.file == portrait.with_suffix(f".{format}") and result.format == format
    loaded = trimesh.load(result.file, force="mesh")
    assert loaded.is_watertight and loaded.is_winding_consistent and loaded.volume > 0 and result.watertight
    assert len(loaded.faces) == result.faces
    low, high = loaded.bounds
    # Neck's cut at y = -0.5, crown at 0.393 world units; a unit is 0.1 / 0.27 metres. The soft edge adds 0.004 units.
    assert low[1] == pytest.approx(0, abs=1e-6) and high[1] == pytest.approx(0.893 * 0.1 / 0.27, abs=0.004)
    # The nose points to +z, and the neck's axis (z = -0.05) is the origin.
    assert high[2] == pytest.approx((0.305 + 0.05) * 0.1 / 0.27, abs=0.005) and high[2] > -low[2]
    cut = loaded.vertices[loaded.vertices[:, 1] < 1e-6]
    assert np.abs(cut.mean(0)[[0, 2]]).max() < 0.002


def test_standard_head_is_23_centimetres_high() -> None:
    from agile3d_cli.camera import METRES_PER_UNIT

    assert pytest.approx(0.23, abs=1e-4) == (0.39 + 0.231) * METRES_PER_UNIT


def test_glb_says_where_it_comes_from(portrait: Path, head: FormulaHead) -> None:
    result = export(portrait, head, "glb")
    facts = document(result.file.read_bytes())
    assert facts["asset"]["version"] == "2.0" and facts["asset"]["generator"].startswith("agile3d ")
    assert facts["asset"]["copyright"] == "MIT"
    extras = facts["asset"]["extras"]["agile3d"]
    assert extras["style"] == {"name": "cartoon", "sha256": "ab" * 32}
    assert extras["licenses"][0]["item"] == "Fluent Emoji"
    material = facts["materials"][0]
    assert material["pbrMetallicRoughness"] == {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    assert "KHR_materials_unlit" in material["extensions"]


def test_glb_colours_are_linear_and_ply_colours_are_not(tmp_path: Path, head: FormulaHead) -> None:
    # 0.5 in sRGB is 0.2140 of full light (IEC 61966-2-1).
    assert linear(np.array([0.0, 0.04045, 0.5, 1.0])) == pytest.approx([0, 0.0031308, 0.2140411, 1], abs=1e-6)
    for format, wanted in (("glb", linear(np.array(SKIN))), ("ply", np.array(SKIN))):
        file = export_head(head, format, tmp_path / f"head.{format}", mesh=SMALL).file
        (loaded,) = trimesh.load_scene(file).geometry.values()
        visual = loaded.visual
        colors = visual.vertex_attributes["color"] if format == "glb" else visual.vertex_colors / 255.0
        neck = np.abs(loaded.vertices[:, 1] - 0.05).argmin()
        assert np.abs(colors[neck, :3] - wanted).max() < 0.01


def test_same_head_gives_the_same_bytes(mesh: Mesh) -> None:
    assert glb_bytes(placed(mesh)) == glb_bytes(placed(mesh))


def test_glb_offsets_are_aligned_and_inside(mesh: Mesh) -> None:
    data = glb_bytes(placed(mesh), extras={"text": "Ä"})  # a name of odd length in bytes
    facts = document(data)
    assert struct.unpack_from("<I", data, 8)[0] == len(data) and len(data) % 4 == 0
    for view in facts["bufferViews"]:
        assert view["byteOffset"] % 4 == 0
        assert view["byteOffset"] + view["byteLength"] <= facts["buffers"][0]["byteLength"]
    assert facts["accessors"][0]["min"][1] == 0.0


def test_obj_carries_vertex_colours(tmp_path: Path, head: FormulaHead) -> None:
    file = export_head(head, "obj", tmp_path / "head.obj", mesh=SMALL).file
    rows = np.array([line.split()[1:] for line in file.read_text().splitlines() if line.startswith("v ")], float)
    top = rows[rows[:, 1].argmax()]
    assert rows.shape[1] == 6 and np.abs(top[3:] - HAIR).max() < 0.02


@pytest.mark.parametrize("format", ["gif", "webp", "mp4"])
def test_moving_pictures(portrait: Path, head: FormulaHead, tmp_path: Path, format: str) -> None:
    if format == "mp4" and not can_write_mp4():
        with pytest.raises(MissingError, match="agile3d\\[video\\]"):
            export(portrait, head, format)
        return
    result = export(portrait, head, format, tmp_path / "deep" / "turn.file")
    assert result.vertices is None and result.watertight is None and result.file.stat().st_size > 500
    if format != "mp4":
        with Image.open(result.file) as animation:
            assert animation.n_frames == 4


def test_origin_without_a_flat_cut_is_the_lowest_point(mesh: Mesh) -> None:
    # A ball-like head that ends in a tip: no faces lie in the lowest hundredth but those around it.
    vertices = np.array([[3, 2, 1], [4, 7, 1], [3, 7, 2], [2, 7, 0]], np.float32)
    tip = replace(mesh, vertices=vertices, faces=np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]], np.uint32))
    assert np.allclose(placed(tip).vertices[0], 0)


def test_unknown_format_lists_the_choices(portrait: Path, head: FormulaHead) -> None:
    with pytest.raises(UsageError) as refusal:
        export(portrait, head, "fbx")
    assert all(format in str(refusal.value) for format in FORMATS)


def test_missing_portrait_and_unwritable_place(portrait: Path, head: FormulaHead, tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        export(tmp_path / "none.safetensors", head, "glb")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        export(portrait, head, "ply", tmp_path / "file" / "head.ply")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "portrait.safetensors"]


def test_progress_names_its_stages(head: FormulaHead, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    export_head(head, "stl", tmp_path / "a.stl", mesh=SMALL, progress=lambda stage, share: seen.append((stage, share)))
    assert {stage for stage, _ in seen} == {"mesh", "file"} and seen[-1] == ("file", 1.0)
    assert all(0 <= share <= 1 for _, share in seen)
