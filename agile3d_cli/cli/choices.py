"""What several commands let the user choose from: the output folder, and names for shell completion."""

from __future__ import annotations

from pathlib import Path

OUTPUT_FOLDER = Path("agile3d-output")
"""Where portraits go and where the newest is looked for, below the current folder."""


def complete_styles(incomplete: str) -> list[str]:
    """Names of styles that begin so."""
    from agile3d_cli.registry import list_files

    return [name for name in ("none", *(entry.name for entry in list_files("style"))) if name.startswith(incomplete)]


def complete_models(incomplete: str) -> list[str]:
    """Names of models that begin so."""
    from agile3d_cli.registry import list_files

    return [entry.name for entry in list_files("model") if entry.name.startswith(incomplete)]


def complete_stylizers(incomplete: str) -> list[str]:
    """Names of stylizers that begin so."""
    from agile3d_cli.plugins import find_stylizers

    return [found.name for found in find_stylizers() if found.error is None and found.name.startswith(incomplete)]
