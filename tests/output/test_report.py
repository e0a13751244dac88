"""The report: every fact for programs, the same facts on one page for people."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from agile3d_cli.avatar.report import SCHEMA, Report, write_report
from agile3d_cli.camera import portrait_label
from agile3d_cli.image import save_png
from agile3d_cli.licenses import LicenseNote
from agile3d_cli.scores import Consistency, Scores


@pytest.fixture
def report(tmp_path: Path) -> Report:
    picture = save_png(tmp_path / "front.png", np.full((8, 8, 3), 200, np.uint8))
    return Report(
        photo="ann <b>.jpg",
        style="cartoon",
        label=portrait_label(0.5, -0.25),
        scores=Scores(identity=0.41234, view_consistency=Consistency(0.02, 0.8)),
        seconds={"face": 1.25, "invert": 60.5},
        licenses=(LicenseNote("emoji", "MIT", "somewhere", True), LicenseNote("x", "unknown", "?", False)),
        pictures={"Front view": picture},
        settings={"style": "cartoon", "refine": 150},
        notes=("Two faces were found & the larger was taken.",),
    )


def test_json_has_every_fact(report: Report, tmp_path: Path) -> None:
    file = write_report(tmp_path / "out", report)
    facts = json.loads(file.read_text(encoding="utf-8"))
    assert file.name == "report.json" and facts["schema"] == SCHEMA
    assert len(facts["camera"]["label"]) == 25
    assert facts["camera"]["roll_deg"] == pytest.approx(0, abs=0.01) and facts["camera"]["yaw_deg"] > 20
    assert facts["scores"]["identity"] == 0.41234
    assert facts["scores"]["view_consistency"] == {"color": 0.02, "overlap": 0.8}
    assert facts["scores"]["relief"] == "not measured"
    assert facts["seconds"] == {"face": 1.25, "invert": 60.5}
    assert facts["pictures"] == {"Front view": "front.png"}
    assert facts["versions"]["torch"][0].isdigit() and facts["licenses"][1]["commercial"] is False


def test_page_shows_the_same_and_loads_nothing(report: Report, tmp_path: Path) -> None:
    write_report(tmp_path / "out", report)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for words in ("ann &lt;b&gt;.jpg as cartoon", "0.412", "61.8 s", "not measured", "not for commercial use", "&amp;"):
        assert words in page
    assert "<!--" not in page and "http" not in page.replace("http-equiv", "")
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))


def test_number_that_is_none_is_not_measured(report: Report, tmp_path: Path) -> None:
    from dataclasses import replace

    broken = replace(report, scores=Scores(identity=float("nan")))
    facts = json.loads(write_report(tmp_path, broken).read_text(encoding="utf-8"))
    assert facts["scores"]["identity"] == "not measured"
