"""Checkpoint files of other programs: genuine ones are read exactly, hostile ones are refused and never run."""

from __future__ import annotations

import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from agile3d_cli.errors import MissingError, RefusedError
from agile3d_cli.models import foreign_files, foreign_steps, foreign_values
from agile3d_cli.models.foreign_files import read_checkpoint, read_exemplar_codes
from agile3d_cli.models.foreign_steps import StepError, carry_out
from agile3d_cli.models.foreign_stylegan import generator_from

Opened = Callable[[str], Any]
FLOAT = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(value: str) -> bytes:
    """The step that pushes a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """The step that pushes a number."""
    return b"\x8a\x08" + struct.pack("<q", value)


def storage(count: int = 4, key: str = "0", kind: bytes = FLOAT) -> bytes:
    """The steps that refer to a storage."""
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(count) + b"tQ"


def tensor(
    offset: int = 0, size: tuple[int, ...] = (4,), stride: tuple[int, ...] = (1,), of: bytes | None = None
) -> bytes:
    """The steps that describe a tensor."""
    shapes = b"".join(b"(" + b"".join(map(number, numbers)) + b"t" for numbers in (size, stride))
    return REBUILD + b"(" + (of or storage()) + number(offset) + shapes + b"\x89N" + b"tR"


def zipped(
    path: Path, steps: bytes, parts: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    """A file as PyTorch writes it, with given steps in it."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + steps + b".")
        for name, data in ({"a/data/0": bytes(16)} if parts is None else parts).items():
            archive.writestr(name, data)
    return path


def numpy_file(path: Path, steps: bytes, descr: str = "|O", shape: str = "()") -> Path:
    """A file as numpy writes an object."""
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + b"\x80\x02" + steps + b".")
    return path


def written(path: Path, value: Any, old: bool = False) -> Path:
    """A genuine file of PyTorch, in the zip or in the older format."""
    torch.save(value, path, _use_new_zipfile_serialization=not old)  # noqa: TID251 (the format under test)
    return path


KEPT = {
    "names": ["a", ("b", 1, 2.5, True, None)],
    "weights": OrderedDict(one=torch.arange(12.0).reshape(3, 4).T, two=torch.tensor(3), none=torch.empty(0, 2)),
    "half": torch.ones(2, dtype=torch.float16),
    "parameter": torch.nn.Parameter(torch.ones(3)),
    "part": torch.arange(10)[2:8:2],
}


@pytest.mark.parametrize("old", [False, True])
def test_what_pytorch_writes_is_read(tmp_path: Path, old: bool) -> None:
    found = read_checkpoint(written(tmp_path / "kept.pt", KEPT, old))
    assert found["names"] == KEPT["names"] and list(found) == list(KEPT)
    for name in ("half", "parameter", "part"):
        assert torch.equal(found[name], KEPT[name].data) and found[name].dtype == KEPT[name].dtype
    for name, value in KEPT["weights"].items():
        assert torch.equal(found["weights"][name], value) and found["weights"][name].shape == value.shape


def test_genuine_containers_are_read(golden: Opened) -> None:
    folder = golden("stylegan2-generator-small").folder.parent / "checkpoint-files"
    whole, training = (read_checkpoint(folder / f"{name}.pt") for name in ("stylegan2", "stylegan2_training"))
    weights = golden("stylegan2-generator-small").weights()
    for found in (whole["g_ema"], training["g_ema"]):
        assert found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)
    assert generator_from(whole["g_ema"]).config.size == 64
    assert isinstance(training["args"], dict) and training["args"] and isinstance(training["ada_aug_p"], float)
    dual = golden("dualstylegan-small").weights()
    found = read_checkpoint(folder / "generator.pt")["g_ema"]
    assert found.keys() == dual.keys() and all(torch.equal(found[name], dual[name]) for name in dual)
    head = read_checkpoint(folder / "encoder_head.pt")
    assert set(head) == {"state_dict", "opts", "latent_avg"} and isinstance(head["opts"], dict)
    expected = load_file(folder / "exstyle_code_expected.safetensors")
    for name in ("exstyle_code.npy", "exstyle_code_numpy2.npy"):
        codes = read_exemplar_codes(folder / name)
        assert list(codes) == ["Cartoons_00003_01.jpg", "Cartoons_00010_02.jpg", "café 1.png"]
        assert all(torch.equal(codes[name], expected[name]) for name in expected)


def test_numpy_s_own_dictionaries_are_read(tmp_path: Path) -> None:
    codes = {"b": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "a": np.asfortranarray(np.eye(3))}
    np.save(tmp_path / "codes.npy", codes, allow_pickle=True)  # type: ignore[arg-type]
    found = read_exemplar_codes(tmp_path / "codes.npy")
    assert list(found) == ["b", "a"]
    assert all(np.array_equal(found[name].numpy(), value) for name, value in codes.items())


MARK = "touched"
CALLS = {
    "os.system": b"cos\nsystem\n(" + text(f"touch {MARK}") + b"tR",
    "posix.system": b"cposix\nsystem\n(" + text(f"touch {MARK}") + b"tR",
    "nt.system": b"cnt\nsystem\n(" + text("cmd") + b"tR",
    "subprocess.Popen": b"csubprocess\nPopen\n(" + text(f"touch {MARK}") + b"tR",
    "builtins.eval": b"cbuiltins\neval\n(" + text(f"open({MARK!r}, 'w')") + b"tR",
    "builtins.exec": b"cbuiltins\nexec\n(" + text(f"open({MARK!r}, 'w')") + b"tR",
    "__builtin__.eval": b"c__builtin__\neval\n(" + text("1") + b"tR",
    "builtins.getattr": b"cbuiltins\ngetattr\n(ctorch\nFloatStorage\n" + text("__class__") + b"tR",
    "builtins.open": b"cbuiltins\nopen\n(" + text(MARK) + text("w") + b"tR",
    "builtins.__import__": b"cbuiltins\n__import__\n(" + text("os") + b"tR",
    "importlib.import_module": b"cimportlib\nimport_module\n(" + text("os") + b"tR",
    "runpy.run_path": b"crunpy\nrun_path\n(" + text("x.py") + b"tR",
    "pickle.loads": b"cpickle\nloads\n(" + text("x") + b"tR",
    "torch.load": b"ctorch\nload\n(" + text("x") + b"tR",
    "torch.hub.load": b"ctorch.hub\nload\n(" + text("x") + b"tR",
    "numpy.load": b"cnumpy\nload\n(" + text("x") + b"tR",
    "numpy.testing._private.utils.runstring": b"cnumpy.testing._private.utils\nrunstring\n(" + text("1") + b"}tR",
    "socket.socket": b"csocket\nsocket\n)R",
    "webbrowser.open": b"cwebbrowser\nopen\n(" + text("http://x") + b"tR",
    "shutil.rmtree": b"cshutil\nrmtree\n(" + text(".") + b"tR",
    "functools.partial": b"cfunctools\npartial\n(cos\nsystem\ntR",
    "torch_utils.persistence._rebuild": b"ctorch_utils.persistence\n_rebuild\n(}tR",
    "torch._utils.os.system": b"ctorch._utils\nos.system\n(" + text("x") + b"tR",
    "os.system, named late": text("os") + text("system") + b"\x93" + text("x") + b"\x85R",
    "os.system, in a dictionary": b"}" + text("a") + b"cos\nsystem\n(" + text("x") + b"tRs",
    "os.system, in what is set": b"cargparse\nNamespace\n)R}" + text("a") + b"cos\nsystem\nsb",
    "os.system, made by NEWOBJ": b"cos\nsystem\n" + text("x") + b"\x85\x81",
    "os.system, by INST": b"(" + text("x") + b"ios\nsystem\n",
    "os.system, by OBJ": b"(cos\nsystem\n" + text("x") + b"o",
    "os.system, by an extension": b"\x82\x01",
}
SHAPES = {
    "a call of a tensor": tensor() + b")R",
    "a call of a text": text("os.system") + b"(" + text("x") + b"tR",
    "a call of a storage's name": FLOAT + b")R",
    "state for a list": b"]}b",
    "state for a tensor": tensor() + b"}b",
    "items for a tensor": tensor() + b"(" + text("a") + number(1) + b"u",
    "an offset beyond the storage": tensor(offset=1),
    "a negative offset": tensor(offset=-1),
    "a size beyond the storage": tensor(size=(5,)),
    "a stride beyond the storage": tensor(size=(2,), stride=(4,)),
    "a negative stride": tensor(offset=3, size=(4,), stride=(-1,)),
    "a size of a thousand billions": tensor(size=(10**12,), stride=(0,)),
    "sizes that multiply": tensor(size=(1 << 20, 1 << 20), stride=(0, 0)),
    "more strides than sizes": tensor(size=(2,), stride=(1, 1)),
    "a storage that is a text": tensor(of=text("0")),
    "a storage without its part": tensor(of=storage(key="7")),
    "a storage beside the file": tensor(of=storage(key="../../etc/passwd")),
    "a storage of another size": tensor(of=storage(count=9)),
    "a storage of a negative size": tensor(of=storage(count=-4)),
    "a storage in two ways": b"(" + tensor() + tensor(of=storage(count=8)) + b"t",
    "a storage of text": tensor(of=storage(kind=text("x"))),
    "a list in itself": b"]q\x00h\x00a",
    "lists in lists": b"]" * 200 + b"a" * 199,
    "a dictionary with a list for a name": b"}]" + number(1) + b"s",
    "nothing on the stack": b"a",
    "two things on the stack": b"NN",
    "a mark that is not there": b"t",
    "something that was not remembered": b"h\x05",
    "a text longer than the file": b"X\xff\xff\xff\x7fabc",
    "a number longer than the file": b"\x8b\xff\xff\xff\x7f",
    "an unknown step": b"\xff",
}


@pytest.mark.parametrize("name", [*CALLS, *SHAPES])
def test_hostile_files_are_refused_and_not_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    steps = (CALLS | SHAPES)[name]
    for path in (zipped(tmp_path / "x.pt", steps), numpy_file(tmp_path / "x.npy", steps)):
        with pytest.raises(RefusedError) as caught:
            (read_checkpoint if path.suffix == ".pt" else read_exemplar_codes)(path)
        assert str(path) in str(caught.value) and caught.value.exit_code == 5
    old = written(tmp_path / "old.pt", {}, old=True)
    changed = old.read_bytes().replace(b"\x80\x02}q\x00.", b"\x80\x02" + steps + b".")
    assert changed != old.read_bytes()
    old.write_bytes(changed)
    with pytest.raises(RefusedError):
        read_checkpoint(old)
    assert not (tmp_path / MARK).exists()
    if name in CALLS and "," not in name:
        assert name in str(caught.value)


def test_files_that_are_something_else_are_refused(tmp_path: Path) -> None:
    plain = zipped(tmp_path / "plain.pt", tensor())
    assert torch.equal(read_checkpoint(plain), torch.zeros(4))
    cases = {
        "compressed": zipped(tmp_path / "a.pt", tensor(), compression=zipfile.ZIP_DEFLATED),
        "size": zipped(tmp_path / "b.pt", tensor(), {"a/data/0": bytes(12)}),
        "big-endian": zipped(tmp_path / "c.pt", tensor(), {"a/data/0": bytes(16), "a/byteorder": b"big"}),
        "not PyTorch's": zipped(tmp_path / "d.pt", tensor(), {"b/data.pkl": b""}),
    }
    for said, path in cases.items():
        with pytest.raises(RefusedError, match=said):
            read_checkpoint(path)
    for data in (b"", b"PK\x03\x04", b"hello", plain.read_bytes()[:-30], b"\x80\x02N.", b"\x80\x02N." * 5):
        (tmp_path / "broken.pt").write_bytes(data)
        with pytest.raises(RefusedError, match=r"broken\.pt"):
            read_checkpoint(tmp_path / "broken.pt")
    with pytest.raises(MissingError, match="no file"):
        read_checkpoint(tmp_path / "none.pt")
    for path in (numpy_file(tmp_path / "e.npy", b"N", "<f4", "(3,)"), numpy_file(tmp_path / "f.npy", b"}"), plain):
        with pytest.raises(RefusedError):
            read_exemplar_codes(path)


@pytest.mark.parametrize("place", range(0, 700, 7))
def test_a_flipped_byte_is_refused_or_harmless(place: int, tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "x.pt", {"a": torch.arange(4.0), "b": {"c": [1, "x", None]}}).read_bytes())
    data[place] ^= 0x55
    (tmp_path / "x.pt").write_bytes(data)
    try:
        read_checkpoint(tmp_path / "x.pt")
    except RefusedError as error:
        assert "x.pt" in str(error)


def test_descriptions_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(foreign_steps, "MOST_STEPS", 10)
    with pytest.raises(StepError, match="steps"):
        carry_out(b"\x80\x02" + b"N" * 20 + b"t.", {})
    monkeypatch.setattr(foreign_steps, "LARGEST", 10)
    with pytest.raises(StepError, match="larger"):
        carry_out(b"N" * 11, {})
    monkeypatch.undo()
    monkeypatch.setattr(foreign_values, "MOST_ITEMS", 100)
    # Lists of lists of the same lists: few steps, many entries.
    steps = b"]q\x00" + b"".join(b"]q%c(h%ch%ch%ce" % (k + 1, k, k, k) for k in range(5))
    wrapped = b"(" + steps + b"t"
    with pytest.raises(RefusedError, match="too large"):
        read_checkpoint(zipped(tmp_path / "x.pt", wrapped, {}))
    monkeypatch.setattr(foreign_files, "LARGEST_FILE", 10)
    with pytest.raises(RefusedError, match="larger"):
        read_checkpoint(tmp_path / "x.pt")


BOMBS = {
    "one text, encoded a thousand times": b"("
    + (text("a" * (1 << 16)) + b"q\x01" + text("latin1") + b"q\x02")
    + b"c_codecs\nencode\n(h\x01h\x02tR" * 1000
    + b"t",
    "one dictionary, copied a thousand times": b"(}("
    + b"".join(text(str(k)) + b"N" for k in range(5000))
    + (b"uq\x01" + b"cargparse\nNamespace\n)Rh\x01b" * 1000 + b"t"),
    "one storage, a thousand tensors": b"("
    + tensor(size=(1 << 16,), of=storage(1 << 16) + b"q\x01")
    + (tensor(size=(1 << 16,), of=b"h\x01") * 1000 + b"t"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_short_file_does_not_fill_the_memory(name: str, tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.pt", BOMBS[name], {"a/data/0": bytes(4 << 16)})
    with pytest.raises(RefusedError, match=r"copies one thing again and again|far larger than the file"):
        read_checkpoint(path)


def test_sets_and_single_numbers_are_read(tmp_path: Path) -> None:
    assert carry_out(b"\x80\x04\x8f(K\x01K\x02\x90.", {}) == {1, 2}
    assert carry_out(b"\x80\x04(K\x01K\x02\x91.", {}) == frozenset({1, 2})
    with pytest.raises(StepError, match="part of a storage"):
        old = written(tmp_path / "x.pt", torch.ones(2), old=True).read_bytes()
        foreign_files.read_legacy(old.replace(b"Ntq", b"\x88tq", 1))
