"""Exemplar set -> what speaks against it, before any training: copies, strangers, softness, poses, writing.

In: the exemplars as ``exemplars.py`` read them. Out: a line on each picture and sentences on the set. Nothing is left
out here: the user decides, or ``--strict`` refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from agile3d_cli.errors import RefusedError
from agile3d_cli.face.pipeline import SIDE_VIEW
from agile3d_cli.image import read_photo, to_tensor
from agile3d_cli.models.perceptual import STYLE_SIZE, style_features
from agile3d_cli.style import kin
from agile3d_cli.style.copies import copies, fingerprint
from agile3d_cli.style.exemplars import FOUND, POINTED, ExemplarSet
from agile3d_cli.style.writing import bears_writing

SOFT = 128
"""Portraits of fewer pixels a side than this are enlarged a good deal to be learnt from."""
ASKEW = 15.0
"""Mean yaw above which a set looks to one side, degrees."""
STRANGER = 2.0
"""How much further than usual a stranger is from its ``kin.KIN`` nearest. Measured with five sets: a photo among 24
drawings is always found, another stranger nine times in ten, and one of 120 pictures is accused wrongly; among 12
pictures seven in ten are found and one of 50 is accused wrongly."""
MIDDLE, RADII = (0.5, 0.5), (0.38, 0.46)
"""The head's region in the portrait framing, u and v: an ellipse, so that backgrounds count for little."""


@dataclass(frozen=True)
class PictureCheck:
    """What was seen in one picture."""

    file: str
    size: tuple[int, int]
    """Width and height of the file's picture, pixels."""
    face: str
    """How its face was placed, see ``exemplars.FOUND`` and its neighbours."""
    side: int
    """Side of the portrait in the file's picture, pixels."""
    yaw: float | None
    pitch: float | None
    """Degrees; None without a face."""
    strangeness: float | None
    """Distance to its nearest kin over the set's usual one; None in a set too small to tell."""
    copy_of: str | None
    """An earlier file that shows the same."""
    writing: bool
    """Whether it seems to bear writing; see ``writing.py`` for how often that is wrong."""


@dataclass(frozen=True)
class ExemplarCheck:
    """What was seen in a set."""

    pictures: tuple[PictureCheck, ...]
    warnings: tuple[str, ...]
    """Sentences that cast doubt on the set; with ``--strict`` they refuse it."""
    notes: tuple[str, ...]
    """Every sentence, the warnings among them."""


def check_exemplars(exemplars: ExemplarSet) -> ExemplarCheck:
    """Looks at every picture and at all together."""
    names = [exemplar.path.name for exemplar in exemplars.exemplars]
    wholes, written = [], []
    for exemplar in exemplars.exemplars:
        pixels = read_photo(exemplar.path)
        wholes.append(fingerprint(to_tensor(pixels)))
        written.append(bears_writing(pixels))
    repeated = copies([fingerprint(image) for image in exemplars.images], wholes)
    strange = strangeness(exemplars.images)
    pictures = tuple(
        PictureCheck(
            file=names[k],
            size=one.size,
            face=one.face,
            side=round(one.side),
            yaw=round(one.angles[0], 1) if one.angles else None,
            pitch=round(one.angles[1], 1) if one.angles else None,
            strangeness=None if strange is None else round(float(strange[k]), 2),
            copy_of=names[repeated[k]] if k in repeated else None,
            writing=written[k],
        )
        for k, one in enumerate(exemplars.exemplars)
    )
    doubts = tuple(_doubts(pictures))
    return ExemplarCheck(
        pictures, (*exemplars.warnings, *doubts), (*exemplars.notes, *doubts, *_remarks(pictures, exemplars))
    )


def refuse_doubtful(check: ExemplarCheck) -> None:
    """What ``--strict`` does.

    Raises:
        RefusedError: there are warnings.
    """
    if check.warnings:
        many = f" And {len(check.warnings) - 1} more; --dry-run lists them." if len(check.warnings) > 1 else ""
        raise RefusedError(f"--strict refuses these exemplars: {check.warnings[0]}{many}")


@torch.no_grad()
def strangeness(images: Sequence[Tensor]) -> Tensor | None:
    """For each picture (3, S, S), the distance to its kin over the median of the set's, (N,); None for too few.

    Distances are those of style features inside the head's region; see ``kin.strangeness``.
    """
    mask = _head_region()
    rows = [F.interpolate(image[None], (STYLE_SIZE, STYLE_SIZE), mode="bilinear", antialias=True) for image in images]
    return kin.strangeness(torch.cat([style_features(row, mask) for row in rows]))


def _head_region() -> Tensor:
    line = (torch.arange(STYLE_SIZE) + 0.5) / STYLE_SIZE
    v, u = torch.meshgrid(line, line, indexing="ij")
    inside = ((u - MIDDLE[0]) / RADII[0]).square() + ((v - MIDDLE[1]) / RADII[1]).square() < 1
    return inside.float()[None, None]


def _doubts(pictures: Sequence[PictureCheck]) -> list[str]:
    """Sentences on what may spoil the style."""
    told = [
        f"{one.file} shows the same as {one.copy_of}; it counts twice. Take one of them away."
        for one in pictures
        if one.copy_of is not None
    ]
    strange = [one.file for one in pictures if one.strangeness is not None and one.strangeness > STRANGER]
    if strange:
        told.append(f"{', '.join(strange)}: unlike the other pictures; take away what is not in the style.")
    soft = [f"{one.file} ({one.side})" for one in pictures if one.side < SOFT]
    if soft:
        told.append(
            f"{_who(soft, pictures)}: the portrait has fewer than {SOFT} pixels a side and stays soft; use larger ones."
        )
    turned = [one.file for one in pictures if one.yaw is not None and abs(one.yaw) > SIDE_VIEW]
    if turned:
        told.append(f"{_who(turned, pictures)}: turned by more than {SIDE_VIEW:.0f} degrees; the far side is guessed.")
    return told


def _remarks(pictures: Sequence[PictureCheck], exemplars: ExemplarSet) -> list[str]:
    """Sentences that are good to know."""
    told = []
    written = [one.file for one in pictures if one.writing]
    if written:
        told.append(f"{_who(written, pictures)}: there may be writing, such as a watermark; it would be learnt.")
    yaws = [one.angles[0] for one in exemplars.exemplars if one.angles is not None]
    mean = sum(yaws) / len(yaws) if yaws else 0.0
    if len(yaws) >= kin.ENOUGH and abs(mean) > ASKEW:
        told.append(
            f"The heads look to one side, by {abs(mean):.0f} degrees on average; some mirrored ones would help."
        )
    placed = sum(one.face in (FOUND, POINTED) for one in pictures)
    if 0 < placed < len(pictures) / 2:
        told.append(
            f"Faces are placed in {placed} of {len(pictures)} pictures only; points.json can give the others, see "
            "docs/new-style.md."
        )
    return told


def _who(names: Sequence[str], pictures: Sequence[PictureCheck]) -> str:
    return f"All {len(names)} pictures" if len(names) == len(pictures) > 1 else ", ".join(names)
