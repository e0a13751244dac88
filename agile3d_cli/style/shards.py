"""Rows of tensors on disk in shards: what an interrupted run finds again.

A folder holds ``shard-0000.safetensors`` and so on, and ``index.json``, which says what they were made of (the recipe)
and the SHA-256 of each. A shard is believed only if the index knows it, its recipe is the wanted one, and its bytes
have that hash; otherwise it is made anew, and alone. Shards are written whole and enter the index afterwards, itself
written whole: whenever the program dies, the shard in the making is lost and nothing else. More shards can be added at
any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from agile3d_cli.image import write_whole
from agile3d_cli.safefile import file_sha256

INDEX = "index.json"
FORMAT, VERSION = "agile3d.shards", 1
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Shard:
    """Some rows on disk, checked when it was opened."""

    path: Path
    rows: int
    facts: Mapping[str, Any]
    """What its maker said about it."""

    def tensor(self, name: str) -> Tensor:
        """All rows of one tensor."""
        with safe_open(self.path, "pt") as stored:
            found: Tensor = stored.get_tensor(name)
        return found


@dataclass(frozen=True)
class Made:
    """Rows fresh from their maker."""

    tensors: Mapping[str, Tensor]
    """By name; the first number of each shape is the count of rows."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Plain data worth keeping, such as how many rows were left out."""


class Rows(Protocol):
    """One tensor of N rows, in memory or not."""

    @property
    def shape(self) -> torch.Size:
        """As if all rows were one tensor."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> Tensor: ...


@dataclass(frozen=True)
class StoredRows:
    """One tensor of chosen rows, read from disk a row at a time, so that memory does not grow with their number."""

    name: str
    places: tuple[tuple[Path, int], ...]
    """File of each row, and its number there."""
    shape: torch.Size
    """As if all rows were one tensor."""

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> Tensor:
        path, row = self.places[number]
        with safe_open(path, "pt") as stored:
            found: Tensor = stored.get_slice(self.name)[row : row + 1]
        return found[0]


class ShardSet:
    """The shards of one folder."""

    def __init__(self, folder: Path, recipe: Mapping[str, Any]):
        """Opens a folder, or makes it; what was made by another recipe is removed.

        Args:
            folder: where the shards are; holds nothing else.
            recipe: plain data that decides what the shards hold.
        """
        self._folder, self._recipe = folder, json.loads(json.dumps(recipe, sort_keys=True))
        folder.mkdir(parents=True, exist_ok=True)
        self._entries = self._read_index()
        if not self._entries:
            for old in folder.glob(f"*{SUFFIX}"):
                old.unlink()

    def shard(self, number: int, make: Callable[[], Made], key: Any = None) -> Shard:
        """The shard of that number: as it lies there if it can be trusted, else made and written.

        Args:
            number: counts from 0.
            make: called only if need be; must give the same rows whenever it is called.
            key: plain data that decides what this one shard holds, beyond the recipe.
        """
        path = self._folder / f"shard-{number:04d}{SUFFIX}"
        entry = self._entries.get(path.name)
        if entry is None or entry["key"] != key or not path.is_file() or file_sha256(path) != entry["sha256"]:
            made = make()
            tensors = {name: value.detach().cpu().contiguous() for name, value in made.tensors.items()}
            data = save(tensors)
            write_whole(path, lambda stream: stream.write(data))
            rows = len(next(iter(tensors.values())))
            entry = {"sha256": hashlib.sha256(data).hexdigest(), "rows": rows, "key": key, "facts": dict(made.facts)}
            self._entries[path.name] = entry
            self._write_index()
        return Shard(path, entry["rows"], entry["facts"])

    def _read_index(self) -> dict[str, dict[str, Any]]:
        """Entries by file name; none where the index is missing, damaged, or of another recipe."""
        try:
            index = json.loads((self._folder / INDEX).read_text(encoding="utf-8"))
            known = (index["format"], index["version"], index["recipe"]) == (FORMAT, VERSION, self._recipe)
            return {name: dict(entry) for name, entry in index["shards"].items() if _whole(entry)} if known else {}
        except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            return {}

    def _write_index(self) -> None:
        index = {"format": FORMAT, "version": VERSION, "recipe": self._recipe, "shards": self._entries}
        data = (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()
        write_whole(self._folder / INDEX, lambda stream: stream.write(data))


def stored_rows(shards: Sequence[Shard], name: str, kept: Sequence[bool]) -> StoredRows:
    """The rows of one tensor for which ``kept`` is true, counted through all shards; they stay on disk."""
    places = [(shard.path, row) for shard in shards for row in range(shard.rows)]
    chosen = tuple(place for place, wanted in zip(places, kept, strict=True) if wanted)
    with safe_open(shards[0].path, "pt") as stored:
        shape = stored.get_slice(name).get_shape()
    return StoredRows(name, chosen, torch.Size([len(chosen), *shape[1:]]))


def _whole(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("sha256"), str)
        and type(entry.get("rows")) is int
        and "key" in entry
        and isinstance(entry.get("facts"), dict)
    )
