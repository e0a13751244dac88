"""portrait -> report: what was made, how well, how long it took and on what terms, as JSON and as one page.

In: the facts of a finished portrait. Out: ``report.json`` for programs and ``report.html``, which holds its pictures
and loads nothing.
"""

from __future__ import annotations

import base64
import html
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from agile3d_cli import __version__
from agile3d_cli.camera import angles
from agile3d_cli.image import write_whole
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.scores import NOT_MEASURED, Scores

SCHEMA = "agile3d.report/1"
PACKAGES = ("torch", "numpy", "onnxruntime", "scikit-image", "scipy", "pillow")
"""Whose versions bear on the result."""
PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif"}
MEANING = {
    "identity": ("Likeness", "distance between the faces in photo and front view; the same person is below about 0.57"),
    "identity_rank": ("Likeness in a gallery", "how often the portrait finds its own photo among others"),
    "view_consistency": ("Agreement of views", "colour difference of one place seen from two sides; 0 is best"),
    "view_identity": ("Likeness of views", "largest face distance between the views at -30, 0 and 30 degrees"),
    "style_distance": ("Distance to the style", "between renderings and pictures of the style; 0 is best"),
    "baseline_style_distance": ("Same, plain fine-tuning", "what a generator simply trained further reaches"),
    "relief": ("Relief", "depth of the face over that of the unstylized head; below 1 it is flatter"),
    "sharpness": ("Sharpness", "fine contrast over that of the style's pictures"),
    "pose_error": ("Pose error", "degrees between the true and the estimated camera of renderings"),
}
"""Name for people and one line on each score."""


@dataclass(frozen=True)
class Report:
    """The facts of one finished portrait."""

    photo: str
    """Name of the photo, without its folder."""
    style: str | None
    """Name of the style; None for the unstylized reconstruction."""
    label: torch.Tensor
    """(25,) camera of the photo."""
    scores: Scores
    seconds: Mapping[str, float]
    """Time of each stage."""
    licenses: tuple[LicenseNote, ...] = ()
    pictures: Mapping[str, Path] = field(default_factory=dict)
    """Captions and picture files, in the order in which the page shows them."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What the portrait was made with, plain data."""
    notes: tuple[str, ...] = ()
    """Sentences that the user should read."""


def write_report(folder: Path, report: Report) -> Path:
    """Writes ``report.json`` and ``report.html`` into ``folder``; returns the path of the first."""
    facts = report_facts(report)
    page = _page(report, facts).encode("utf-8")
    write_whole(folder / "report.html", lambda stream: stream.write(page))
    text = json.dumps(facts, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    return write_whole(folder / "report.json", lambda stream: stream.write(text.encode("utf-8")))


def report_facts(report: Report) -> dict[str, Any]:
    """The report as plain data; a score without a value reads "not measured"."""
    yaw, pitch, roll = (round(math.degrees(angle), 3) + 0.0 for angle in angles(report.label))
    return {
        "schema": SCHEMA,
        "photo": report.photo,
        "style": report.style,
        "camera": {"label": report.label.tolist(), "yaw_deg": yaw, "pitch_deg": pitch, "roll_deg": roll},
        "scores": {name: _measured(value) for name, value in report.scores.as_json().items()},
        "seconds": {stage: round(seconds, 3) for stage, seconds in report.seconds.items()},
        "settings": dict(report.settings),
        "notes": list(report.notes),
        "versions": _versions(),
        "licenses": [note.as_json() for note in report.licenses],
        "pictures": {caption: path.name for caption, path in report.pictures.items()},
    }


def _measured(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _measured(part) for name, part in value.items()}
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOT_MEASURED
    return value


def _versions() -> dict[str, str]:
    found = {"agile3d": __version__, "python": platform.python_version(), "system": platform.system()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _page(report: Report, facts: Mapping[str, Any]) -> str:
    camera = facts["camera"]
    where = ", ".join(f"{name} {round(camera[f'{name}_deg'], 1) + 0.0:.1f}°" for name in ("yaw", "pitch", "roll"))
    values = {
        "title": html.escape(f"{report.photo} as {report.style}" if report.style else report.photo),
        "notes": "".join(f"<p class=note>{html.escape(note)}</p>" for note in report.notes),
        "pictures": "".join(_figure(caption, path) for caption, path in report.pictures.items()),
        "scores": "".join(_score(name, value) for name, value in facts["scores"].items()),
        "seconds": "".join(_row(stage, f"{seconds:.1f} s") for stage, seconds in facts["seconds"].items()),
        "total": f"{sum(facts['seconds'].values()):.1f} s",
        "camera": where,
        "settings": "".join(_row(name, value) for name, value in facts["settings"].items()),
        "versions": "".join(_row(name, value) for name, value in facts["versions"].items()),
        "licenses": "".join(_license(note) for note in report.licenses),
    }
    page = resources.files("agile3d_cli.avatar").joinpath("report.html").read_text(encoding="utf-8")
    for name, value in values.items():
        page = page.replace(f"<!--{name}-->", value)
    return page


def _figure(caption: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    kind, words = PICTURES[path.suffix.lower()], html.escape(caption)
    return f'<figure><img alt="{words}" src="data:image/{kind};base64,{data}"><figcaption>{words}</figcaption></figure>'


def _score(name: str, value: Any) -> str:
    title, meaning = MEANING.get(name, (name, ""))
    shown = (
        ", ".join(f"{part} {_number(x)}" for part, x in value.items()) if isinstance(value, dict) else _number(value)
    )
    faint = " class=faint" if value == NOT_MEASURED else ""
    return (
        f"<tr{faint}><th scope=row>{html.escape(title)}<small>{html.escape(meaning)}</small></th>"
        f"<td>{html.escape(shown)}</td></tr>"
    )


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _row(name: str, value: Any) -> str:
    return f"<tr><th scope=row>{html.escape(str(name))}</th><td>{html.escape(_number(value))}</td></tr>"


def _license(note: LicenseNote) -> str:
    terms = note.license if note.commercial else f"{note.license} (not for commercial use)"
    return "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in (note.item, terms, note.origin)) + "</tr>"
