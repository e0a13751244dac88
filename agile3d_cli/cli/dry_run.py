"""What `agile3d new-style --dry-run` shows people: a table of the pictures, the warnings, and the plan."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from agile3d_cli.style.check import ExemplarCheck, PictureCheck
    from agile3d_cli.style.plan import Plan

WIDTH = 140
"""Columns of text; a file that the output goes to has no width of its own."""


def describe_dry_run(check: ExemplarCheck, plan: Plan) -> str:
    """For people: everything on one page."""
    warnings = [f"Warning: {sentence}" for sentence in check.warnings]
    notes = [f"Note: {sentence}" for sentence in check.notes if sentence not in check.warnings]
    verdict = [] if warnings else ["No warnings."]
    return "\n".join([_drawn(_pictures(check)), *_poses(check), *warnings, *notes, *verdict, "", *_plan(plan)])


def _pictures(check: ExemplarCheck) -> Table:
    table = Table(box=None)
    for title in ("picture", "pixels", "face", "portrait", "yaw", "pitch", "strangeness"):
        table.add_column(title, no_wrap=True)
    table.add_column("remark")
    for one in check.pictures:
        table.add_row(
            Text(one.file),
            f"{one.size[0]} x {one.size[1]}",
            one.face,
            f"{one.side} px",
            _number(one.yaw, 0),
            _number(one.pitch, 0),
            _number(one.strangeness, 1),
            Text(_remark(one)),
        )
    return table


def _remark(one: PictureCheck) -> str:
    said = [f"same as {one.copy_of}"] if one.copy_of else []
    return ", ".join([*said, "writing?"] if one.writing else said)


def _poses(check: ExemplarCheck) -> list[str]:
    yaws = [one.yaw for one in check.pictures if one.yaw is not None]
    pitches = [one.pitch for one in check.pictures if one.pitch is not None]
    found = f"Faces: {len(yaws)} of {len(check.pictures)}"
    if not yaws:
        return [f"{found}."]
    spans = (f"{name} {min(seen):.0f} to {max(seen):.0f}" for name, seen in (("yaw", yaws), ("pitch", pitches)))
    return [f"{found}, {', '.join(spans)} degrees."]


def _plan(plan: Plan) -> list[str]:
    photos = f", photos: {plan.photos}" if plan.photos else ""
    unknown = [stage for stage, value in plan.seconds.items() if value is None]
    without = f", without {' and '.join(unknown)}, for which its author gives no time" if unknown else ""
    stages = ", ".join(f"{stage} {duration(value)}" for stage, value in plan.seconds.items() if value is not None)
    return [
        f"Plan: {plan.pairs} stylized faces of {plan.size} pixels{photos}, {plan.steps} steps.",
        f"Time: about {duration(plan.total)}{without} ({stages}).",
        f"Memory: about {plan.memory_bytes / 1e9:.1f} GB. Disk: about {plan.disk_bytes / 1e6:.0f} MB.",
        f"Measured on {plan.machine}; other machines differ.",
        "Nothing was written.",
    ]


def duration(seconds: float) -> str:
    """Seconds in round words: "40 s", "7 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _drawn(table: Table) -> str:
    page = io.StringIO()
    Console(file=page, width=WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().splitlines())
