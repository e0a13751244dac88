"""mesh -> bytes of the plain mesh files: OBJ, PLY, STL. All in the mesh's own axes and unit, colours as sRGB."""

from __future__ import annotations

import io

import numpy as np

from agile3d_cli import __version__
from agile3d_cli.avatar.mesh import Mesh


def ply_bytes(mesh: Mesh) -> bytes:
    """Binary PLY with normals and vertex colours."""
    columns = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns += [(name, "u1") for name in ("red", "green", "blue")]
    table = np.empty(len(mesh.vertices), columns)
    for name, values in zip("xyz", mesh.vertices.T, strict=True):
        table[name] = values
    for name, values in zip(("nx", "ny", "nz"), mesh.normals.T, strict=True):
        table[name] = values
    for name, values in zip(("red", "green", "blue"), np.rint(mesh.colors * 255).astype(np.uint8).T, strict=True):
        table[name] = values
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    kinds = {"<f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"comment agile3d {__version__}, metres, y up"]
    header += [f"element vertex {len(table)}"] + [f"property {kinds[kind]} {name}" for name, kind in columns]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(header).encode("ascii") + table.tobytes() + faces.tobytes()


def stl_bytes(mesh: Mesh) -> bytes:
    """Binary STL: the bare shape."""
    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-20)
    table = np.zeros(len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("unused", "<u2")])
    table["normal"], table["corners"] = across, corners
    # The text must not begin with "solid": that would announce the text form.
    return (
        f"agile3d {__version__}, metres, y up".ljust(80).encode("ascii")
        + np.uint32(len(corners)).tobytes()
        + (table.tobytes())
    )


def obj_bytes(mesh: Mesh, material_file: str | None = None) -> bytes:
    """OBJ text. Without a texture the vertices carry their colours, as ``v x y z r g b``.

    Args:
        mesh: what is written.
        material_file: name of the MTL file beside it that names the texture.
    """
    stream = io.StringIO()
    stream.write(f"# agile3d {__version__}, metres, y up\n")
    textured = mesh.uv is not None and material_file is not None
    if mesh.uv is not None and material_file is not None:
        stream.write(f"mtllib {material_file}\nusemtl head\n")
        np.savetxt(stream, mesh.vertices, "v %.6f %.6f %.6f")
        # OBJ counts v upwards.
        np.savetxt(stream, np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1), "vt %.6f %.6f")
    else:
        np.savetxt(stream, np.concatenate([mesh.vertices, mesh.colors], 1), "v %.6f %.6f %.6f %.4f %.4f %.4f")
    np.savetxt(stream, mesh.normals, "vn %.4f %.4f %.4f")
    corner = "%d/%d/%d" if textured else "%d//%d"
    numbers = np.repeat(mesh.faces.astype(np.int64) + 1, 3 if textured else 2, axis=1)
    np.savetxt(stream, numbers, f"f {corner} {corner} {corner}")
    return stream.getvalue().encode("ascii")


def mtl_bytes(texture_file: str) -> bytes:
    """The material of a textured OBJ: matt, coloured by the picture beside it."""
    return f"newmtl head\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {texture_file}\n".encode()
