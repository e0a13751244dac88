"""Checkpoint files of other programs -> plain data and tensors. Nothing in them is run.

PyTorch's files (zip and the older format) and numpy's object files are described by pickles, which are carried out by a
machine of our own with a closed table (``foreign_steps.py``): the few names that weights need stand for harmless
things (``foreign_values.py``), any other name refuses the file. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models.foreign_steps import Shell, StepError, carry_out, end_of
from agile3d_cli.models.foreign_values import TABLE, Array, Kind, Plain, Storage, is_size

LARGEST_FILE = 8 << 30
"""Bytes."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PARTS = 5
"""Pickles at the head of an old PyTorch file: magic number, version, system, data, order of the storages."""
NUMPY_MAGIC = b"\x93NUMPY"
Table = Mapping[tuple[str, str], Any]


def read_checkpoint(path: Path) -> Any:
    """What a PyTorch file holds: dictionaries, lists, tuples, numbers, strings and tensors on the CPU.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is no PyTorch file, damaged, too large, or asks for anything but weights.
    """
    return guarded(path, lambda plain: plain.of((read_zip if is_zip(path) else _read_legacy)(path)))


def read_exemplar_codes(path: Path) -> dict[str, Tensor]:
    """Named arrays of a numpy object file (``exstyle_code.npy``) as tensors, in the order of the file.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is something else, damaged, or asks for anything but arrays.
    """
    found = guarded(path, lambda plain: plain.of(_read_numpy(path)))
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise RefusedError(f"{path} holds no named arrays; an exstyle_code.npy of DualStyleGAN is expected.")
    return {str(name): value for name, value in found.items()}


def is_zip(path: Path) -> bool:
    """Whether it begins as a zip file."""
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def guarded(path: Path, read: Callable[[Plain], Any], largest: int | None = None) -> Any:
    """What ``read`` returns, with whatever goes wrong in a file of others told as the file's fault.

    Args:
        path: the file, for its size and for messages.
        read: is given what turns values of the file into plain data.
        largest: bytes that the file may have, ``LARGEST_FILE`` unless told.
    """
    if not path.is_file():
        raise MissingError(f"There is no file {path}; check the path.")
    size, bound = path.stat().st_size, LARGEST_FILE if largest is None else largest
    if size > bound:
        raise RefusedError(f"{path} is larger than {bound >> 30} GiB; it is not read.")
    try:
        return read(Plain(size))
    except StepError as error:
        raise RefusedError(f"{path} is refused: {error}.") from error
    except (
        zipfile.BadZipFile,
        struct.error,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        EOFError,
        OverflowError,
        NotImplementedError,
        RecursionError,
    ) as error:
        raise RefusedError(f"{path} is damaged or no checkpoint ({type(error).__name__}); nothing was read.") from error


def read_zip(path: Path, table: Table = TABLE, shells: tuple[str, ...] = ()) -> Any:
    """What a file of PyTorch describes, as the things of ``table``; names below ``shells`` are inert classes."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) != len(members):
            raise StepError("two of its parts have one name")
        if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
            raise StepError("its parts are compressed or encrypted, as PyTorch's never are")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise StepError("its parts are larger than the file")
        named = {member.filename: member for member in members}
        heads = [name for name in named if name.endswith("/data.pkl")]
        if len(heads) != 1:
            raise StepError("it is a zip file, but not PyTorch's")
        folder = heads[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in named and archive.read(f"{folder}byteorder") != b"little":
            raise StepError("its numbers are big-endian")
        storages: dict[str, Storage] = {}
        found = _load(archive.read(named[heads[0]]), storages, table, shells)
        for key, storage in storages.items():
            storage.fill(archive.read(f"{folder}data/{key}"))
    return found


def _read_legacy(path: Path) -> Any:
    return read_legacy(path.read_bytes())


def read_legacy(data: bytes, table: Table = TABLE, shells: tuple[str, ...] = ()) -> Any:
    """What a file of PyTorch in its older format describes, see ``read_zip``."""
    parts: list[Any] = []
    place, storages = 0, dict[str, Storage]()
    for _ in range(LEGACY_PARTS):
        end = end_of(data, place)
        parts.append(_load(data[place:end], storages, table, shells))
        if parts[0] != LEGACY_MAGIC:
            raise StepError("it is not a PyTorch file")
        place = end
    if not isinstance(parts[2], dict) or parts[2].get("little_endian") is not True:
        raise StepError("its numbers are big-endian")
    for key in parts[4]:
        storage = storages[key]
        (count,) = struct.unpack_from("<q", data, place)
        if count != storage.count:
            raise StepError("a storage has another size than its tensors expect")
        place += 8
        size = count * storage.dtype.itemsize
        storage.fill(memoryview(data)[place : place + size])
        place += size
    return parts[3]


def _read_numpy(path: Path) -> Any:
    with path.open("rb") as stream:
        if stream.read(len(NUMPY_MAGIC)) != NUMPY_MAGIC:
            raise StepError("it is not a numpy file")
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise StepError(f"its format {version} is not known")
        shape, _, dtype = readers[version](stream)
        if shape != () or dtype != np.dtype(object):
            raise StepError("it holds an array and not named arrays")
        found = _load(stream.read(), {})
    if isinstance(found, Array) and isinstance(found.content, list) and len(found.content) == 1:
        return found.content[0]
    raise StepError("it holds an array and not named arrays")


def _load(data: bytes, storages: dict[str, Storage], table: Table = TABLE, shells: tuple[str, ...] = ()) -> Any:
    """Carries out one description; storages that it refers to are noted by their key."""

    def refer(pid: Any) -> Storage | Shell:
        if len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], Shell):
            # The older format names classes together with their source text, which is not looked at.
            return pid[1]
        kind, dtype, key, _, count, *view = pid
        if kind != "storage" or not isinstance(dtype, Kind) or not isinstance(key, str) or not is_size(count):
            raise StepError("it refers to something that is no storage")
        if any(part is not None for part in view):
            raise StepError("it refers to a part of a storage")
        storage = storages.setdefault(key, Storage(dtype.dtype, count))
        if (storage.dtype, storage.count) != (dtype.dtype, count):
            raise StepError("it describes one storage in two ways")
        return storage

    return carry_out(data, table, refer, shells)
