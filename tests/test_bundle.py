"""Files: round trips, same bytes, and refusal of everything that is not exactly one of ours."""

from __future__ import annotations

import contextlib
import json
import pickle  # noqa: TID251 - the hostile files are made here
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from agile3d_cli.bundle import (
    BaseReference,
    Model,
    Portrait,
    StyleBundle,
    StyleReference,
    read_model,
    read_portrait,
    read_style,
    write_model,
    write_portrait,
    write_style,
)
from agile3d_cli.errors import ConfigError, MissingError, OutputError, RefusedError
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.safefile import KEY, file_sha256, read_card

NOTES = (LicenseNote("24 pictures", "MIT", "npm thing 1.0", True),)


def a_style(name: str = "ink") -> StyleBundle:
    generator = torch.Generator().manual_seed(1)
    return StyleBundle(
        name=name,
        base=BaseReference("mini", "ab" * 32, {"kind": "triplane", "axes": [[0, 1], [2, 0]]}),
        tensors={"b.weight": torch.randn(3, 4, generator=generator).half(), "a": torch.zeros(())},
        preview=torch.randint(0, 256, (8, 24, 3), generator=generator, dtype=torch.uint8),
        summary="Ink, mit Umlaut: ü",
        license="MIT",
        author="somebody",
        created="2026-01-31",
        stylizer={"name": "agilegan", "version": "1", "config": {"steps": 3}},
        exemplars=({"sha256": "cd" * 32, "size": [512, 512]},),
        training={"seed": 0, "preset": "fast"},
        scores={"style_distance": 0.25},
        licenses=NOTES,
    )


def same(first: Any, second: Any) -> bool:
    """Dataclasses that may hold tensors are equal field by field."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if hasattr(first, "__dataclass_fields__"):
        return type(first) is type(second) and same(vars(first), vars(second))
    return first == second


def test_a_style_comes_back_as_it_was(tmp_path: Path) -> None:
    digest = write_style(tmp_path / "ink.safetensors", a_style())
    assert digest == file_sha256(tmp_path / "ink.safetensors")
    assert same(read_style(tmp_path / "ink.safetensors"), a_style())


@pytest.mark.parametrize("style", [None, StyleReference("ink", "ef" * 32), StyleReference("ink", "", a_style())])
def test_a_portrait_comes_back_as_it_was(tmp_path: Path, style: StyleReference | None) -> None:
    portrait = Portrait(
        latent=torch.randn(4, 8),
        camera=torch.randn(25),
        base=BaseReference("mini", "ab" * 32, {}),
        style=style,
        personal={"synthesis.up": torch.randn(2, 2)},
        thumbnail=torch.zeros(4, 4, 3, dtype=torch.uint8),
        settings={"refine": 3},
        scores={"identity": 0.5},
        licenses=NOTES,
    )
    write_portrait(tmp_path / "portrait.safetensors", portrait)
    assert same(read_portrait(tmp_path / "portrait.safetensors"), portrait)


def test_a_model_comes_back_with_the_hash_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mini.safetensors"
    digest = write_model(path, Model("mini", {"kind": "triplane"}, {"w": torch.ones(2)}, origin="here", licenses=NOTES))
    model = read_model(path)
    assert model.sha256 == digest and model.reference == BaseReference("mini", digest, {"kind": "triplane"})
    assert torch.equal(model.tensors["w"], torch.ones(2)) and model.licenses == NOTES


def test_same_content_same_bytes(tmp_path: Path) -> None:
    style = a_style()
    turned = StyleBundle(**{**vars(style), "tensors": dict(reversed(list(style.tensors.items())))})
    assert write_style(tmp_path / "a", style) == write_style(tmp_path / "b", turned)


def test_views_of_one_tensor_are_written(tmp_path: Path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    write_model(tmp_path / "m", Model("m", {}, {"a": whole, "b": whole.t(), "c": whole[1]}))
    assert torch.equal(read_model(tmp_path / "m").tensors["b"], whole.t())


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the JSON of a file as somebody without our checksum would."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    meta = json.loads(header["__metadata__"][KEY])
    change(meta)
    header["__metadata__"][KEY] = json.dumps(meta)
    raw = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data[8 + length :])


def without_checksum(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(meta: dict[str, Any]) -> None:
        meta.pop("checksum")
        meta.update(changes)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_checksum(version=2), "version 2; this program reads 1"),
        (without_checksum(version="1"), "version '1'"),
        (without_checksum(version=True), "version True"),
        (without_checksum(format="portrait"), "holds a 'portrait', not a style"),
        (without_checksum(name="../evil"), "not allowed"),
        (without_checksum(name=7), "'name' is not a text"),
        (without_checksum(base=None), "'base' is not a table"),
        (without_checksum(licenses="MIT"), "'licenses' is not a list"),
        (without_checksum(exemplars=[3]), "'exemplars' is not a list of tables"),
        (lambda meta: meta.update(author="somebody else"), "wrong checksum"),
    ],
)
def test_wrong_facts_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    path = tmp_path / "ink.safetensors"
    write_style(path, a_style())
    rewrite(path, change)
    with pytest.raises(RefusedError, match=message) as error:
        read_style(path)
    assert str(path) in str(error.value)


def test_a_file_without_checksum_is_read(tmp_path: Path) -> None:
    write_style(tmp_path / "ink", a_style())
    rewrite(tmp_path / "ink", without_checksum())
    assert same(read_style(tmp_path / "ink"), a_style())


def test_every_flipped_byte_and_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ink.safetensors"
    write_style(path, a_style())
    data = path.read_bytes()
    harmless = 0
    for position in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        with contextlib.suppress(RefusedError):
            assert same(read_style(path), a_style())
            harmless += 1
        path.write_bytes(data[:position])
        with pytest.raises(RefusedError):
            read_style(path)
    # Only the name of the checksum itself can be damaged unnoticed, and then nothing else is.
    assert harmless <= len("checksum") // 7 + 1
    path.write_bytes(data + b"x")
    with pytest.raises(RefusedError, match="cut off or damaged"):
        read_style(path)


class Boom:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('a pickle ran')",)


def test_other_kinds_of_files_are_refused_by_content(tmp_path: Path) -> None:
    path = tmp_path / "ink.safetensors"
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps(Boom(), protocol))
        with pytest.raises(RefusedError, match="Python pickle"):
            read_style(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Boom()))
    with pytest.raises(RefusedError, match=r"torch\.save"):
        read_style(path)
    for content in (b"", b"hello", b"\x89PNG\r\n\x1a\n" + b"0" * 100, b"(lp0\n" * 30, b"\xff" * 200):
        path.write_bytes(content)
        with pytest.raises(RefusedError, match=r"not a safetensors file"):
            read_style(path)
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}))
    with pytest.raises(RefusedError, match="agile3d did not write it"):
        read_style(path)


def test_headers_that_lie_are_refused_without_reading_on(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    meta = {"__metadata__": {KEY: json.dumps({"format": "model", "version": 1, "name": "x"})}}
    for entry in (
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]},
        {"dtype": "O", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]},
        {"shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]},
        7,
    ):
        raw = json.dumps({**meta, "a": entry}).encode()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + b"\0" * 4)
        with pytest.raises(RefusedError, match="damaged header"):
            read_card(path, "model")
    path.write_bytes(struct.pack("<Q", 100_000) + b"[" * 100_000)
    with pytest.raises(RefusedError, match="header is not JSON"):
        read_card(path, "model")


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "m", Model("m", {}, {"w": torch.tensor([1.0, float("nan")])}))
    with pytest.raises(RefusedError, match="not finite in 'w'"):
        read_model(tmp_path / "m")


def test_a_missing_file_and_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no style file"):
        read_style(tmp_path / "nothing.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_style(tmp_path / "file" / "ink.safetensors", a_style())


def test_names_and_pictures_are_checked_before_writing() -> None:
    with pytest.raises(ConfigError, match="not allowed"):
        a_style("Not A Name")
    with pytest.raises(ConfigError, match="uint8"):
        StyleBundle("ink", BaseReference("mini", ""), {}, preview=torch.zeros(3, 8, 8))


def test_a_card_is_read_without_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    write_style(tmp_path / "ink", a_style())
    code = (
        "import sys, pathlib; from agile3d_cli.safefile import read_card; import agile3d_cli.bundle;"
        f"c = read_card(pathlib.Path({str(tmp_path / 'ink')!r}), 'style');"
        "print(c.meta['name'], c.shapes['b.weight'], 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["ink", "(3,", "4)", "False", "False"]
