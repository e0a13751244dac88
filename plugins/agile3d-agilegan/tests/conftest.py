"""A tiny prior of painted faces, so that the tests need no shipped weights; ``make_painted_prior.py`` made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agile3d_cli.models.flat import FlatPrior, read_flat


@pytest.fixture(scope="session")
def prior_file() -> Path:
    """The prior's file."""
    return Path(__file__).with_name("painted_prior.safetensors")


@pytest.fixture(scope="session")
def prior(prior_file: Path) -> FlatPrior:
    """The prior, to look at and not to change."""
    return read_flat(prior_file)
