"""mesh -> bytes of a binary glTF 2.0 file (GLB).

Source: glTF 2.0 Specification, Khronos Group, sections 3.6 (accessors), 3.7 (meshes), 3.9 (materials), 4.4 (GLB).
Colours of vertices are linear there, those of textures sRGB. The material is unlit, since a portrait's light is part of
its colours; viewers that do not know the extension show it matt.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from agile3d_cli import __version__
from agile3d_cli.avatar.mesh import Mesh

FLOAT, UNSIGNED = 5126, 5125
"""Component types."""
VERTEX_DATA, INDEX_DATA = 34962, 34963
"""What a piece of the buffer is for."""
JSON_CHUNK, BINARY_CHUNK = 0x4E4F534A, 0x004E4942


def glb_bytes(mesh: Mesh, name: str = "head", extras: Mapping[str, Any] | None = None, copyright: str = "") -> bytes:
    """The mesh as a GLB file.

    Args:
        mesh: in metres, y up, front towards +z, which is how glTF wants it.
        name: of the one node and mesh.
        extras: plain data about the head, kept under ``asset.extras``.
        copyright: one line for the file's ``asset.copyright``; none if empty.
    """
    buffer = _Buffer()
    attributes = {
        "POSITION": buffer.add(mesh.vertices.astype(np.float32), VERTEX_DATA, bounds=True),
        "NORMAL": buffer.add(mesh.normals.astype(np.float32), VERTEX_DATA),
    }
    surface: dict[str, Any] = {"metallicFactor": 0.0, "roughnessFactor": 1.0}
    document: dict[str, Any] = {}
    if mesh.uv is not None and mesh.texture is not None:
        attributes["TEXCOORD_0"] = buffer.add(mesh.uv.astype(np.float32), VERTEX_DATA)
        document["images"] = [{"bufferView": buffer.view(_png(mesh.texture)), "mimeType": "image/png"}]
        document["samplers"] = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}]
        document["textures"] = [{"source": 0, "sampler": 0}]
        surface["baseColorTexture"] = {"index": 0}
    else:
        attributes["COLOR_0"] = buffer.add(linear(mesh.colors), VERTEX_DATA)
    indices = buffer.add(mesh.faces.astype(np.uint32).reshape(-1), INDEX_DATA)

    asset: dict[str, Any] = {"version": "2.0", "generator": f"agile3d {__version__}"}
    if copyright:
        asset["copyright"] = copyright
    if extras:
        asset["extras"] = dict(extras)
    document |= {
        "asset": asset,
        "scene": 0,
        "scenes": [{"name": name, "nodes": [0]}],
        "nodes": [{"name": name, "mesh": 0}],
        "meshes": [{"name": name, "primitives": [{"attributes": attributes, "indices": indices, "material": 0}]}],
        "materials": [{"name": name, "pbrMetallicRoughness": surface, "extensions": {"KHR_materials_unlit": {}}}],
        "extensionsUsed": ["KHR_materials_unlit"],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return _container(document, bytes(buffer.data))


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] to linear light in [0, 1] (IEC 61966-2-1), float32."""
    low = srgb <= 0.04045
    return np.where(low, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4).astype(np.float32)


class _Buffer:
    """The binary part of the file as it grows, with the tables that describe it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None = None) -> int:
        """Appends bytes at a multiple of four; returns the number of their view."""
        self.data += b"\0" * (-len(self.data) % 4)
        entry = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(entry if target is None else {**entry, "target": target})
        self.data += data
        return len(self.views) - 1

    def add(self, values: np.ndarray, target: int, bounds: bool = False) -> int:
        """Appends float32 (V, K) or uint32 (V,) numbers; returns the number of their accessor."""
        little = values.astype(values.dtype.newbyteorder("<"))
        accessor: dict[str, Any] = {
            "bufferView": self.view(little.tobytes(), target),
            "componentType": FLOAT if values.dtype == np.float32 else UNSIGNED,
            "count": len(values),
            "type": "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}",
        }
        if bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _container(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), JSON_CHUNK) + text + struct.pack("<II", len(binary), BINARY_CHUNK) + binary
    return b"glTF" + struct.pack("<II", 2, 12 + len(chunks)) + chunks


def _png(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()
