"""The one container for weights: safetensors with our JSON under the metadata key ``agile3d``.

Everything is checked before it is believed: what kind of file it is, its size, that the header fits the file, the
format and version, the checksum. Such a file cannot run code. Headers are read without torch, so lists are quick.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agile3d_cli.errors import MissingError, RefusedError

if TYPE_CHECKING:
    from torch import Tensor

KEY = "agile3d"
"""Metadata key that holds our JSON."""
MAX_HEADER = 16 * 1024 * 1024
"""Largest header that is read, bytes."""
MAX_FILE = {"style": 1 << 30, "portrait": 1 << 28, "model": 8 << 30, "stylizer": 1 << 30}
"""Largest file of each format, bytes."""
ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8,
    "U64": 8, "F64": 8,
}  # fmt: skip
"""Bytes per number of each type that a file may hold."""


@dataclass(frozen=True)
class Card:
    """What a file says about itself: everything but the numbers."""

    path: Path
    format: str
    """``style``, ``portrait``, ``model``, or ``stylizer`` for what a plugin saved."""
    version: int
    meta: Mapping[str, Any]
    """Our JSON."""
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of each tensor by name."""
    bytes: int
    """Size of the file."""

    @cached_property
    def sha256(self) -> str:
        """Hash of the whole file, lower-case hex; read when asked for."""
        return file_sha256(self.path)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_card(path: Path, format: str, versions: tuple[int, ...] = (1,)) -> Card:
    """Reads and checks the header of a file.

    Args:
        path: the file.
        format: the expected ``format``.
        versions: the versions that the caller understands.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is something else, damaged, too large, or of an unknown version.
    """
    if not path.is_file():
        raise MissingError(f"There is no {format} file {path}; check the path.")
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = _header_length(path, start, size)
        raw = stream.read(length)
    header = _parse(path, raw)
    metadata = header.pop("__metadata__", {})
    shapes = _check_layout(path, header, size - 8 - length)
    meta = _our_json(path, metadata)
    found, version = meta.get("format"), meta.get("version")
    if found != format:
        raise RefusedError(f"{path} holds a {found!r}, not a {format}; give a {format} file.")
    if type(version) is not int or version not in versions:
        known = ", ".join(map(str, versions))
        raise RefusedError(f"{path} is a {format} of version {version!r}; this program reads {known}. Update agile3d.")
    if size > MAX_FILE[format]:
        raise RefusedError(f"{path} has {size:,} bytes; a {format} may have {MAX_FILE[format]:,}.")
    return Card(path, format, version, meta, shapes, size)


def _header_length(path: Path, start: bytes, size: int) -> int:
    if start[:1] == b"\x80" and len(start) > 1 and start[1] <= 5:
        raise RefusedError(f"{path} is a Python pickle, which can run code when it is opened; it was not opened.")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise RefusedError(
            f"{path} is a zip archive, as torch.save writes, and may hold a pickle that runs code; it was not opened."
        )
    if size < 10:
        raise RefusedError(f"{path} has {size} bytes and is not a safetensors file; copy it again.")
    (length,) = struct.unpack("<Q", start)
    if length > size - 8 or length < 2:
        raise RefusedError(f"{path} is not a safetensors file or is cut off; copy it again.")
    if length > MAX_HEADER:
        raise RefusedError(f"{path} has a header of {length:,} bytes; at most {MAX_HEADER:,} are read.")
    return int(length)


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        header = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} is not a safetensors file: its header is not JSON.") from error
    if not isinstance(header, dict):
        raise RefusedError(f"{path} is not a safetensors file: its header is not a table.")
    return header


def _check_layout(path: Path, header: Mapping[str, Any], data_bytes: int) -> dict[str, tuple[int, ...]]:
    """Every tensor's bytes lie one after the other and fill the file exactly."""
    try:
        entries = sorted((*entry["data_offsets"], name) for name, entry in header.items())
        shapes: dict[str, tuple[int, ...]] = {}
        position = 0
        for begin, end, name in entries:
            dtype, shape = header[name]["dtype"], header[name]["shape"]
            count = 1
            for extent in shape:
                if type(extent) is not int or extent < 0:
                    raise ValueError(f"tensor {name!r} has the shape {shape}")
                count *= extent
            if begin != position or end - begin != count * ITEM_BYTES[dtype]:
                raise ValueError(f"tensor {name!r} does not fill its place")
            shapes[name], position = tuple(shape), end
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"{path} has a damaged header ({error}); copy it again.") from error
    if position != data_bytes:
        raise RefusedError(f"{path} is cut off or damaged: {data_bytes:,} bytes of data, {position:,} expected.")
    return shapes


def _our_json(path: Path, metadata: Any) -> dict[str, Any]:
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise RefusedError(f"{path} is a safetensors file, but agile3d did not write it (no {KEY!r} in its metadata).")
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"{path} has damaged metadata: {KEY!r} is not JSON.") from error
    if not isinstance(meta, dict):
        raise RefusedError(f"{path} has damaged metadata: {KEY!r} is not a table.")
    return meta


def read_tensors(card: Card) -> dict[str, Tensor]:
    """Reads the numbers of a checked file, on the CPU.

    Raises:
        RefusedError: the checksum does not fit, or a number is not finite.
    """
    import safetensors
    import safetensors.torch

    try:
        tensors = safetensors.torch.load(card.path.read_bytes())
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise RefusedError(f"{card.path} cannot be read as safetensors ({error}); copy it again.") from error
    expected = card.meta.get("checksum")
    if expected is not None and checksum(card.meta, tensors) != expected:
        raise RefusedError(f"{card.path} was changed or damaged after it was written (wrong checksum); copy it again.")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise RefusedError(f"{card.path} holds numbers that are not finite in {name!r}.")
    return tensors


def write_file(path: Path, meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Writes a file whole or not at all; the same content gives the same bytes.

    Args:
        path: where to.
        meta: our JSON with ``format`` and ``version``; ``checksum`` is added.
        tensors: by name; moved to the CPU.

    Returns:
        SHA-256 of the file.

    Raises:
        OutputError: the place cannot be written.
    """
    import safetensors.torch

    from agile3d_cli.image import write_whole

    # Copies: the container refuses tensors that share memory.
    copies = {name: tensors[name].detach().cpu().clone().contiguous() for name in sorted(tensors)}
    complete = {**meta, "checksum": checksum(meta, copies)}
    data = safetensors.torch.save(copies, {KEY: _canonical(complete)})
    write_whole(path, lambda stream: stream.write(data))
    return hashlib.sha256(data).hexdigest()


def checksum(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over everything a file says and holds, apart from the checksum itself."""
    import torch

    digest = hashlib.sha256(_canonical({key: value for key, value in meta.items() if key != "checksum"}).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _canonical(meta: Mapping[str, Any]) -> str:
    return json.dumps(meta, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
