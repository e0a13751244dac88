"""Where styles and models live, and how a name becomes a file. Imports no torch.

Shipped ones lie in the package and are never changed; one's own lie below ``home()`` and come first.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agile3d_cli.bundle import NAME
from agile3d_cli.errors import Agile3dError, MissingError, OutputError, RefusedError, UsageError
from agile3d_cli.licenses import LicenseNote, read_notes
from agile3d_cli.safefile import Card, file_sha256, read_card

HOME_VARIABLE = "AGILE3D_HOME"
PACKAGE = Path(__file__).parent
ASSETS = PACKAGE / "assets"
"""Shipped models."""
SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Found:
    """A style or model on this machine, readable or not."""

    name: str
    path: Path
    shipped: bool
    card: Card | None
    """None when the file is refused."""
    error: str | None = None
    """Why it is refused."""

    @property
    def licenses(self) -> tuple[LicenseNote, ...]:
        """The file's own terms and those of everything that went in."""
        if self.card is None:
            return ()
        meta = self.card.meta
        terms = str(meta.get("license", "unknown"))
        chain = meta.get("licenses")
        notes = read_notes(chain) if isinstance(chain, list) else ()
        # A file is as free as the least free of its parts, and of unknown parts nothing is known.
        free = terms != "unknown" and bool(notes) and all(note.commercial for note in notes)
        origin = meta.get("origin") or meta.get("author") or "unknown"
        return (LicenseNote(f"{self.card.format} {self.name}", terms, str(origin), free), *notes)


@dataclass(frozen=True)
class Asset:
    """A shipped network of others, kept in its own file format."""

    name: str
    file: Path
    summary: str
    sha256: str
    licenses: tuple[LicenseNote, ...]

    @property
    def intact(self) -> bool:
        """Whether the file is there and is the one that was shipped."""
        return self.file.is_file() and file_sha256(self.file) == self.sha256


def home() -> Path:
    """The user's own folder: ``AGILE3D_HOME``, else the platform's place for data of programs."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_data_path("agile3d", appauthor=False)


def own_folder(format: str) -> Path:
    """Where the user's styles or models are."""
    return home() / f"{format}s"


def shipped_folder(format: str) -> Path:
    """Where shipped styles or models are: in the package, and styles of a source checkout beside it."""
    if format == "model":
        return ASSETS
    packaged = PACKAGE / "styles"
    return packaged if packaged.is_dir() else PACKAGE.parent / "styles"


def list_files(format: str) -> list[Found]:
    """Every style or model, own ones first; of two with one name only the one that is used."""
    found: dict[str, Found] = {}
    for folder, shipped in ((own_folder(format), False), (shipped_folder(format), True)):
        for path in _weights(folder):
            entry = look(path, format, shipped)
            if entry is not None:
                found.setdefault(entry.name, entry)
    return list(found.values())


def look(path: Path, format: str, shipped: bool = False) -> Found | None:
    """One file as an entry of a list; None for a shipped file that is no such thing (an asset of another kind)."""
    try:
        return Found(path.stem, path, shipped, read_card(path, format))
    except Agile3dError as error:
        return None if shipped and format == "model" else Found(path.stem, path, shipped, None, str(error))


def find_file(name_or_file: str, format: str) -> Path:
    """The file of a style or model that the user named.

    Raises:
        MissingError: there is none; the message lists the choices and the nearest name.
    """
    if re.fullmatch(NAME, name_or_file):
        for folder in (own_folder(format), shipped_folder(format)):
            path = folder / f"{name_or_file}{SUFFIX}"
            if path.is_file():
                return path
    path = Path(name_or_file).expanduser()
    if path.is_file():
        return path
    if path.suffix or len(path.parts) > 1:
        raise MissingError(f"There is no {format} file {path}; check the path.")
    raise MissingError(_not_found(name_or_file, format, [entry.name for entry in list_files(format)]))


def install_file(path: Path, format: str, replace: bool = False) -> Found:
    """Copies a checked file into the user's folder under the name that it gives itself.

    Raises:
        UsageError: the name is taken.
        RefusedError: the file is not a proper one.
    """
    from agile3d_cli.image import write_whole
    from agile3d_cli.safefile import read_tensors

    card = read_card(path, format)
    read_tensors(card)
    name = str(card.meta.get("name"))
    if not re.fullmatch(NAME, name):
        raise RefusedError(f"{path} calls itself {name!r}, which is not a name; use a-z, 0-9, dash and underscore.")
    target = own_folder(format) / f"{name}{SUFFIX}"
    taken = {entry.name: entry for entry in list_files(format)}
    if name in taken and not replace:
        raise UsageError(f"There is already a {format} {name!r} at {taken[name].path}; --force puts the new one first.")
    data = path.read_bytes()
    write_whole(target, lambda stream: stream.write(data))
    return Found(name, target, False, read_card(target, format))


def remove_file(name: str, format: str) -> Path:
    """Removes one of the user's own files and returns where it was. Shipped ones stay."""
    path = own_folder(format) / f"{name}{SUFFIX}"
    if re.fullmatch(NAME, name) and path.is_file():
        try:
            path.unlink()
        except OSError as error:
            raise OutputError(f"{path} cannot be removed ({error.strerror}); check its permissions.") from error
        return path
    if any(entry.name == name for entry in list_files(format)):
        raise UsageError(f"The {format} {name!r} is shipped with agile3d and stays; only your own can be removed.")
    raise MissingError(_not_found(name, format, [entry.name for entry in list_files(format) if not entry.shipped]))


def assets() -> list[Asset]:
    """The shipped networks that are not in our own format, from the list that is shipped beside them."""
    entries = json.loads((ASSETS / "assets.json").read_text(encoding="utf-8"))
    return [
        Asset(entry["name"], ASSETS / entry["file"], entry["summary"], entry["sha256"], read_notes(entry["licenses"]))
        for entry in entries
    ]


def newest_portrait(folder: Path) -> Path:
    """The portrait below ``folder`` that was written last.

    Raises:
        MissingError: there is none.
    """
    portraits = list(folder.glob("**/portrait.safetensors"))
    if not portraits:
        raise MissingError(
            f"There is no portrait below {folder}; make one with `agile3d apply PHOTO --style cartoon`, or name one."
        )
    return max(portraits, key=lambda path: (path.stat().st_mtime_ns, str(path)))


def _weights(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from sorted(path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith("."))


def _not_found(name: str, format: str, choices: Iterable[str]) -> str:
    choices = list(choices)
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return (
        f"There is no {format} {name!r}.{hint} You have: {', '.join(choices) or 'none'}. "
        f"Give one of these or the path of a {format} file; `agile3d {format}s list` shows them."
    )
