"""GLB -> viewer page: one HTML file with the head inside, which loads nothing from anywhere."""

from __future__ import annotations

import base64
import html
import re
from importlib import resources
from pathlib import Path

from agile3d_cli.errors import RefusedError


def build_viewer_html(glb: bytes | Path, title: str = "Portrait") -> str:
    """The page that shows a head, turned by mouse, touch or keys, in any browser with WebGL 2.

    Args:
        glb: the file's bytes, or the file; one mesh as ``glb.glb_bytes`` writes it.
        title: shown on the page and in its title.

    Raises:
        RefusedError: not a GLB file.
    """
    data = glb if isinstance(glb, bytes) else glb.read_bytes()
    if data[:4] != b"glTF":
        raise RefusedError("The viewer page needs a GLB file; this is none.")
    values = {
        "title": html.escape(title),
        "file": re.sub(r"[^A-Za-z0-9._-]+", "_", title) + ".glb",
        "model": base64.b64encode(data).decode("ascii"),
    }
    page = resources.files("agile3d_cli.avatar").joinpath("viewer.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(title|file|model)\}\}", lambda found: values[found[1]], page)
