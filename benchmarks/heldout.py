"""Further pictures of a style, which no stylizer was fitted to: a fair target for the style distance.

The folder ``style-fluent3d`` holds 24 exemplars and, as ``heads``, the same kind of people in other tones and hair.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

from PIL import Image

from agile3d_cli.image import to_array
from agile3d_cli.style.exemplars import ExemplarSet, read_exemplars

INDEX = "index.csv"
"""Beside the folder: what each picture shows."""
KIND, UNLIKE_TONE = "head", "yellow"
"""Of an index: heads alone, and not in the tone that no exemplar has."""
CORNER = 8
"""Side of the corner that shows an exemplar's background, pixels."""


def held_out(folder: Path, exemplars: ExemplarSet, framing: str) -> ExemplarSet:
    """The pictures of ``folder`` that are not among the exemplars, before the background of the first exemplar.

    A picture is an exemplar's if the exemplar's name ends in its own (``00-man-light`` is ``man-light``).
    """
    known = {exemplar.path.stem.split("-", 1)[-1] for exemplar in exemplars.exemplars}
    corner = Image.fromarray(to_array(exemplars.images[0][:, :CORNER, :CORNER]))
    background = corner.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    with tempfile.TemporaryDirectory() as prepared:
        for path in sorted(folder.iterdir()):
            if path.stem in known or path.name not in _alike(folder):
                continue
            picture = Image.open(path).convert("RGBA")
            page = Image.new("RGBA", picture.size, background)
            page.alpha_composite(picture)
            page.convert("RGB").save(Path(prepared) / f"{path.stem}.png")
        return read_exemplars(Path(prepared), framing)


def _alike(folder: Path) -> set[str]:
    """Names of the pictures that show what exemplars show: all, or what the index beside the folder says."""
    index = folder.parent / INDEX
    if not index.is_file():
        return {path.name for path in folder.iterdir() if path.is_file()}
    with index.open(newline="") as lines:
        return {row["file"] for row in csv.DictReader(lines) if row["kind"] == KIND and row["tone"] != UNLIKE_TONE}
