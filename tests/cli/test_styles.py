"""`agile3d styles`, `models` and `licenses` on a small library of styles made here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import Result

from agile3d_cli import registry
from agile3d_cli.bundle import BaseReference, Model, StyleBundle, write_model, write_style
from agile3d_cli.licenses import LicenseNote

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, dict[str, Any]]]
FREE = LicenseNote("24 pictures", "MIT", "npm thing 1.0", True)
BOUND = LicenseNote("a network", "CC-BY-NC-4.0", "somewhere", False)


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shipped style "ink" for a shipped generator "base"; returns the folder of the shipped styles."""
    shipped = {"style": tmp_path / "shipped" / "styles", "model": tmp_path / "shipped" / "models"}
    monkeypatch.setattr(registry, "shipped_folder", lambda format: shipped[format])
    write_model(shipped["model"] / "base.safetensors", Model("base", {}, {"w": torch.ones(1)}, license="Apache-2.0"))
    write_a_style(shipped["style"] / "ink.safetensors", "ink")
    return shipped["style"]


def write_a_style(path: Path, name: str, note: LicenseNote = FREE, value: float = 0.0) -> Path:
    base = registry.ASSETS.parent
    model = registry.shipped_folder("model") / "base.safetensors"
    assert base.is_dir()
    preview = torch.full((4, 6, 3), 7, dtype=torch.uint8)
    reference = BaseReference("base", registry.file_sha256(model), {})
    tensors = {"d": torch.tensor([value])}
    write_style(path, StyleBundle(name, reference, tensors, preview, "Black ink.", "MIT", licenses=(note,)))
    return path


def test_list_show_and_preview(library: Path, run: Run, run_json: RunJson) -> None:
    code, document = run_json("styles", "list")
    (entry,) = document["styles"]
    assert code == 0 and (entry["name"], entry["base"], entry["license"]) == ("ink", "base", "MIT")
    assert entry["shipped"] and entry["state"] == "ok"
    assert "Black ink." in run("styles", "list").stdout
    code, document = run_json("styles", "show", "ink", "--preview", "p.png")
    assert code == 0 and document["style"]["summary"] == "Black ink." and len(document["sha256"]) == 64
    with Image.open("p.png") as picture:
        assert picture.size == (6, 4)
    assert "built on: 24 pictures (MIT, npm thing 1.0)" in run("styles", "show", "ink").stdout


def test_install_use_and_remove(library: Path, run: Run, run_json: RunJson, tmp_path: Path, own_home: Path) -> None:
    file = write_a_style(tmp_path / "download.safetensors", "brush")
    code, document = run_json("styles", "install", file)
    assert code == 0 and Path(document["file"]) == own_home / "styles" / "brush.safetensors"
    assert registry.find_file("brush", "style") == own_home / "styles" / "brush.safetensors"
    again = run("styles", "install", file)
    assert again.exit_code == 2 and "already a style 'brush'" in again.stderr
    assert run("styles", "install", file, "--force").exit_code == 0
    assert run("styles", "remove", "brush").exit_code == 0
    assert run("styles", "remove", "brush").exit_code == 4


def test_own_styles_come_before_shipped_ones(library: Path, tmp_path: Path, own_home: Path) -> None:
    registry.install_file(write_a_style(tmp_path / "x.safetensors", "ink", value=1.0), "style", replace=True)
    assert registry.find_file("ink", "style") == own_home / "styles" / "ink.safetensors"
    assert [(found.name, found.shipped) for found in registry.list_files("style")] == [("ink", False)]


def test_shipped_styles_stay(library: Path, run: Run) -> None:
    result = run("styles", "remove", "ink")
    assert result.exit_code == 2 and "shipped" in result.stderr
    assert run("styles", "remove", "../models/base").exit_code == 4


@pytest.mark.parametrize("name", ["inc", "../ink", "ink.safetensors", "Ink"])
def test_a_missing_style_is_explained(library: Path, run: Run, name: str) -> None:
    result = run("styles", "show", name)
    assert result.exit_code == 4 and "style" in result.stderr
    if name == "inc":
        assert "Did you mean 'ink'? You have: ink." in result.stderr


def test_a_name_in_this_folder_does_not_hide_a_style(library: Path, run: Run, tmp_path: Path) -> None:
    (tmp_path / "ink").write_text("a file of the same name")
    assert run("styles", "show", "ink").exit_code == 0


def test_a_damaged_style_is_listed_and_refused(library: Path, run: Run, run_json: RunJson) -> None:
    bad = library / "bad.safetensors"
    bad.write_bytes((library / "ink.safetensors").read_bytes()[:-1])
    _, document = run_json("styles", "list")
    assert {entry["name"]: entry["state"] for entry in document["styles"]} == {"bad": "refused", "ink": "ok"}
    for words in (("styles", "show", "bad"), ("styles", "verify"), ("styles", "install", bad)):
        result = run(*words)
        assert result.exit_code == 5 and "cut off" in result.output


def test_verify_looks_at_the_checksum_and_the_base(library: Path, run: Run, run_json: RunJson) -> None:
    assert run_json("styles", "verify") == (0, {
        "schema": "agile3d.styles.verify/1",
        "styles": [{"name": "ink", "file": str(library / "ink.safetensors"), "state": "ok", "error": None}],
    })  # fmt: skip
    model = library.parent / "models" / "base.safetensors"
    write_model(model, Model("base", {}, {"w": torch.zeros(1)}))
    result = run("styles", "verify", "ink")
    assert result.exit_code == 5 and "another version of the generator 'base'" in result.stdout
    model.unlink()
    assert "not installed" in run("styles", "verify", "ink").stdout


def test_licenses_show_the_chain_and_refuse_what_is_bound(library: Path, run: Run, run_json: RunJson) -> None:
    code, document = run_json("licenses", "ink", "--commercial-only")
    style = document["licenses"][-1]
    assert (style["kind"], style["name"], style["commercial"]) == ("style", "ink", True)
    assert style["licenses"][1] == FREE.as_json()
    assert code == 5 and document["refused"] == ["base"], "the card of this generator names no parts"
    write_a_style(library / "bound.safetensors", "bound", BOUND)
    result = run("licenses", "--commercial-only")
    assert result.exit_code == 5 and "not for commercial use: base, bound." in result.stderr
    assert run("licenses").exit_code == 0


def test_models_are_listed_shown_and_verified(library: Path, run: Run, run_json: RunJson) -> None:
    code, document = run_json("models", "list")
    assert code == 0 and {"base", "face-mesh"} <= {entry["name"] for entry in document["models"]}
    assert run("models", "show", "base").exit_code == run("models", "show", "face-mesh").exit_code == 0
    assert run("models", "show", "bas").exit_code == 4
    assert run("models", "verify").exit_code == 0


def test_a_changed_asset_is_noticed(library: Path, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "assets").mkdir()
    listed = (registry.ASSETS / "assets.json").read_text()
    (tmp_path / "assets" / "assets.json").write_text(listed)
    (tmp_path / "assets" / "face_landmark.onnx").write_bytes(b"something else")
    monkeypatch.setattr(registry, "ASSETS", tmp_path / "assets")
    result = run("models", "verify")
    assert result.exit_code == 5 and "face_landmark.onnx is missing or changed" in result.stdout
