"""Faces that a stylizer is fitted with are drawn once, also where the fit was interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from agile3d_cli.style.kept_faces import TOGETHER, KeptFaces
from agile3d_cli.stylizer import FaceBatch


class Source:
    """Draws noise, and counts."""

    def __init__(self, stop: int = 1 << 30):
        self.drawn, self.stop = 0, stop

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        rows = []
        for _ in range(count):
            if self.drawn == self.stop:
                raise KeyboardInterrupt
            self.drawn += 1
            rows.append([torch.rand(shape, generator=generator) for shape in ((1, 3, 4, 4), (1, 25), (1, 468, 3))])
        if not rows:
            return FaceBatch(torch.zeros(0, 3, 4, 4), torch.zeros(0, 25), torch.zeros(0, 468, 3))
        return FaceBatch(*(torch.cat(column) for column in zip(*rows, strict=True)))


def asked(sampler: Source | KeptFaces, seed: int = 1) -> list[FaceBatch]:
    """Two batches, and a third that shows how chance went on."""
    rng = torch.Generator().manual_seed(seed)
    return [sampler.sample(count, rng) for count in (TOGETHER + 3, 0, 2)]


def same(one: list[FaceBatch], two: list[FaceBatch]) -> bool:
    parts = ("images", "labels", "landmarks")
    pairs = zip(one, two, strict=True)
    return all(torch.equal(getattr(a, part), getattr(b, part)) for a, b in pairs for part in parts)


def test_faces_are_those_of_the_source_and_drawn_once(tmp_path: Path) -> None:
    wanted, source = asked(Source()), Source()
    assert same(asked(KeptFaces(source, tmp_path / "real", {})), wanted) and source.drawn == TOGETHER + 5
    assert same(asked(KeptFaces(source, tmp_path / "real", {})), wanted) and source.drawn == TOGETHER + 5


def test_an_interrupted_fit_loses_the_faces_in_the_making_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        asked(KeptFaces(Source(stop=TOGETHER + 1), tmp_path / "real", {}))
    source = Source()
    assert same(asked(KeptFaces(source, tmp_path / "real", {})), asked(Source())) and source.drawn == 5


def test_what_another_chance_or_generator_drew_is_not_taken(tmp_path: Path) -> None:
    source = Source()
    asked(KeptFaces(source, tmp_path / "real", {"base": "a"}))
    assert same(asked(KeptFaces(source, tmp_path / "real", {"base": "a"}), seed=2), asked(Source(), seed=2))
    before = source.drawn
    asked(KeptFaces(source, tmp_path / "real", {"base": "b"}), seed=2)
    assert source.drawn == before + TOGETHER + 5


def test_nothing_is_left_when_the_fit_is_done(tmp_path: Path) -> None:
    kept = KeptFaces(Source(), tmp_path / "real", {})
    kept.clear()
    asked(kept)
    kept.clear()
    assert list(tmp_path.iterdir()) == []
