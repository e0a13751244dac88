"""Realistic faces that stylizers are fitted with, kept on disk while a fit lasts: to draw them is its longest part, and
an interrupted run finds them again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from agile3d_cli.style.shards import Made, ShardSet
from agile3d_cli.stylizer import FaceBatch, FaceSampler

TOGETHER = 10
"""Faces that are drawn and stored at once."""
AFTER = "after"
"""Tensor with the state of chance after a shard's faces, in each of its rows."""


class KeptFaces:
    """A ``FaceSampler`` that draws only what does not lie in its folder yet."""

    def __init__(self, source: FaceSampler, folder: Path, recipe: Mapping[str, Any]):
        """Draws from ``source``, whose faces must follow one another: two and three are the same as five.

        Args:
            source: of the faces.
            folder: holds nothing else; made when it is needed.
            recipe: plain data that decides how ``source`` draws.
        """
        self._source, self._folder, self._recipe, self._asked = source, folder, dict(recipe), 0

    @cached_property
    def _stored(self) -> ShardSet:
        return ShardSet(self._folder, self._recipe)

    def sample(self, count: int, generator: torch.Generator) -> FaceBatch:
        """As ``source`` gives them, and chance goes on as after it."""
        parts = [self._some(min(TOGETHER, count - done), generator) for done in range(0, count, TOGETHER)]
        if not parts:
            return self._source.sample(0, generator)
        return FaceBatch(*(torch.cat([part[name] for part in parts]) for name in ("images", "labels", "landmarks")))

    def clear(self) -> None:
        """Removes the folder, when the fit is done."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _some(self, count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        def make() -> Made:
            some = self._source.sample(count, generator)
            after = generator.get_state().expand(count, -1)
            return Made({"images": some.images, "labels": some.labels, "landmarks": some.landmarks, AFTER: after})

        key = [count, hashlib.sha256(generator.get_state().numpy().tobytes()).hexdigest()]
        shard = self._stored.shard(self._asked, make, key)
        self._asked += 1
        found = {name: shard.tensor(name) for name in ("images", "labels", "landmarks", AFTER)}
        generator.set_state(found.pop(AFTER)[0])
        return found
