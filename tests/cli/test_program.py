"""The program as a whole: quick help, global options, exit codes, one message per error and never a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import Result

from agile3d_cli import errors
from agile3d_cli.cli import plugins as plugins_command
from agile3d_cli.cli.app import app

Run = Callable[..., Result]
COMMANDS = [
    ("apply",), ("export",), ("view",), ("new-style",), ("pose",), ("doctor",), ("licenses",), ("plugins", "list"),
    ("styles", "list"), ("styles", "show"), ("styles", "install"), ("styles", "remove"), ("styles", "verify"),
    ("styles", "blend"),
    ("models", "list"), ("models", "show"), ("models", "import"), ("models", "remove"), ("models", "native"),
    ("models", "verify"),
]  # fmt: skip


def program(*words: str) -> list[str]:
    return [sys.executable, "-c", "from agile3d_cli.cli.app import main; main()", *words]


def all_commands() -> list[tuple[str, ...]]:
    top: Any = typer.main.get_command(app)
    found: list[tuple[str, ...]] = []
    for name, command in top.commands.items():
        below = getattr(command, "commands", None)
        found += [(name, sub) for sub in below] if below else [(name,)]
    return found


def test_the_list_of_commands_here_is_complete() -> None:
    assert sorted(all_commands()) == sorted(COMMANDS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\ntry:\n import agile3d_cli.cli.app as a; a.main()\n"
        "finally: print([m for m in ('torch', 'numpy', 'PIL', 'scipy', 'onnxruntime') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=False)
    assert result.returncode == 0 and result.stdout.endswith("[]\n"), result.stderr


def test_no_explanation_has_brackets_which_rich_takes_for_markup_and_leaves_out() -> None:
    top: Any = typer.main.get_command(app)
    below = [sub for command in top.commands.values() for sub in getattr(command, "commands", {}).values()]
    told = [param.help or "" for command in (*top.commands.values(), *below) for param in command.params]
    assert told and [text for text in told if "[" in text] == []


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_takes_the_options_of_every_command(run: Run, command: tuple[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    for option in ("--json", "--quiet", "--device", "--seed", "--offline", "--debug"):
        assert option in result.stdout


def test_without_a_command_help_is_shown(run: Run) -> None:
    result = run()
    assert result.exit_code in (0, 2) and "new-style" in result.output


def test_version(run: Run) -> None:
    told = run("--version").stdout
    assert told.startswith("agile3d ")
    module = subprocess.run([sys.executable, "-m", "agile3d_cli", "--version"], capture_output=True, text=True)
    assert module.stdout == told


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("aply",), "Did you mean 'apply'?"),
        (("apply",), "PHOTO"),
        (("apply", "a.jpg", "--identity", "1.5", "--style", "none"), "--identity is 1.5; it must lie between 0 and 1"),
        (("apply", "a.jpg", "--size", "10000", "--style", "none"), "--size is 10000"),
        (("apply", "a.jpg", "--identity", "much"), "--identity"),
        (("apply", "a.jpg", "--device", "tpu"), "tpu"),
        (("apply", "a.jpg", "--seed", "-1"), "--seed"),
        (("apply", "a.jpg", "--pose", "guess"), "choose one of mediapipe, insightface"),
        (("styles", "lst"), "Did you mean 'list'?"),
        (("new-style", "not-there"), "not-there is not a folder"),
        (("new-style", ".", "--name", "No Good"), "lower-case"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_wrong(run: Run, words: tuple[str], message: str) -> None:
    result = run(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in " ".join(result.stderr.split()) and "Traceback" not in result.stderr
    with_json = run(*words, "--json")
    document = json.loads(with_json.stdout)
    assert with_json.exit_code == document["exit_code"] == 2 and message in document["error"]


def test_each_error_class_has_its_documented_exit_code() -> None:
    codes = {
        errors.Agile3dError: 1, errors.OutputError: 1, errors.PhotoError: 1, errors.UsageError: 2,
        errors.ConfigError: 2, errors.NoFaceError: 3, errors.MissingError: 4, errors.RefusedError: 5,
        errors.DeviceError: 6, errors.PartialBatchError: 7,
    }  # fmt: skip
    assert {kind: kind.exit_code for kind in codes} == codes


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (errors.RefusedError("Not this file."), 5, "Not this file."),
        (MemoryError(), 6, "Memory ran out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 6, "Memory ran out"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), 6, "Memory ran out"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/disk"), 1, "The disk is full at /full/disk"),
        (PermissionError(errno.EACCES, "no", "/locked"), 1, "No permission at /locked"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_what_goes_wrong_inside_becomes_one_message(
    run: Run, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, message: str
) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr("agile3d_cli.plugins.find_stylizers", fail)
    result = run("plugins", "list")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"agile3d: {message}") and result.stderr.count("\n") == 1
    document = json.loads(run("plugins", "list", "--json").stdout)
    assert document["schema"] == "agile3d.plugins.list/1"
    assert document["exit_code"] == code and document["error"].startswith(message)


def test_debug_shows_the_traceback_and_a_bug_always_does(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(error: Exception) -> Callable[[], None]:
        def raise_it() -> None:
            raise error

        return raise_it

    monkeypatch.setattr("agile3d_cli.plugins.find_stylizers", fail(errors.MissingError("Nothing.")))
    assert "Traceback" in run("plugins", "list", "--debug").stderr
    monkeypatch.setattr("agile3d_cli.plugins.find_stylizers", fail(ZeroDivisionError("a bug")))
    assert isinstance(run("plugins", "list").exception, ZeroDivisionError)


def test_a_chatty_library_cannot_spoil_the_document(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def chat() -> list[Any]:
        print("Hello from a library")  # noqa: T201
        return []

    monkeypatch.setattr("agile3d_cli.plugins.find_stylizers", chat)
    result = run("plugins", "list", "--json")
    assert json.loads(result.stdout) == {"schema": "agile3d.plugins.list/1", "plugins": []}
    assert "Hello" in result.stderr
    assert plugins_command.group is not None


def test_an_error_in_a_process_of_its_own() -> None:
    result = subprocess.run(program("export", "no-such-file", "--json"), capture_output=True, text=True, check=False)
    assert result.returncode == json.loads(result.stdout)["exit_code"] == 4
    assert result.stderr.startswith("agile3d: ")


def test_results_become_plain_data() -> None:
    import numpy as np

    from agile3d_cli.cli.session import plain
    from agile3d_cli.stylizer import FaceBatch

    batch = FaceBatch(images=np.float32(0.5), labels=(Path("a"), float("nan")), landmarks=np.ones((1, 2)))  # type: ignore[arg-type]
    assert plain(batch) == {"images": 0.5, "labels": ["a", None], "landmarks": [[1.0, 1.0]]}


def test_a_request_to_stop_is_an_interruption(tmp_path: Path) -> None:
    code = (
        "import agile3d_cli.plugins as p, os, signal, time\n"
        "def stop():\n os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)\n"
        "p.find_stylizers = stop\nfrom agile3d_cli.cli.app import main; main()"
    )
    words = [sys.executable, "-c", code, "plugins", "list"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "agile3d: Interrupted.\n")
