"""What stands for the things that checkpoint files are made of: storages, tensors, arrays, namespaces. All inert.

``foreign_steps.py`` carries a description out with these in place of the named classes; ``Plain`` then turns them into
plain data and tensors. Sizes are checked before memory is taken, and tensors together may not be much larger than the
file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agile3d_cli.models.foreign_steps import Entries, Standin, StepError, check_key, text_of

MOST_ITEMS, DEEPEST = 2_000_000, 64
"""Entries of what a file holds, and how deep they are nested."""
SHARED, SMALL = 4, 1 << 20
"""Tensors may together have so many times the bytes of their file (some share their numbers) and so many more."""
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


@dataclass(frozen=True)
class Kind:
    """In place of a storage class: what its numbers are."""

    dtype: torch.dtype


class Storage:
    """Numbers that several tensors may share; they come after the description."""

    def __init__(self, dtype: torch.dtype, count: int):
        self.dtype, self.count = dtype, count
        self._data: bytes | memoryview | None = None
        self._numbers: Tensor | None = None

    def fill(self, data: bytes | memoryview) -> None:
        """Takes the numbers as they lie in the file."""
        if len(data) != self.count * self.dtype.itemsize:
            raise StepError("a storage has another size than its tensors expect")
        self._data = data

    def numbers(self) -> Tensor:
        """All of them, (count,)."""
        if self._numbers is None:
            if self._data is None:
                raise StepError("the numbers of a tensor are not in the file")
            empty = torch.empty(0, dtype=self.dtype)
            self._numbers = torch.frombuffer(bytearray(self._data), dtype=self.dtype) if self._data else empty
            self._data = b""
        return self._numbers


class Strided:
    """A tensor, before its numbers are there."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any):
        sound = isinstance(storage, Storage) and is_size(offset) and len(size) == len(stride)
        if not sound or not all(is_size(n) for n in (*size, *stride)):
            raise StepError("a tensor is not described as a tensor")
        self.storage, self.offset, self.size, self.stride = storage, offset, tuple(size), tuple(stride)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        count = math.prod(self.size)
        if count and (count > storage.count or last >= storage.count):
            raise StepError("a tensor reaches beyond its storage")
        self.bytes = count * storage.dtype.itemsize

    def tensor(self) -> Tensor:
        """The tensor with numbers of its own."""
        numbers = self.storage.numbers()
        if not self.bytes:
            return torch.empty(self.size, dtype=self.storage.dtype)
        return torch.as_strided(numbers, self.size, self.stride, self.offset).clone()


class _Namespace(Standin):
    """In place of argparse's: its attributes."""

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}

    def build(self, state: Any) -> None:
        self.values = Entries(state)


class _Type(Standin):
    """In place of a numpy type."""

    def __init__(self, code: Any = None, *_: Any):
        self.code, self.order = text_of(code), "<"

    def build(self, state: Any) -> None:
        self.order = text_of(state[1])

    def read(self, content: Any) -> np.ndarray:
        """Numbers of this type."""
        if self.code not in NUMBERS or self.order not in "<|=" or not isinstance(content, bytes):
            raise StepError(f"an array holds {self.order}{self.code}, which is not read")
        return np.frombuffer(content, self.code)


class Array(Standin):
    """In place of a numpy array."""

    def __init__(self, *_: Any) -> None:
        self.content: Any = None

    def build(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _Type) or not all(is_size(n) for n in shape):
            raise StepError("an array is not described as an array")
        if kind.code.startswith("O"):
            self.content = content
            return
        numbers = kind.read(content)
        self.content = torch.from_numpy(numbers.reshape(shape, order="F" if by_columns else "C").copy())


def _parameter(value: Any, *_: Any) -> Any:
    return value


def _device(*names: Any) -> str:
    return ":".join(name if isinstance(name, str) else f"{int(name)}" for name in names)


def _size(numbers: Any = ()) -> tuple[Any, ...]:
    return tuple(numbers)


def _encoded(text: Any, codec: Any = "latin1") -> bytes:
    if codec not in ("latin1", "latin-1"):
        raise StepError("it encodes text in an odd way")
    return text_of(text).encode("latin1")


def number_of(kind: Any, content: Any) -> Any:
    """In place of a single number of numpy: the number."""
    if not isinstance(kind, _Type):
        raise StepError("a number is not described as a number")
    (value,) = kind.read(content).tolist()
    return value


TABLE: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Entries,
    ("argparse", "Namespace"): _Namespace,
    ("torch._utils", "_rebuild_tensor_v2"): Strided,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "device"): _device,
    ("torch", "Size"): _size,
    ("_codecs", "encode"): _encoded,
    ("numpy", "dtype"): _Type,
    ("numpy", "ndarray"): Array,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "_reconstruct"): Array,
    **{("torch", name): Kind(dtype) for name, dtype in STORAGES.items()},
}
"""What the names in files of weights stand for. No other name is known."""


class Plain:
    """Turns what a description made into plain data and tensors.

    Args:
        file_bytes: size of the file, which bounds the memory that its tensors may take.
        most: entries that there may be, ``MOST_ITEMS`` unless told.
    """

    def __init__(self, file_bytes: int, most: int | None = None) -> None:
        self._items, self._left = MOST_ITEMS if most is None else most, SHARED * file_bytes + SMALL

    def of(self, value: Any, depth: int = 0) -> Any:
        """Dictionaries, lists, tuples, numbers, strings and tensors.

        Raises:
            StepError: it is something else, or too large.
        """
        self._items -= 1
        if self._items < 0 or depth > DEEPEST:
            raise StepError("what it holds is too large or nested too deep")
        if isinstance(value, Strided):
            self._left -= value.bytes
            if self._left < 0:
                raise StepError("its tensors are far larger than the file")
            return value.tensor()
        if isinstance(value, Array):
            return self.of(value.content, depth + 1)
        if isinstance(value, _Namespace):
            return self.of(value.values, depth + 1)
        if isinstance(value, dict):
            return {check_key(key): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            made = [self.of(item, depth + 1) for item in value]
            return tuple(made) if isinstance(value, tuple) else made
        if value is None or isinstance(value, str | bytes | bool | int | float | complex | Tensor):
            return value
        raise StepError("it holds things that are neither numbers, text nor tensors")


def is_size(number: Any) -> bool:
    """Whether it can be a count of numbers."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 1 << 40
