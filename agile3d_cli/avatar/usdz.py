"""textured mesh -> bytes of a USDZ package, for the AR viewers of phones and for USD programs.

Source: USDZ file format specification (a stored zip whose files begin at multiples of 64 bytes, the scene first) and
the UsdPreviewSurface specification. The scene is written as text, so no USD library is needed.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Sequence

import numpy as np
from PIL import Image

from agile3d_cli import __version__
from agile3d_cli.avatar.mesh import Mesh

ALIGNMENT = 64
LOCAL_HEADER = 30
"""Bytes of a zip's local file header before the name."""
PADDING_FIELD = 0x1986
"""Number of the zip extra field that holds nothing but padding."""
EARLY = (1980, 1, 1, 0, 0, 0)
"""Time stamp of all packed files, so that equal heads give equal bytes."""

SCENE = """#usda 1.0
(
    defaultPrim = "head"
    doc = "agile3d {version}"
    metersPerUnit = 1
    upAxis = "Y"
)

def Xform "head" (
    kind = "component"
)
{{
    def Mesh "surface" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        uniform token subdivisionScheme = "none"
        uniform token orientation = "rightHanded"
        float3[] extent = [{extent}]
        int[] faceVertexCounts = [{counts}]
        int[] faceVertexIndices = [{indices}]
        point3f[] points = [{points}]
        normal3f[] normals = [{normals}] (
            interpolation = "vertex"
        )
        texCoord2f[] primvars:st = [{places}] (
            interpolation = "vertex"
        )
        rel material:binding = </head/skin>
    }}

    def Material "skin"
    {{
        token outputs:surface.connect = </head/skin/surface.outputs:surface>

        def Shader "surface"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = </head/skin/picture.outputs:rgb>
            float inputs:metallic = 0
            float inputs:roughness = 1
            token outputs:surface
        }}

        def Shader "picture"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @head.png@
            token inputs:sourceColorSpace = "sRGB"
            float2 inputs:st.connect = </head/skin/places.outputs:result>
            token inputs:wrapS = "clamp"
            token inputs:wrapT = "clamp"
            float3 outputs:rgb
        }}

        def Shader "places"
        {{
            uniform token info:id = "UsdPrimvarReader_float2"
            string inputs:varname = "st"
            float2 outputs:result
        }}
    }}
}}
"""


def usdz_bytes(mesh: Mesh) -> bytes:
    """The mesh as a USDZ package.

    Args:
        mesh: in metres, y up, with a texture: AR viewers show no vertex colours.
    """
    assert mesh.uv is not None and mesh.texture is not None, "a USDZ needs a texture"
    scene = SCENE.format(
        version=__version__,
        extent=_tuples(np.stack([mesh.vertices.min(0), mesh.vertices.max(0)])),
        counts=", ".join(["3"] * len(mesh.faces)),
        indices=", ".join(map(str, mesh.faces.reshape(-1).tolist())),
        points=_tuples(mesh.vertices),
        normals=_tuples(mesh.normals),
        # USD counts v upwards.
        places=_tuples(np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1)),
    )
    picture = io.BytesIO()
    Image.fromarray(mesh.texture).save(picture, "PNG")
    return _package([("head.usda", scene.encode("utf-8")), ("head.png", picture.getvalue())])


def _package(files: Sequence[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            entry = zipfile.ZipInfo(name, EARLY)
            entry.external_attr = 0o644 << 16
            # An extra field has four bytes of its own and then its padding.
            begin = stream.tell() + LOCAL_HEADER + len(name) + 4
            padding = -begin % ALIGNMENT
            entry.extra = struct.pack("<HH", PADDING_FIELD, padding) + bytes(padding)
            archive.writestr(entry, data)
    return stream.getvalue()


def _tuples(rows: np.ndarray) -> str:
    return ", ".join("(" + ", ".join(f"{value:.6g}" for value in row) + ")" for row in rows.tolist())
