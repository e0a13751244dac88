"""`agile3d apply`: settings reach the flow, folders never collide, failures of a batch are told apart."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import Result

from agile3d_cli.avatar.config import ApplyConfig
from agile3d_cli.cli.apply import plan_folders
from agile3d_cli.errors import DeviceError, NoFaceError, PhotoError

Run = Callable[..., Result]
RunJson = Callable[..., tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class FakeResult:
    """What the flow returns, with the fields of the contract."""

    photo: Path
    portrait: Path
    front: Path
    views: list[Path]
    turntable: Path
    report: Path
    camera: dict[str, Any] = field(default_factory=lambda: {"label": [0.0] * 25, "yaw_deg": 1.5})
    scores: dict[str, Any] = field(default_factory=lambda: {"identity": 0.4, "relief": None})
    seconds: dict[str, float] = field(default_factory=lambda: {"align": 0.1})
    notes: list[str] = field(default_factory=lambda: ["The photo shows 2 faces."])


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Path, ApplyConfig]]:
    """Stands in for the flow photo -> avatar, which has tests of its own; returns the calls."""
    calls: list[tuple[Path, Path, ApplyConfig]] = []

    def make_avatar(photo: Path, output: Path, config: ApplyConfig, progress: Callable[[str, float], None]) -> Any:
        calls.append((photo, output, config))
        progress("align", 0.0)
        progress("refine", 0.5)
        if "empty" in photo.name:
            raise NoFaceError("No face was found.")
        if "broken" in photo.name:
            raise PhotoError("It is cut off.")
        if "huge" in photo.name:
            raise DeviceError("Memory ran out.")
        files = {name: output / f"{name}.x" for name in ("portrait", "front", "turntable", "report")}
        return FakeResult(photo=photo, views=[output / "views.png"], **files)

    module = ModuleType("agile3d_cli.avatar.pipeline")
    module.make_avatar = make_avatar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return calls


def test_settings_reach_the_flow(run: Run, flow: list[Any]) -> None:
    options = ["--style", "none", "--refine", 7, "--identity", 0.1, "--structure", 0.2, "--color", 0.3, "--size", 128]
    result = run("apply", "a.jpg", *options, "--face", 1, "--pose", "insightface", "--seed", 5, "--device", "cpu")
    assert result.exit_code == 0, result.output
    config = ApplyConfig("none", 7, 0.1, 0.2, 0.3, 128, 1, "insightface", 5, "cpu")
    assert flow == [(Path("a.jpg"), Path("agile3d-output/a-none"), config)]


def test_defaults_are_those_of_the_config(run: Run, flow: list[Any]) -> None:
    assert run("apply", "a.jpg", "--style", "none").exit_code == 0
    assert flow[0][2] == ApplyConfig(style="none")


def test_the_document_follows_the_contract(run_json: RunJson, flow: list[Any]) -> None:
    code, document = run_json("apply", "a.jpg", "--style", "none", "--output", "here")
    assert (code, document["schema"], document["style"]) == (0, "agile3d.apply/1", "none")
    (portrait,) = document["portraits"]
    assert portrait.pop("notes") == ["The photo shows 2 faces."]
    assert portrait == {
        "photo": "a.jpg",
        "status": "ok",
        "error": None,
        "portrait": str(Path("here/portrait.x")),
        "front": str(Path("here/front.x")),
        "views": [str(Path("here/views.png"))],
        "turntable": str(Path("here/turntable.x")),
        "report": str(Path("here/report.x")),
        "camera": {"label": [0.0] * 25, "yaw_deg": 1.5},
        "scores": {"identity": 0.4, "relief": None},
        "seconds": {"align": 0.1},
    }


def test_paths_go_to_stdout_and_everything_else_to_stderr(run: Run, flow: list[Any]) -> None:
    result = run("apply", "a.jpg", "--style", "none")
    assert all(line.split(": ")[1].startswith("agile3d-output") for line in result.stdout.splitlines())
    assert "refine" in result.stderr and "2 faces" in result.stderr
    assert run("apply", "a.jpg", "--style", "none", "--quiet").stderr == ""


@pytest.mark.parametrize(("photo", "code"), [("empty.jpg", 3), ("broken.jpg", 1), ("huge.jpg", 6)])
def test_a_single_photo_that_fails_gives_its_own_code(run: Run, flow: list[Any], photo: str, code: int) -> None:
    result = run("apply", photo, "--style", "none", "--quiet")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("agile3d: ") and result.stderr.count("\n") == 1


def test_a_single_failure_is_an_entry_of_the_document(run_json: RunJson, flow: list[Any]) -> None:
    code, document = run_json("apply", "empty.jpg", "--style", "none")
    (entry,) = document["portraits"]
    assert code == 3 and entry["status"] == "failed" and entry["error"] == "No face was found."
    assert entry["portrait"] is None and entry["views"] == []


def test_a_batch_goes_on_and_ends_with_7(run_json: RunJson, flow: list[Any]) -> None:
    code, document = run_json("apply", "a.jpg", "empty.jpg", "broken.jpg", "b.jpg", "--style", "none")
    assert code == 7 and [entry["status"] for entry in document["portraits"]] == ["ok", "failed", "failed", "ok"]


def test_what_is_not_a_photos_fault_ends_the_batch(run: Run, flow: list[Any]) -> None:
    assert run("apply", "huge.jpg", "b.jpg", "--style", "none").exit_code == 6
    assert len(flow) == 1


def test_folders_never_collide() -> None:
    photos = [Path("x/me.jpg"), Path("y/me.jpg"), Path("me two.png"), Path("me.v2.jpg")]
    names = [folder.name for folder in plan_folders(photos, "my/ink.safetensors", Path("out"))]
    assert names == ["me-ink", "me-ink-2", "me_two-ink", "me.v2-ink"]
    assert plan_folders(photos[:1], "ink", Path("out")) == [Path("out")]
    assert plan_folders(photos[:1], "ink", None) == [Path("agile3d-output/me-ink")]


def test_a_missing_style_is_reported_before_any_work(run: Run, flow: list[Any]) -> None:
    result = run("apply", "a.jpg", "--style", "not-a-style")
    assert result.exit_code == 4 and "There is no style 'not-a-style'" in result.stderr and flow == []
