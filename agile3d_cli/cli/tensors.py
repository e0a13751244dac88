"""What `agile3d models show --tensors` says of a model's tensors, so that they can be compared with other files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agile3d_cli.bundle import Model


def tensor_entries(model: Model) -> list[dict[str, Any]]:
    """Each tensor: ``name``, ``official`` name (None where there is none), ``shape``, ``dtype``, and ``sha256`` of its
    numbers row by row, little-endian."""
    import torch

    from agile3d_cli.models.importing import official_names

    official = official_names(model)
    entries = []
    for name, value in sorted(model.tensors.items()):
        numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        entries.append(
            {
                "name": name,
                "official": official.get(name),
                "shape": list(value.shape),
                "dtype": str(value.dtype).removeprefix("torch."),
                "sha256": hashlib.sha256(numbers).hexdigest(),
            }
        )
    return entries


def describe_tensors(entries: list[dict[str, Any]]) -> str:
    """For people: one line a tensor, under its official name where it has one."""
    return "\n".join(
        f"{entry['sha256'][:16]}  {entry['dtype']:8} {entry['shape']!s:20} {entry['official'] or entry['name']}"
        for entry in entries
    )
