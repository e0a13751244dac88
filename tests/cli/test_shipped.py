"""What is shipped is listed, intact, and free for commercial use; the README says what the program does."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from typer.testing import Result

from agile3d_cli import errors, registry
from agile3d_cli.cli.app import app

Run = Callable[..., Result]
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
OURS = {found.path.name for found in registry.list_files("model")}


def test_every_asset_is_listed_with_its_hash() -> None:
    assets = registry.assets()
    assert [asset.name for asset in assets if not asset.intact] == []
    listed = {asset.file.name for asset in assets} | OURS | {"assets.json"}
    assert {path.name for path in registry.ASSETS.iterdir() if path.is_file()} == listed


def test_everything_shipped_may_be_used_commercially() -> None:
    chains = [asset.licenses for asset in registry.assets()]
    chains += [found.licenses for kind in ("model", "style") for found in registry.list_files(kind)]
    assert chains and all(chain and all(note.commercial for note in chain) for chain in chains)


def test_every_shipped_style_has_its_card() -> None:
    assert [found.name for found in registry.list_files("style") if not found.path.with_suffix(".md").is_file()] == []


def commands_of_readme() -> set[str]:
    rows = re.findall(r"^\| `agile3d ([^`]+)` \|", README, re.M)
    found: set[str] = set()
    for row in rows:
        words = row.replace("\\", "").split()
        grouped = words[0] in ("styles", "models", "plugins")
        found |= {f"{words[0]} {word}" for word in words[1].split("|")} if grouped else {words[0]}
    return found


def test_the_table_of_commands_is_complete() -> None:
    top: Any = typer.main.get_command(app)
    commands = set()
    for name, command in top.commands.items():
        below = getattr(command, "commands", None)
        commands |= {f"{name} {sub}" for sub in below} if below else {name}
    assert commands_of_readme() == commands


def test_the_table_of_exit_codes_is_complete() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.M)}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert codes == raised | {0, 130}


def test_ci_runs_the_second_command() -> None:
    first, second = re.findall(r"^```sh\n(.+)\n```", README, re.M)
    assert first.count("agile3d apply") == 1 and second.endswith("&& pytest")
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().splitlines()[-1] == second


def test_the_first_command_uses_options_that_exist(run: Run) -> None:
    first = re.findall(r"^```sh\n(.+)\n```", README, re.M)[0]
    for command in re.findall(r"agile3d ((?:apply|export)[^&]*)", first):
        words = command.split()
        shown = run(words[0], "--help").stdout
        assert all(word in shown for word in words if word.startswith("--"))
    assert (ROOT / "examples" / "astronaut.jpg").is_file()
