"""The contract of all stylizers, and what this one promises beyond it."""

from __future__ import annotations

from agile3d_agilegan.config import AgileganConfig

from agile3d_cli.testing import StylizerContract


class TestContract(StylizerContract):
    package = "agile3d-agilegan"
    name = "agilegan"
    config = AgileganConfig(layout=128, faces=16)
