"""exemplars -> style bundle: the stages of the flow, called in order, nothing else.

Source: AgileGAN3D (arXiv 2303.14297): style prior creation, then guided transfer learning.
"""

from __future__ import annotations

import datetime
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from agile3d_cli.avatar.measure import SIZE
from agile3d_cli.bundle import StyleBundle, write_style
from agile3d_cli.device import choose_device
from agile3d_cli.errors import OutputError
from agile3d_cli.image import save_png, write_whole
from agile3d_cli.licenses import FREE, LicenseNote, join_notes
from agile3d_cli.models.checkpoints import for_portraits, load_base
from agile3d_cli.scores import NOT_MEASURED, Scores
from agile3d_cli.style.augment import Harvest, Pairs, PhotoPairs, make_pairs, make_photo_pairs
from agile3d_cli.style.check import check_exemplars, refuse_doubtful
from agile3d_cli.style.config import PRESET_WORK, FilterConfig, NewStyleConfig, TransferConfig
from agile3d_cli.style.displacement import style_displacement
from agile3d_cli.style.eg3d_layout import check_place, write_layout
from agile3d_cli.style.exemplars import TERMS, ExemplarSet, as_batch, read_exemplars
from agile3d_cli.style.faces import GeneratorFaces
from agile3d_cli.style.finish import finished
from agile3d_cli.style.log import open_log
from agile3d_cli.style.photos import find_photos, photo_key
from agile3d_cli.style.preview import kept, sheet, views_of
from agile3d_cli.style.score import score_style
from agile3d_cli.style.stylize import fit_stylizer
from agile3d_cli.style.transfer import transfer
from agile3d_cli.stylizer import Progress

UNPLANNED = ("resume", "strict", "photos", "dataset", "log")
"""Settings that change nothing of what is learnt, or are told apart by the photos themselves."""
FACES, PHOTOS = "faces", "photos"
"""Folders of stylized pictures below the work folder."""


@dataclass(frozen=True)
class StyleResult:
    """The files of a learnt style and how the learning went."""

    style: str
    bundle: Path
    preview: Path
    report: Path
    scores: Mapping[str, Any]
    seconds: Mapping[str, float]
    stopped: str
    """"length": the planned steps were done."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """What became of the stylized pictures: "faces" and, if there were any, "photos", see ``augment.Harvest``; and the
    folder they were exported to."""
    notes: tuple[str, ...] = ()
    """What there is to say about the pictures, see ``ExemplarCheck.notes``."""


def learn_style(
    exemplars: Path,
    output: Path,
    config: NewStyleConfig,
    progress: Progress,
    note: Callable[[str], None] = lambda sentence: None,
) -> StyleResult:
    """Learns a style from a folder of pictures and writes it to ``output``.

    An interrupted run leaves its work in ``output/.work``; with ``config.resume`` the next one goes on from there. What
    was stylized is kept by a longer preset whose pictures are of the same size.

    Args:
        exemplars: the folder.
        output: where bundle, preview and report go.
        config: settings.
        progress: told how far the work is.
        note: told each of the result's notes before the long work begins.

    Raises:
        PhotoError: no usable picture.
        RefusedError: ``config.strict`` and there is a warning about the pictures; nothing was written.
        MissingError: no such stylizer or base model, or what writes the log is not installed.
        UsageError: the base model is an imported one.
        OutputError: the folder cannot be written.
    """
    clock = _Clock()
    if config.dataset is not None:
        check_place(config.dataset)
    photos = find_photos(config.photos) if config.photos is not None else []
    preset = PRESET_WORK[config.preset]
    settings = TransferConfig(steps=preset.steps, patch=preset.size // 4, seed=config.seed)
    base = for_portraits(load_base(config.base, choose_device(config.device)))
    pictures = read_exemplars(exemplars, base.framing)
    check = check_exemplars(pictures)
    for sentence in check.notes:
        note(sentence)
    if config.strict:
        refuse_doubtful(check)
    log = open_log(config.log)
    work = _work_folder(output)
    filters = FilterConfig()
    facts = {"base": base.reference.sha256, "exemplars": pictures.card(), "points": pictures.points}
    more = {"filters": asdict(filters), "photos": [photo_key(photo) for photo in photos]}
    _start(work, config, settings, {**facts, **more})
    clock.lap("exemplars")
    faces = GeneratorFaces(base, preset.size)
    stylizer, description, stylizer_card = fit_stylizer(config.stylizer, pictures, faces, config.seed, progress, work)
    clock.lap("stylizer")
    recipe = {**facts, "stylizer": stylizer_card, "size": preset.size, "seed": config.seed}
    pairs, harvest = make_pairs(faces, stylizer, preset.pairs, work / FACES, recipe, config.seed, progress, filters)
    dataset: dict[str, Any] = {"faces": harvest}
    shown: PhotoPairs | None = None
    if photos:
        place = work / PHOTOS
        shown, dataset["photos"] = make_photo_pairs(
            photos, stylizer, preset.size, base.framing, place, recipe, progress, filters
        )
    if config.dataset is not None:
        write_layout(config.dataset, _stylized(pairs, shown))
        dataset["folder"] = config.dataset
    clock.lap("augment")
    displacement = style_displacement(pairs, base, shown, stylizer) if base.generator.deforms else None
    learnt = transfer(pairs, base, displacement, settings, work / "transfer.safetensors", progress, log)
    clock.lap("transfer")
    difference = finished(base, learnt.difference, pictures, settings, progress)
    clock.lap("finish")
    people = views_of(base, difference)
    scores = score_style(base, difference, as_batch(pictures, SIZE), progress)
    log.end(learnt.steps, scores.as_json(), sheet(people))
    clock.lap("scores")
    terms = _exemplar_note(pictures, exemplars)
    bundle = StyleBundle(
        name=config.name,
        license=terms.license,
        base=base.reference,
        tensors=difference.tensors(),
        preview=kept(people),
        summary=f"Learnt from {len(pictures.exemplars)} pictures with {config.stylizer}",
        created=datetime.date.today().isoformat(),
        stylizer=stylizer_card,
        exemplars=tuple(pictures.card()),
        training={"seed": config.seed, "preset": config.preset, "pairs": len(pairs), **_plain(settings)},
        scores=scores.as_json(),
        licenses=join_notes(base.licenses, description.licenses, (terms,)),
    )
    path = output / f"{config.name}.safetensors"
    write_style(path, bundle)
    clock.lap("bundle")
    preview = save_png(output / "preview.png", sheet(people))
    notes = (*check.notes, *_left_out(dataset))
    for sentence in notes[len(check.notes) :]:
        note(sentence)
    report = _write_report(output / "report.json", bundle, learnt.losses, clock.seconds, dataset, notes)
    measured = _measured(scores)
    return StyleResult(config.name, path, preview, report, measured, clock.seconds, "length", dataset, notes)


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = round(now - self._last, 3), now


def _work_folder(output: Path) -> Path:
    """The folder of unfinished work."""
    work = output / ".work"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror}); choose another --output.") from error
    return work


def _start(work: Path, config: NewStyleConfig, settings: TransferConfig, facts: Mapping[str, Any]) -> None:
    """Empties the work folder, or what of it a run with other settings, generator or pictures cannot go on from.

    Stylized pictures stay: they say themselves what they were made of.
    """
    plain = {name: value for name, value in asdict(config).items() if name not in UNPLANNED}
    known = {"config": plain, "preset": asdict(PRESET_WORK[config.preset]), "transfer": asdict(settings), **facts}
    plan = json.dumps(known, sort_keys=True)
    told = work / "plan.json"
    try:
        same = config.resume and told.exists() and told.read_text(encoding="utf-8") == plan
        for old in work.iterdir():
            if old.is_dir() and not config.resume:
                shutil.rmtree(old)
            elif old.is_file() and not same:
                old.unlink()
        told.write_text(plan, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{work} cannot be written ({error.strerror}); choose another --output.") from error


def _stylized(pairs: Pairs, photos: PhotoPairs | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every stylized picture that is kept, with its camera; faces of the generator first."""
    for some in (pairs, photos) if photos is not None else (pairs,):
        for number in range(len(some)):
            yield some.stylized[number].float(), some.labels[number]


def _left_out(dataset: Mapping[str, Any]) -> list[str]:
    """Sentences about stylized pictures that are not learnt from."""
    told = []
    for what, harvest in dataset.items():
        if isinstance(harvest, Harvest) and harvest.kept < harvest.made:
            reasons = ", ".join(f"{reason} {count}" for reason, count in harvest.dropped.items() if count)
            told.append(f"{harvest.made - harvest.kept} of {harvest.made} stylized {what} were left out ({reasons}).")
    return told


def _exemplar_note(pictures: ExemplarSet, folder: Path) -> LicenseNote:
    """Terms of the exemplars: the line ``SPDX-License-Identifier: MIT`` in a LICENSE.txt beside them, else unknown."""
    told = folder / TERMS
    text = told.read_text(encoding="utf-8", errors="replace") if told.is_file() else ""
    found = re.search(r"SPDX-License-Identifier:\s*(\S+)", text)
    source = re.search(r"Origin:\s*(.+)", text)
    spdx = found.group(1) if found else "unknown"
    origin = source.group(1).strip() if source else "given by the user"
    return LicenseNote(f"{len(pictures.exemplars)} exemplars", spdx, origin, spdx in FREE)


def _plain(settings: TransferConfig) -> dict[str, Any]:
    return {"steps": settings.steps, "config": asdict(settings)}


def _measured(scores: Scores) -> dict[str, Any]:
    return {name: NOT_MEASURED if value is None else value for name, value in scores.as_json().items()}


def _write_report(
    path: Path,
    bundle: StyleBundle,
    losses: Mapping[str, float],
    seconds: Mapping[str, float],
    dataset: Mapping[str, Any],
    notes: tuple[str, ...],
) -> Path:
    facts = {
        "schema": "agile3d.style-report/1",
        "style": bundle.name,
        "training": dict(bundle.training),
        "losses": dict(losses),
        "scores": {name: NOT_MEASURED if value is None else value for name, value in bundle.scores.items()},
        "seconds": dict(seconds),
        "dataset": {key: asdict(value) if isinstance(value, Harvest) else str(value) for key, value in dataset.items()},
        "notes": list(notes),
    }
    data = (json.dumps(facts, indent=2) + "\n").encode()
    return write_whole(path, lambda stream: stream.write(data))
