"""Checkpoint files of other programs -> plain data and tensors. Nothing in them is run.

PyTorch's files (zip and the older format) and numpy's object files are described by pickles, which are carried out by a
machine of our own with a closed table (``foreign_steps.py``): the few names that weights need stand for harmless
things, any other name refuses the file. Sizes are checked before memory is taken.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models.foreign_steps import Entries, Standin, StepError, carry_out, end_of

LARGEST_FILE = 8 << 30
"""Bytes."""
MOST_ITEMS, DEEPEST = 2_000_000, 64
"""Entries of what a file holds, and how deep they are nested."""
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PARTS = 5
"""Pickles at the head of an old PyTorch file: magic number, version, system, data, order of the storages."""
NUMPY_MAGIC = b"\x93NUMPY"
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
NUMBERS = {"f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "b1"}
"""Types of numpy's arrays that are read."""


def read_checkpoint(path: Path) -> Any:
    """What a PyTorch file holds: dictionaries, lists, tuples, numbers, strings and tensors on the CPU.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is no PyTorch file, damaged, too large, or asks for anything but weights.
    """
    return _guarded(path, _read_zip if _is_zip(path) else _read_legacy)


def read_exemplar_codes(path: Path) -> dict[str, Tensor]:
    """Named arrays of a numpy object file (``exstyle_code.npy``) as tensors, in the order of the file.

    Raises:
        MissingError: there is no such file.
        RefusedError: it is something else, damaged, or asks for anything but arrays.
    """
    found = _guarded(path, _read_numpy)
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise RefusedError(f"{path} holds no named arrays; an exstyle_code.npy of DualStyleGAN is expected.")
    return {str(name): value for name, value in found.items()}


def _is_zip(path: Path) -> bool:
    if not path.is_file():
        raise MissingError(f"There is no file {path}; check the path.")
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _guarded(path: Path, read: Callable[[Path], Any]) -> Any:
    if not path.is_file():
        raise MissingError(f"There is no file {path}; check the path.")
    if path.stat().st_size > LARGEST_FILE:
        raise RefusedError(f"{path} is larger than {LARGEST_FILE >> 30} GiB; it is not read.")
    try:
        return _Plain().of(read(path))
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


def _read_zip(path: Path) -> Any:
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
        storages: dict[str, _Storage] = {}
        found = _load(archive.read(named[heads[0]]), storages)
        for key, storage in storages.items():
            storage.fill(archive.read(f"{folder}data/{key}"))
    return found


def _read_legacy(path: Path) -> Any:
    data = path.read_bytes()
    parts: list[Any] = []
    place, storages = 0, dict[str, _Storage]()
    for _ in range(LEGACY_PARTS):
        end = end_of(data, place)
        parts.append(_load(data[place:end], storages))
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
        storage.fill(data[place : place + size])
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
    if isinstance(found, _Array) and isinstance(found.content, list) and len(found.content) == 1:
        return found.content[0]
    raise StepError("it holds an array and not named arrays")


def _load(data: bytes, storages: dict[str, _Storage]) -> Any:
    """Carries out one description; storages that it refers to are noted by their key."""

    def refer(pid: Any) -> _Storage:
        kind, dtype, key, _, count = pid[:5]
        if kind != "storage" or not isinstance(dtype, _Kind) or not isinstance(key, str) or not _is_size(count):
            raise StepError("it refers to something that is no storage")
        storage = storages.setdefault(key, _Storage(dtype.dtype, count))
        if (storage.dtype, storage.count) != (dtype.dtype, count):
            raise StepError("it describes one storage in two ways")
        return storage

    return carry_out(data, _TABLE, refer)


@dataclass(frozen=True)
class _Kind:
    """In place of a storage class: what its numbers are."""

    dtype: torch.dtype


class _Storage:
    """Numbers that several tensors may share; they come after the description."""

    def __init__(self, dtype: torch.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.numbers: Tensor | None = None

    def fill(self, data: bytes) -> None:
        if len(data) != self.count * self.dtype.itemsize:
            raise StepError("a storage has another size than its tensors expect")
        self.numbers = torch.frombuffer(bytearray(data), dtype=self.dtype) if data else torch.empty(0, dtype=self.dtype)


class _Strided:
    """A tensor, before its numbers are there."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any):
        sound = isinstance(storage, _Storage) and _is_size(offset) and len(size) == len(stride)
        if not sound or not all(_is_size(n) for n in (*size, *stride)):
            raise StepError("a tensor is not described as a tensor")
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(self.size)
        if count and (count > storage.count or last >= storage.count):
            raise StepError("a tensor reaches beyond its storage")

    def tensor(self) -> Tensor:
        if self.storage.numbers is None:
            raise StepError("the numbers of a tensor are not in the file")
        if not math.prod(self.size):
            return torch.empty(self.size, dtype=self.storage.dtype)
        return torch.as_strided(self.storage.numbers, self.size, self.stride, self.offset).clone()


class _Namespace(Standin):
    """In place of argparse's: its attributes."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def build(self, state: Any) -> None:
        self.values = dict(state)


class _Type(Standin):
    """In place of a numpy type."""

    def __init__(self, code: Any = None, *_: Any):
        self.code, self.order = str(code), "<"

    def build(self, state: Any) -> None:
        self.order = str(state[1])


class _Array(Standin):
    """In place of a numpy array."""

    def __init__(self, *_: Any) -> None:
        self.content: Any = None

    def build(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type) or not all(_is_size(n) for n in shape):
            raise StepError("an array is not described as an array")
        if kind.code.startswith("O"):
            self.content = content
            return
        if kind.code not in NUMBERS or kind.order not in "<|=" or not isinstance(content, bytes):
            raise StepError(f"an array holds {kind.order}{kind.code}, which is not read")
        numbers = np.frombuffer(content, kind.code)
        self.content = torch.from_numpy(numbers.reshape(shape, order="F" if by_columns else "C").copy())


def _parameter(value: Any, *_: Any) -> Any:
    return value


def _device(*names: Any) -> str:
    return ":".join(map(str, names))


def _size(numbers: Any = ()) -> tuple[Any, ...]:
    return tuple(numbers)


def _encoded(text: Any, codec: Any = "latin1") -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise StepError("it encodes text in an odd way")
    return str(text).encode("latin1")


_TABLE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Entries,
    ("argparse", "Namespace"): _Namespace,
    ("torch._utils", "_rebuild_tensor_v2"): _Strided,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "device"): _device,
    ("torch", "Size"): _size,
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    **{("torch", name): _Kind(dtype) for name, dtype in STORAGES.items()},
}


class _Plain:
    """Turns what a pickle made into plain data and tensors."""

    def __init__(self) -> None:
        self._items = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        self._items += 1
        if self._items > MOST_ITEMS or depth > DEEPEST:
            raise StepError("what it holds is too large or nested too deep")
        if isinstance(value, _Strided):
            return value.tensor()
        if isinstance(value, _Array):
            return self.of(value.content, depth + 1)
        if isinstance(value, _Namespace):
            return self.of(value.values, depth + 1)
        if isinstance(value, dict):
            return {self._key(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            made = [self.of(item, depth + 1) for item in value]
            return tuple(made) if isinstance(value, tuple) else made
        if value is None or isinstance(value, str | bytes | bool | int | float | complex | Tensor):
            return value
        raise StepError("it holds things that are neither numbers, text nor tensors")

    @staticmethod
    def _key(key: Any) -> Any:
        if isinstance(key, str | int | float | bool | bytes | type(None)):
            return key
        raise StepError("it names things by what is neither text nor a number")


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 40
