"""Terms of use: one note per thing that went into a result, gathered into a chain.

Models, styles and stylizers each carry notes; whoever builds on them hands the notes on, so a portrait can always say
what it rests on. Plain data, no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

FREE = ("MIT", "CC0-1.0", "Apache-2.0", "CC-BY-4.0")
"""Terms, as SPDX identifiers, that are known to allow commercial use."""


@dataclass(frozen=True)
class LicenseNote:
    """Terms of one thing: weights, pictures or code."""

    item: str
    """What it is, in words: "Fluent Emoji (3D style), 24 pictures"."""
    license: str
    """SPDX identifier where there is one ("MIT", "Apache-2.0", "CC0-1.0"), else a short name, or "unknown"."""
    origin: str
    """Where it came from: a package with its version, an address, or "made by this project"."""
    commercial: bool
    """Whether the terms allow commercial use. Unknown terms count as no."""

    def as_json(self) -> dict[str, Any]:
        """The note as plain data."""
        return asdict(self)


def read_notes(data: Iterable[Mapping[str, Any]]) -> tuple[LicenseNote, ...]:
    """Notes from plain data. What is missing is taken as unknown, and unknown as not for commercial use."""
    return tuple(
        LicenseNote(
            item=str(note.get("item", "unnamed")),
            license=str(note.get("license", "unknown")),
            origin=str(note.get("origin", "unknown")),
            commercial=note.get("commercial") is True,
        )
        for note in data
    )


def join_notes(*chains: Iterable[LicenseNote]) -> tuple[LicenseNote, ...]:
    """Several chains as one, each note once, in the order of first appearance."""
    return tuple(dict.fromkeys(note for chain in chains for note in chain))
