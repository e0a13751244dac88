"""What a learnt style is warned about."""

from __future__ import annotations

import pytest

from agile3d_cli.scores import Scores
from agile3d_cli.style.pipeline import _flattened


@pytest.mark.parametrize("relief", [None, 0.7, 1.4])
def test_faces_with_depth_are_not_told(relief: float | None) -> None:
    assert _flattened(Scores(relief=relief)) == []


def test_flat_faces_are_told() -> None:
    (sentence,) = _flattened(Scores(relief=0.553))
    assert "0.55 as deep" in sentence and "--structure" in sentence
