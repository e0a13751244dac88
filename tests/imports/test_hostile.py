"""Files that want to run something, fill the memory or pass for a network: `models import` refuses each in a sentence.

The steps of plain PyTorch files are tried in ``tests/models/test_foreign_files.py``; these are the ones of network
pickles and of the command as a whole. A canary in the current folder would tell if anything had been run.
"""

from __future__ import annotations

import gzip
import io
import json
import pickle  # noqa: TID251 (the format under test)
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from agile3d_cli.cli.app import app

SYSTEM = "touch touched"
PYTHON = "open('touched', 'w').close()"
NAMES = (Path(__file__).parent / "names.txt").read_text().split()
"""What files like to call: shells, Python itself, loaders of other files, and the family's own loaders."""


def call(name: str, *arguments: str) -> bytes:
    """The steps of a call of a name with texts."""
    module, _, last = name.rpartition(".")
    return b"c" + f"{module or last}\n{last}\n".encode() + b"(" + b"".join(map(_text, arguments)) + b"tR"


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def in_network(steps: bytes) -> bytes:
    """A network pickle whose ``G_ema`` is described by ``steps``."""
    return b"\x80\x02}" + _text("G_ema") + steps + b"s."


def persistent(state: bytes, name: bytes = b"", source: str = PYTHON) -> bytes:
    """The steps of an object of the family with a state."""
    meta = b"}(" + _text("type") + _text("class") + _text("module_src") + _text(source)
    meta += _text("class_name") + (name or _text("TriPlaneGenerator")) + _text("state") + state + b"u"
    return b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n(" + meta + b"tR"


def state(**parts: bytes) -> bytes:
    """The steps of a state."""
    return b"}(" + b"".join(_text(name) + steps for name, steps in parts.items()) + b"u"


def nested(data: bytes) -> bytes:
    """The steps of a file within the file."""
    return b"ctorch.storage\n_load_from_bytes\n(B" + struct.pack("<I", len(data)) + data + b"tR"


def tensor(of: bytes, size: int = 4) -> bytes:
    """The steps of a tensor."""
    number = struct.pack("<i", size)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + of + b"K\x00(J" + number + b"t(K\x01t\x89NtR"


def zipped_storage() -> bytes:
    """A tensor as PyTorch's newer files hold it."""
    stream = io.BytesIO()
    torch.save(torch.zeros(4), stream)  # noqa: TID251 (the format under test)
    return stream.getvalue()


def storage(count: int = 4) -> bytes:
    """A storage alone in the older format, as it lies in network pickles."""
    data: bytes = torch.zeros(count)._typed_storage().__reduce__()[1][0]
    return data


CALL = call("os.system", SYSTEM)
ANCHOR = state(_buffers=state(w_avg=tensor(nested(storage()))))
MAPPING = state(_modules=state(mapping=persistent(ANCHOR)))
GOOD = {"_modules": state(backbone=persistent(MAPPING))}
"""As far as it goes: an object with one tensor, under the name that is looked for."""

FILES: dict[str, Callable[[], bytes]] = {
    **{f"calls {name}": lambda name=name: in_network(call(name, SYSTEM)) for name in NAMES},
    "the whole file is a call": lambda: b"\x80\x02" + CALL + b".",
    "a call in a call": lambda: in_network(b"cbuiltins\neval\n(" + CALL + b"tR"),
    "eval by getattr": lambda: in_network(b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n" + _text("eval") + b"tR)R"),
    "what a call gave is called": lambda: in_network(persistent(state(**GOOD)) + b")R"),
    "a shell is called with arguments": lambda: in_network(b"ctraining.x\nGenerator\n(" + _text(SYSTEM) + b"tR"),
    "a shell of a shell": lambda: in_network(b"ctraining.x\nGenerator\n)R)R"),
    "a shell that is no object": lambda: in_network(b"ctraining.x\nGenerator\n"),
    "a shell called os.system": lambda: in_network(b"ctraining.os\nsystem\n(" + _text(SYSTEM) + b"tR"),
    "a name put together late": lambda: in_network(_text("o") + _text("system") + b"\x93" + _text("x") + b"\x85R"),
    "a name with a dot": lambda: in_network(b"\x8c\x02os\x8c\x0fsystem.__call__\x93)R"),
    "a name that is a number": lambda: in_network(b"K\x01K\x02\x93"),
    "INST": lambda: in_network(b"(" + _text(SYSTEM) + b"ios\nsystem\n"),
    "OBJ": lambda: in_network(b"(cos\nsystem\n" + _text(SYSTEM) + b"o"),
    "NEWOBJ": lambda: in_network(b"csubprocess\nPopen\n" + _text(SYSTEM) + b"\x85\x81"),
    "NEWOBJ_EX": lambda: in_network(b"csubprocess\nPopen\n)}\x92"),
    "an extension": lambda: in_network(b"\x82\x01"),
    "a reference to outside": lambda: in_network(_text("x") + b"Q"),
    "a reference by text": lambda: in_network(b"Px\n"),
    "a buffer from outside": lambda: in_network(b"\x97"),
    "a call in the state": lambda: in_network(persistent(state(**GOOD, rendering_kwargs=CALL))),
    "a call for a name": lambda: in_network(persistent(state(**GOOD), name=CALL)),
    "a call among the parameters": lambda: in_network(persistent(state(_parameters=state(x=CALL)))),
    "a call beside the network": lambda: b"\x80\x02}(" + _text("D") + CALL + _text("G_ema") + b"Nu.",
    "a call after the network": lambda: in_network(persistent(state(**GOOD)))[:-1] + CALL + b"0.",
    "a call in the nested file": lambda: in_network(tensor(nested(_spoilt(storage(), CALL)))),
    "a nested file in a nested file": lambda: in_network(tensor(nested(_spoilt(storage(), nested(storage()))))),
    "a nested object of the family": lambda: in_network(tensor(nested(_spoilt(storage(), persistent(b"}"))))),
    "a nested network": lambda: in_network(tensor(nested(in_network(b"N")))),
    "a nested zip": lambda: in_network(tensor(nested(zipped_storage()))),
    "a nested text": lambda: in_network(b"ctorch.storage\n_load_from_bytes\n(" + _text("x") + b"tR"),
    "a nested file that is cut off": lambda: in_network(tensor(nested(storage()[:-3]))),
    "a tensor beyond its storage": lambda: in_network(tensor(nested(storage()), 5)),
    "an object without a description": lambda: in_network(
        b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n(NtR"
    ),
    "an object with two descriptions": lambda: in_network(
        b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n(}}tR"
    ),
    "an object without a state": lambda: in_network(persistent(b"N")),
    "a state that is a list": lambda: in_network(persistent(b"]")),
    "parameters that are a list": lambda: in_network(persistent(state(_parameters=b"]"))),
    "parts that are texts": lambda: in_network(persistent(state(_modules=state(a=_text("x"))))),
    "a tensor that is a text": lambda: in_network(_anchored(_text("x"))),
    "a tensor that is an object": lambda: in_network(_anchored(persistent(b"}"))),
    "an object in itself": lambda: in_network(
        persistent(b"}q\x01" + _text("_modules") + state(a=b"Nq\x02")[:-1] + b"us")
    ),
    "objects in objects": lambda: in_network(_deep(100)),
    "one object in many places": lambda: in_network(_wide(40)),
    "a dictionary in itself": lambda: b"\x80\x02}q\x01" + _text("G_ema") + b"h\x01s.",
    "no generator": lambda: in_network(b"N"),
    "another network": lambda: in_network(persistent(state(_parameters=state(x=tensor(nested(storage())))))),
    "a generator without its tensors": lambda: in_network(persistent(state(**GOOD))),
    "a text as long as the disk": lambda: b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"x.",
    "bytes as long as the memory": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"x.",
    "a number of two gigabytes": lambda: b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "a number of many digits": lambda: b"L" + b"9" * 50_000 + b"L\n.",
    "a storage of a terabyte": lambda: in_network(tensor(nested(_counted(storage(), 1 << 38)))),
    "a thousand copies of a storage": lambda: b"\x80\x02(" + b"ctorch.storage\n_load_from_bytes\n" + _copied(1000),
    "lists in lists": lambda: in_network(
        persistent(state(**GOOD, rendering_kwargs=_options(b"]" * 5000 + b"a" * 4999)))
    ),
    "tuples in tuples": lambda: in_network(persistent(state(**GOOD, rendering_kwargs=_options(b")" + b"\x85" * 2000)))),
    "tuples in tuples for a name": lambda: in_network(b"})" + b"\x85" * 300_000 + b"Ns"),
    "tuples in tuples in a set": lambda: in_network(b"\x8f()" + b"\x85" * 2000 + b"\x90"),
    "tuples in tuples for a set": lambda: in_network(b"cbuiltins\nset\n]()" + b"\x85" * 2000 + b"e\x85R"),
    "tuples in tuples for a module": lambda: in_network(b")" + b"\x85" * 2000 + _text("x") + b"\x93"),
    "tuples in tuples for a type": lambda: in_network(b"cnumpy\ndtype\n)" + b"\x85" * 2000 + b"\x85R"),
    "a tuple that doubles": lambda: in_network(b"cnumpy\ndtype\n)" + _doubled(60) + b"\x85R"),
    "a tuple that doubles for a name": lambda: in_network(b"})" + _doubled(60) + b"Ns"),
    "a tuple that doubles in the options": lambda: in_network(
        persistent(state(**GOOD, rendering_kwargs=_options(b")" + _doubled(60))))
    ),
    "options that are tensors": lambda: in_network(
        persistent(state(**GOOD, rendering_kwargs=_options(tensor(nested(storage())))))
    ),
    "options that are long": lambda: in_network(
        persistent(state(**GOOD, rendering_kwargs=_options(_text("x" * 100_000))))
    ),
    "nothing": lambda: b"",
    "one byte": lambda: b"\x80",
    "an unknown protocol": lambda: b"\x80\xff}.",
    "protocol 0": lambda: pickle.dumps({"G_ema": 1}, 0),
    "protocol 0 with a call": lambda: b"cos\nsystem\n(S'" + SYSTEM.encode() + b"'\ntR.",
    "no end": lambda: in_network(b"N")[:-1],
    "a picture": lambda: _picture(),
    "a web page": lambda: b"<!DOCTYPE html><html>Google Drive - Quota exceeded</html>",
    "a pointer to a large file": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n",
    "a packed pickle": lambda: gzip.compress(in_network(CALL)),
    "a program": lambda: b"\x7fELF" + bytes(64),
    "a script": lambda: b"#!/bin/sh\n" + SYSTEM.encode(),
    "an array": lambda: _array(False),
    "an array of objects": lambda: _array(True),
    "an empty zip": lambda: _zip({}),
    "a zip of something else": lambda: _zip({"a.txt": b"x"}),
    "a zip with a call": lambda: _zip({"a/data.pkl": b"\x80\x02" + CALL + b"."}),
    "a zip with an object that calls": lambda: _zip({"a/data.pkl": b"\x80\x02" + persistent(CALL) + b"."}),
    "a zip with two descriptions": lambda: _zip({"a/data.pkl": b"\x80\x02}.", "b/data.pkl": b"\x80\x02" + CALL + b"."}),
    "a zip with compiled code": lambda: _zip({"a/code/x.py": PYTHON.encode(), "a/constants.pkl": b"\x80\x02)."}),
    "a zip that grows": lambda: _zip({"a/data.pkl": bytes(10_000_000)}, zipfile.ZIP_DEFLATED),
    "a zip that leaves its folder": lambda: _zip({"../data.pkl": in_network(CALL)}),
    "a zip with one name twice": lambda: _zip({"a/data.pkl": b"\x80\x02}.", "a/data.pkL": b"x"}).replace(
        b"pkL", b"pkl"
    ),
    "a zip whose parts differ": lambda: _zip({"a/data.pkl": b"\x80\x02}."}).replace(b"a/data.pkl", b"b/data.pkl", 1),
    "a zip that is cut off": lambda: _zip({"a/data.pkl": b"\x80\x02}."})[:-10],
    "a safe file with a pickle for a header": lambda: _safe(in_network(CALL)),
    "a safe file with a call for a header": lambda: _safe(b"{" + CALL),
    "a safe file with a header of exabytes": lambda: struct.pack("<Q", 1 << 60) + b"{}",
    "a safe file whose tensors overlap": lambda: _safe(_overlapping(), bytes(16)),
    "a safe file of something else": lambda: _safe(json.dumps({}).encode()),
    "a safe file that calls itself ours": lambda: _safe(json.dumps({"__metadata__": {"agile3d": "{}"}}).encode()),
    "a safe file with a card that is no card": lambda: _safe(
        json.dumps({"__metadata__": {"agile3d": PYTHON}}).encode()
    ),
}


def _anchored(value: bytes) -> bytes:
    mapping = persistent(state(_buffers=state(w_avg=value)))
    return persistent(state(_modules=state(backbone=persistent(state(_modules=state(mapping=mapping))))))


def _spoilt(data: bytes, steps: bytes) -> bytes:
    """A nested file that describes ``steps`` in place of its storage."""
    start, end = data.index(b"(X\x07\x00\x00\x00storage"), data.index(b"Q.") + 1
    return data[:start] + steps + data[end:]


def _counted(data: bytes, count: int) -> bytes:
    """A nested file that says it has so many numbers."""
    assert b"K\x04N" in data
    return data.replace(b"K\x04N", b"\x8a\x06" + count.to_bytes(6, "little") + b"N")


def _copied(times: int) -> bytes:
    data = storage(100_000)
    first = b"(B" + struct.pack("<I", len(data)) + data + b"q\x01tR"
    return first + b"ctorch.storage\n_load_from_bytes\n(h\x01tR" * times + b"t."


def _deep(levels: int) -> bytes:
    steps = persistent(state(_modules=b"}"))
    for _ in range(levels):
        steps = persistent(state(_modules=state(a=steps)))
    return steps


def _options(value: bytes) -> bytes:
    return state(clamp_mode=value)


def _doubled(times: int) -> bytes:
    """A tuple of itself twice, again and again."""
    return b"".join(b"q" + bytes([k + 10]) + b"h" + bytes([k + 10]) + b"\x86" for k in range(times))


def _wide(levels: int) -> bytes:
    """Each object holds the next one twice: few steps, many places."""
    steps = persistent(state(_modules=b"}"))
    for k in range(levels):
        steps = persistent(state(_modules=state(a=steps + b"q" + bytes([k + 10]), b=b"h" + bytes([k + 10]))))
    return steps


def _zip(parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return stream.getvalue()


def _safe(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def _overlapping() -> bytes:
    entry = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    return json.dumps({"backbone.mapping.w_avg": entry, "x": entry}).encode()


def _picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    return stream.getvalue()


def _array(objects: bool) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array({"G_ema": 1}) if objects else np.zeros(3), allow_pickle=objects)
    return stream.getvalue()


def refused(path: Path, home: Path, canary: Path) -> str:
    """Imports a file; what the program says when it refuses it."""
    result = CliRunner().invoke(app, ["models", "import", str(path), "--name", "x"])
    assert result.exit_code == 5, result.output
    assert result.stdout == "" and str(path) in result.stderr
    assert (
        len(result.stderr) < 600
        and result.stderr.count("\n") == 1
        and result.stderr.rstrip().endswith((".", "--rendering."))
    )
    assert not canary.exists() and not list(home.rglob("*.safetensors"))
    return result.stderr


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused(name: str, tmp_path: Path, own_home: Path, canary: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(FILES[name]())
    said = refused(path, own_home, canary)
    if name.startswith("calls ") and "." in name:
        assert f"it asks for {name.removeprefix('calls ')}" in said


def test_there_are_many_of_them() -> None:
    contents = {FILES[name]() for name in FILES}
    assert len(contents) == len(FILES) >= 60


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".json", ".png", ""])
def test_the_name_of_a_file_says_nothing(tiny: Any, tmp_path: Path, own_home: Path, canary: Path, suffix: str) -> None:
    hidden = tmp_path / f"network{suffix}"
    hidden.write_bytes(in_network(CALL))
    assert "os.system" in refused(hidden, own_home, canary)
    tiny.pickle(hidden)
    assert CliRunner().invoke(app, ["models", "import", str(hidden), "--name", "x"]).exit_code == 0


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_refused(
    tiny: Any, tmp_path: Path, own_home: Path, canary: Path, share: float
) -> None:
    path = tiny.pickle(tmp_path / "network.pkl")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, own_home, canary)


@pytest.mark.parametrize("place", range(24))
def test_a_flipped_byte_is_refused_or_harmless(
    tiny: Any, tmp_path: Path, own_home: Path, canary: Path, place: int
) -> None:
    path = tiny.pickle(tmp_path / "network.pkl")
    data = bytearray(path.read_bytes())
    data[(len(data) - 1) * place // 23] ^= 0x55
    path.write_bytes(data)
    result = CliRunner().invoke(app, ["models", "import", str(path), "--name", "x"])
    assert result.exit_code in (0, 5) and not canary.exists()
    if result.exit_code:
        assert str(path) in result.stderr and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "word", [b"_reconstruct_persistent_obj", b"_load_from_bytes", b"_rebuild_tensor_v2", b"OSGDecoder", b"w_avg"]
)
def test_a_changed_name_is_refused(tiny: Any, tmp_path: Path, own_home: Path, canary: Path, word: bytes) -> None:
    path = tiny.pickle(tmp_path / "network.pkl")
    data = path.read_bytes()
    other = b"Unknown" + word[7:] if word == b"OSGDecoder" else word[:-1] + b"?"
    path.write_bytes(data.replace(word, other))
    if word == b"OSGDecoder":
        # A class that is only a shell may be called anything.
        assert CliRunner().invoke(app, ["models", "import", str(path), "--name", "x"]).exit_code == 0
    else:
        refused(path, own_home, canary)


def test_a_number_that_is_none_is_refused(tiny: Any, tmp_path: Path, own_home: Path, canary: Path) -> None:
    tensors = {name: value.clone() for name, value in tiny.tensors.items()}
    tensors["decoder.net.0.bias"][0] = torch.nan
    path = type(tiny)(tiny.config, tiny.generator, tensors).pickle(tmp_path / "network.pkl")
    assert "not finite" in refused(path, own_home, canary)


def test_the_source_text_is_really_there(tiny: Any, tmp_path: Path) -> None:
    assert b"open('touched', 'w')" in tiny.pickle(tmp_path / "network.pkl").read_bytes()
