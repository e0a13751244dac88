"""The viewer page: whole in itself, and what a browser draws is the head."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.export import export_head, placed
from agile3d_cli.avatar.formula import HAIR, LIP, SKIN, FormulaHead
from agile3d_cli.avatar.glb import glb_bytes
from agile3d_cli.avatar.mesh import Mesh
from agile3d_cli.avatar.viewer import build_viewer_html
from agile3d_cli.errors import RefusedError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
OFFLINE = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=5000",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(mesh: Mesh) -> str:
    return build_viewer_html(glb_bytes(placed(mesh)), 'Ann & "Bob" <x>')


def shot(page: str, folder: Path, wish: str, width: int = 400, height: int = 500) -> np.ndarray:
    """The page as a browser shows it, (height, width, 3)."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium here to show the page")
    file, picture = folder / "page.html", folder / "shot.png"
    file.write_text(page, encoding="utf-8")
    words = [browser, *OFFLINE, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},{height}"]
    words += [f"--screenshot={picture}", f"{file.as_uri()}#{wish}"]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    with Image.open(picture) as image:
        return np.asarray(image.convert("RGB"))


def test_page_needs_nothing_from_outside(page: str) -> None:
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:|\{)\w""", page.split('<script id="model"')[0])
    assert "http:" not in page and "https:" not in page
    assert "default-src 'none'" in page
    assert "{{" not in page


def test_page_holds_the_file_and_the_title_safely(page: str, mesh: Mesh) -> None:
    inside = re.search(r'<script id="model" type="text/plain">([^<]*)</script>', page)
    assert inside and base64.b64decode(inside[1]) == glb_bytes(placed(mesh))
    assert "<title>Ann &amp; &quot;Bob&quot; &lt;x&gt; - agile3d</title>" in page
    assert 'link.download = "Ann_Bob_x_.glb"' in page


def test_page_can_be_used_without_a_mouse_and_without_seeing(page: str) -> None:
    assert '<html lang="en">' in page and 'tabindex="0"' in page and "prefers-reduced-motion" in page
    assert 'role="img" aria-label="3D head: Ann' in page
    for button in re.findall(r"<button[^>]*>([^<]*)</button>", page):
        assert button.strip()


def test_other_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        build_viewer_html(b"solid nothing")


def test_browser_draws_the_head_in_its_colours(page: str, tmp_path: Path) -> None:
    picture = shot(page, tmp_path, "still&light").astype(int)
    near = [np.abs(picture - np.array(color) * 255).max(-1) < 12 for color in (SKIN, HAIR, LIP)]
    assert near[0].sum() > 8000 and near[1].sum() > 1000 and near[2].sum() > 100
    rows = [np.nonzero(mask)[0].mean() for mask in near]
    assert rows[1] < rows[0] < rows[2] + 100 and rows[1] < rows[2]  # hair above, the mouth below it
    columns = np.nonzero(near[0])[1]
    assert columns.mean() == pytest.approx(199.5, abs=3)  # in the middle, seen from the front


def test_browser_turns_the_head(page: str, tmp_path: Path) -> None:
    # From the sitter's left (yaw +70) the nose, and so the lips, point to the picture's left.
    picture = shot(page, tmp_path, "still&light&yaw=70").astype(int)
    lips = np.abs(picture - np.array(LIP) * 255).max(-1) < 12
    assert lips.sum() > 30 and np.nonzero(lips)[1].mean() < 185


def test_html_export_is_this_page(head: FormulaHead, tmp_path: Path) -> None:
    result = export_head(head, "html", tmp_path / "ann.html", mesh=MeshConfig(resolution=64))
    text = result.file.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "<h1>ann<span" in text and result.watertight
