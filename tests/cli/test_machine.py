"""`agile3d doctor`, `plugins list`, `pose` and `view`."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from agile3d_cli import plugins
from agile3d_cli.cli.view import LOOPBACK, serve_page
from agile3d_cli.errors import DeviceError, OutputError

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, dict[str, Any]]]
ASTRONAUT = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


def test_doctor_looks_at_everything(run_json: RunJson, own_home: Path) -> None:
    _, document = run_json("doctor")
    checks = {check["name"]: check for check in document["checks"]}
    assert {"agile3d", "python", "torch", "device", "memory", "home", "model face-mesh", "mp4"} <= checks.keys()
    assert checks["home"]["found"] == str(own_home)
    assert document["ok"] == all(check["state"] != "failed" for check in document["checks"])


def test_doctor_fails_with_advice(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGILE3D_HOME", str(tmp_path / "file" / "home"))
    result = run("doctor")
    assert result.exit_code == 1 and "Set AGILE3D_HOME elsewhere." in result.stdout


def test_a_device_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from agile3d_cli.device import choose_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceError, match="no CUDA device"):
        choose_device("cuda")
    result = run("doctor", "--device", "cuda")
    assert result.exit_code == 1 and "Use --device cpu." in result.stdout


def test_broken_plugins_are_listed(run: Run, run_json: RunJson, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = plugins.FoundStylizer("bad", "agile3d-bad", "1", None, "ModuleNotFoundError: No module named 'x'")
    monkeypatch.setattr(plugins, "find_stylizers", lambda: [broken])
    code, document = run_json("plugins", "list")
    assert code == 0 and document["plugins"] == [
        {
            "name": "bad", "package": "agile3d-bad", "version": "1", "summary": "", "origin": "", "state": "broken",
            "error": "ModuleNotFoundError: No module named 'x'", "licenses": [],
        }
    ]  # fmt: skip
    assert "broken" in run("plugins", "list").stdout
    result = run("doctor")
    assert "Repair or uninstall agile3d-bad." in result.stdout


def test_pose_of_the_example(run: Run, run_json: RunJson, tmp_path: Path) -> None:
    shutil.copy(ASTRONAUT, tmp_path / "me.jpg")
    (tmp_path / "not.jpg").write_text("not a picture")
    code, document = run_json("pose", "me.jpg", "--output", "crops")
    (entry,) = document["photos"]
    assert code == 0 and len(entry["label"]) == 25 and len(entry["landmarks"]) == 468
    assert abs(entry["yaw_deg"]) < 10 and (tmp_path / "crops" / "me-crop.png").is_file()
    assert run("pose", "me.jpg", "not.jpg").exit_code == 7
    assert run("pose", "not.jpg").exit_code == 1
    assert run("pose", "not-there.jpg").exit_code == 1
    assert run("pose", "me.jpg", "--face", 3).exit_code == 3


def ask(port: int, path: str = "/", host: str | None = None) -> tuple[int, str]:
    connection = HTTPConnection(LOOPBACK, port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": host or f"{LOOPBACK}:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_the_viewer_answers_itself_only() -> None:
    server = serve_page("<p>ü</p>", 0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        port = server.server_port
        assert server.server_address[0] == LOOPBACK
        assert ask(port) == (200, "<p>ü</p>")
        assert ask(port, "/etc/passwd")[0] == 404
        assert ask(port, host="evil.example")[0] == 403
        with pytest.raises(OutputError, match=f"Port {port} cannot be used"):
            serve_page("", port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
