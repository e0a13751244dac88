"""A head with known true values for every output test."""

from __future__ import annotations

import pytest

from agile3d_cli.avatar.config import MeshConfig
from agile3d_cli.avatar.formula import FormulaHead
from agile3d_cli.avatar.mesh import Mesh, extract_mesh


@pytest.fixture(scope="session")
def head() -> FormulaHead:
    return FormulaHead()


@pytest.fixture(scope="session")
def mesh(head: FormulaHead) -> Mesh:
    """A small mesh of the head with vertex colours."""
    return extract_mesh(head, MeshConfig(resolution=96))
