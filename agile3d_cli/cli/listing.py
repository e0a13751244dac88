"""How styles and models are listed, shown and verified; shared by `agile3d styles` and `agile3d models`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from agile3d_cli.cli.session import Session
from agile3d_cli.errors import Agile3dError, RefusedError

if TYPE_CHECKING:
    from agile3d_cli.registry import Asset, Found
    from agile3d_cli.safefile import Card


def as_entry(found: Found) -> dict[str, Any]:
    """One of our own files as an entry of a list."""
    meta = found.card.meta if found.card else {}
    base = meta.get("base")
    return {
        "name": found.name,
        "summary": str(meta.get("summary", "")),
        "license": str(meta.get("license", "unknown")),
        "base": base.get("name") if isinstance(base, dict) else None,
        "shipped": found.shipped,
        "state": "refused" if found.error else "ok",
        "error": found.error,
        "file": str(found.path),
    }


def asset_entry(asset: Asset) -> dict[str, Any]:
    """A shipped network of others as an entry of a list."""
    present = asset.file.is_file()
    return {
        "name": asset.name,
        "summary": asset.summary,
        "license": " AND ".join(dict.fromkeys(note.license for note in asset.licenses)),
        "base": None,
        "shipped": True,
        "state": "ok" if present else "missing",
        "error": None if present else f"{asset.file} is not there; install agile3d again",
        "file": str(asset.file),
        "licenses": [note.as_json() for note in asset.licenses],
    }


def describe_entries(entries: list[dict[str, Any]]) -> str:
    """For people: one line an entry."""
    width = max((len(entry["name"]) for entry in entries), default=0)
    return "\n".join(
        f"{entry['name']:{width}}  {'shipped' if entry['shipped'] else 'own    '}  {entry['license']}"
        f"  {entry['error'] or entry['summary']}"
        for entry in entries
    )


def describe_card(card: Card) -> str:
    """For people: the facts of a file, one a line."""
    lines = [f"file: {card.path}", f"bytes: {card.bytes:,}", f"sha256: {card.sha256}"]
    for key, value in card.meta.items():
        if key in ("checksum", "format", "exemplars", "licenses"):
            continue
        if isinstance(value, dict):
            lines += [f"{key}.{part}: {item}" for part, item in value.items() if not isinstance(item, (dict, list))]
        else:
            lines.append(f"{key}: {value}")
    if card.meta.get("exemplars"):
        lines.append(f"exemplars: {len(card.meta['exemplars'])}")
    notes = card.meta.get("licenses") or []
    lines += [f"built on: {note.get('item')} ({note.get('license')}, {note.get('origin')})" for note in notes]
    return "\n".join(lines)


def verify_file(path: Path, format: str) -> dict[str, Any]:
    """Reads one of our own files in full."""
    from agile3d_cli.bundle import read_model, read_style
    from agile3d_cli.registry import list_files

    entry: dict[str, Any] = {"name": path.stem, "file": str(path), "state": "ok", "error": None}
    try:
        if format == "style":
            base = read_style(path).base
            models = {found.name: found for found in list_files("model")}
            model = models.get(base.name)
            if model is None or model.card is None:
                raise Agile3dError(f"{path} belongs to the generator {base.name!r}, which is not installed.")
            if model.card.sha256 != base.sha256:
                raise RefusedError(f"{path} belongs to another version of the generator {base.name!r}; learn it again.")
        else:
            read_model(path)
    except Agile3dError as error:
        return {**entry, "state": "refused", "error": str(error)}
    return entry


def verify_asset(asset: Asset) -> dict[str, Any]:
    """Compares a shipped network with the hash in the shipped list."""
    entry: dict[str, Any] = {"name": asset.name, "file": str(asset.file), "state": "ok", "error": None}
    if not asset.intact:
        return {**entry, "state": "refused", "error": f"{asset.file} is missing or changed; install agile3d again."}
    return entry


def finish_verifying(session: Session, key: str, entries: list[dict[str, Any]]) -> None:
    """Prints what verifying found; exit code 5 if anything was refused."""
    lines = [f"{entry['name']}: {entry['error'] or 'ok'}" for entry in entries]
    session.result({key: entries}, "\n".join(lines) or "Nothing to verify.")
    if any(entry["error"] for entry in entries):
        raise typer.Exit(RefusedError.exit_code)
