"""The guide for plugin authors shows the template as it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "plugins" / "template"
PAGE = (ROOT / "docs" / "write-a-stylizer.md").read_text(encoding="utf-8")


def code_files() -> dict[str, str]:
    """Every file of the template that an author reads as code, by its path in the package."""
    files = (path for kind in ("*.py", "*.toml") for path in TEMPLATE.rglob(kind))
    return {path.relative_to(TEMPLATE).as_posix(): path.read_text(encoding="utf-8") for path in files}


def lines_of_code(text: str) -> int:
    """Lines that are not blank, a comment, an import or a docstring."""
    lines = {number for number, line in enumerate(text.splitlines(), 1) if line.strip() and line.strip()[0] != "#"}
    for node in ast.walk(ast.parse(text)):
        told = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if told or isinstance(node, (ast.Import, ast.ImportFrom)):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def test_the_guide_shows_every_file_of_the_template() -> None:
    assert dict(re.findall(r"^\*\*`(.+?)`\*\*\n\n```\w+\n(.*?)^```$", PAGE, re.M | re.S)) == code_files()


def test_the_guide_promises_as_many_lines_as_there_are() -> None:
    package = [text for path, text in code_files().items() if path.startswith("agile3d_mystyle/")]
    assert PAGE.startswith("# Write a stylizer in 60 lines\n") and len(package) == 3
    assert sum(lines_of_code(text) for text in package) <= 60
