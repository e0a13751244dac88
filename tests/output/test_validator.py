"""The Khronos glTF validator, where it is installed (npm gltf-validator), finds nothing to say about our files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.export import export_head
from agile3d_cli.avatar.formula import FormulaHead

ASK = """
const validator = require("gltf-validator"), bytes = new Uint8Array(require("fs").readFileSync(process.argv[1]));
validator.validateBytes(bytes).then(report => console.log(JSON.stringify(report)));
"""


@pytest.mark.parametrize("texture", [0, 256])
def test_validator_finds_nothing(head: FormulaHead, tmp_path: Path, texture: int) -> None:
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("no glTF validator here")
    if texture:
        pytest.importorskip("xatlas")
        pytest.importorskip("fast_simplification")
    facts = {"style": {"name": "cartoon"}, "licenses": [{"license": "MIT"}]}
    config = MeshConfig(resolution=64, texture=texture)
    file = export_head(head, "glb", tmp_path / "head.glb", facts, mesh=config).file
    answer = subprocess.run([node, "-e", ASK, str(file)], capture_output=True, check=True, text=True)
    report = json.loads(answer.stdout)
    assert report["issues"]["messages"] == []
    assert report["info"]["totalTriangleCount"] > 3000 and report["info"]["hasTextures"] is bool(texture)
