"""The steps of a pickle, carried out with a closed table of names: bytes -> what they describe, and nothing else.

A pickle is a program for a small stack machine. This is such a machine without what makes pickles dangerous: a name
stands for an entry of a table of our own or the file is refused, and only these entries are ever called. Steps that
weights do not need are not known. What calls may copy is counted, so that a short description cannot fill the memory.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol, cast

LARGEST, MOST_STEPS = 64 << 20, 4_000_000
"""Bytes and steps of a description."""
VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "SHORT_BINSTRING",
    "BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
"""Steps that push what they are given."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
REMEMBERED = {"PUT", "BINPUT", "LONG_BINPUT"}
RECALLED = {"GET", "BINGET", "LONG_BINGET"}
LISTS = {"APPEND", "APPENDS"}
FREE = 1 << 16
"""Entries and bytes that calls may be given beyond twice the length of the description. Weights need less than that
length; more is asked for only where one large thing is copied again and again."""
IGNORED = {"PROTO", "FRAME"}


class StepError(Exception):
    """Why a description is not carried out."""


@dataclass(frozen=True)
class Shell:
    """In place of a class that is neither imported nor needed: what it makes holds its state and does nothing."""

    name: str
    """With its module."""

    def __call__(self) -> Thing:
        return Thing(self.name)


class Standin:
    """Base of what table entries make: objects that take their state from a description."""

    def build(self, state: Any) -> None:
        """Takes over what the description says of it."""


class Thing(Standin):
    """An object of a class that is not known here: its state as data."""

    def __init__(self, name: str, state: Any = None):
        self.name, self.state = name, state

    def build(self, state: Any) -> None:
        self.state = state


class Entries(dict[Any, Any]):
    """In place of an ordered dictionary; what is set on it besides its entries is left away."""

    def __init__(self, pairs: Any = ()) -> None:
        made = dict[Any, Any]()
        for key, value in pairs.items() if isinstance(pairs, dict) else pairs:
            made[check_key(key)] = value
        super().__init__(made)

    def build(self, state: Any) -> None:
        """Nothing of it is needed."""


def check_key(key: Any) -> Any:
    """A name of an entry, or a member of a set: text, a number, or a flat tuple of these.

    Deeper tuples would take Python's own recursion, which ends the program, or endless time to tell apart.
    """
    for part in key if isinstance(key, tuple) else (key,):
        if not isinstance(part, str | bytes | int | float | complex | None):
            raise StepError("it names things by what is neither text nor a number")
    return key


def text_of(value: Any) -> str:
    """A value that has to be a text."""
    if not isinstance(value, str):
        raise StepError("it has something else where a text belongs")
    return value


class Description(Protocol):
    """Bytes that are read from the front, such as a file that is mapped into memory."""

    def __len__(self) -> int: ...

    def read(self, count: int = -1, /) -> bytes: ...

    def readline(self) -> bytes: ...

    def tell(self) -> int: ...


def end_of(data: bytes, start: int) -> int:
    """Where the description that begins at ``start`` ends."""
    stream, last = io.BytesIO(data), start
    stream.seek(start)
    for _, _, place in pickletools.genops(stream):
        last = place or last
    return last + 1


def carry_out(
    data: bytes | Description,
    table: Mapping[tuple[str, str], Any],
    refer: Callable[[Any], Any] | None = None,
    shells: tuple[str, ...] = (),
    largest: int | None = None,
) -> Any:
    """What a description says.

    Args:
        data: the pickle.
        table: (module, name) -> what stands for it; callables are called with what the description gives them.
        refer: makes what the description refers to outside of itself.
        shells: beginnings of modules all of whose names stand for a ``Shell``.
        largest: bytes that it may have, ``LARGEST`` unless told.

    Raises:
        StepError: it takes a step or a name that is not known, or is too large.
        ValueError, IndexError, KeyError, TypeError: it is damaged.
    """
    size, bound = len(data), LARGEST if largest is None else largest
    if size > bound:
        raise StepError(f"its description is larger than {bound >> 20} MiB")
    machine = _Machine(table, refer, shells, 2 * size + FREE)
    for count, (step, argument, _) in enumerate(pickletools.genops(cast(bytes, data))):
        if count > MOST_STEPS:
            raise StepError("its description has too many steps")
        machine.take(step.name, argument)
    (result,) = machine.stack
    return result


class _Machine:
    """Stack, marks and what was remembered."""

    def __init__(
        self,
        table: Mapping[tuple[str, str], Any],
        refer: Callable[[Any], Any] | None,
        shells: tuple[str, ...],
        allowance: int,
    ):
        self.stack: list[Any] = []
        self._table, self._refer, self._shells, self._allowance = table, refer, shells, allowance
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def take(self, step: str, argument: Any) -> None:
        """Carries out one step."""
        stack = self.stack
        if step in VALUES:
            stack.append(argument)
        elif step in CONSTANTS:
            stack.append(CONSTANTS[step])
        elif step in REMEMBERED:
            self._memo[int(argument)] = stack[-1]
        elif step == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif step in RECALLED:
            stack.append(self._memo[int(argument)])
        elif step == "MARK":
            self._marks.append(len(stack))
        elif step in TUPLES:
            stack.append(tuple(self._popped(TUPLES[step])))
        elif step == "TUPLE":
            stack.append(tuple(self._marked()))
        elif step in ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"):
            stack.append({"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}[step]())
        elif step in LISTS:
            self._of(list, items := self._popped(1) if step == "APPEND" else self._marked()).extend(items)
        elif step in ("SETITEM", "SETITEMS"):
            items = self._popped(2) if step == "SETITEM" else self._marked()
            self._of(dict, items).update(zip(map(check_key, items[::2]), items[1::2], strict=True))
        elif step == "ADDITEMS":
            self._of(set, items := self._marked()).update(map(check_key, items))
        elif step == "LIST":
            stack.append(self._marked())
        elif step == "DICT":
            items = self._marked()
            stack.append(dict(zip(map(check_key, items[::2]), items[1::2], strict=True)))
        elif step == "FROZENSET":
            stack.append(frozenset(map(check_key, self._marked())))
        elif step == "GLOBAL":
            stack.append(self._named(*str(argument).split(" ", 1)))
        elif step == "STACK_GLOBAL":
            stack.append(self._named(*self._popped(2)))
        elif step in ("REDUCE", "NEWOBJ"):
            self._call(*self._popped(2))
        elif step == "BUILD":
            (state,) = self._popped(1)
            if not isinstance(stack[-1], Standin | Entries):
                raise StepError("its description changes what it may not change")
            self._count(state)
            stack[-1].build(state)
        elif step == "BINPERSID" and self._refer is not None:
            stack.append(self._refer(*self._popped(1)))
        elif step not in IGNORED and step != "STOP":
            raise StepError(f"its description takes the step {step}, which weights do not need")

    def _popped(self, count: int) -> list[Any]:
        low = self._marks[-1] if self._marks else 0
        if len(self.stack) - count < low:
            raise IndexError(count)
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _marked(self) -> list[Any]:
        start = self._marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _of(self, kind: type, items: list[Any]) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise StepError(f"its description puts {len(items)} items into something else than a {kind.__name__}")
        return self.stack[-1]

    def _named(self, module: Any, name: Any) -> Any:
        module, name = text_of(module), text_of(name)
        if (module, name) not in self._table:
            if module.startswith(self._shells):
                return Shell(f"{module}.{name}")
            raise StepError(f"it asks for {module}.{name}, which weights do not need")
        return self._table[module, name]

    def _call(self, entry: Any, arguments: Any) -> None:
        known = isinstance(entry, Shell) or any(entry is known for known in self._table.values())
        if not known or not callable(entry):
            raise StepError("its description calls what may not be called")
        if not isinstance(arguments, tuple):
            raise TypeError(arguments)
        self._count(arguments)
        self.stack.append(entry(*arguments))

    def _count(self, given: Any, deep: bool = True) -> None:
        """Whatever is given to a call may be copied by it, once."""
        self._allowance -= len(given) if isinstance(given, Sized) else 1
        if self._allowance < 0:
            raise StepError("its description copies one thing again and again")
        if deep and isinstance(given, tuple):
            for item in given:
                self._count(item, deep=False)
