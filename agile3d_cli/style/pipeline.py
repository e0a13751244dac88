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
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from agile3d_cli.avatar.measure import SIZE
from agile3d_cli.bundle import StyleBundle, write_style
from agile3d_cli.device import choose_device
from agile3d_cli.errors import UsageError
from agile3d_cli.image import save_png, write_whole
from agile3d_cli.licenses import FREE, LicenseNote, join_notes
from agile3d_cli.models.checkpoints import BaseModel, load_base
from agile3d_cli.scores import NOT_MEASURED, Scores
from agile3d_cli.style.augment import Harvest, Pairs, PhotoPairs
from agile3d_cli.style.brows import with_brows, with_inked_brows
from agile3d_cli.style.check import check_exemplars, refuse_doubtful
from agile3d_cli.style.config import NewStyleConfig, TransferConfig
from agile3d_cli.style.displacement import style_displacement
from agile3d_cli.style.eg3d_layout import check_place, write_layout
from agile3d_cli.style.exemplars import TERMS, ExemplarSet, as_batch, read_exemplars
from agile3d_cli.style.finish import finished
from agile3d_cli.style.log import Log, open_log
from agile3d_cli.style.material import Material, prepare, work_folder
from agile3d_cli.style.photos import Photo, find_photos
from agile3d_cli.style.preview import kept, sheet, views_of
from agile3d_cli.style.score import head_features, score_style
from agile3d_cli.style.surfaces import all_heads
from agile3d_cli.style.together import Together
from agile3d_cli.style.transfer import Transferred, transfer
from agile3d_cli.stylizer import DrawsFeatures, Progress

SURFACES = "surfaces"
"""The folder of traced heads, within that of unfinished work."""
FLAT = 0.7
"""Relief below which a style is said to flatten faces; round cartoons have 0.8."""


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
    """"length": the planned steps were done; "early": people came no nearer to the exemplars before."""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    """What became of the stylized pictures: "faces" and, if there were any, "photos", see ``augment.Harvest``; and the
    folder they were exported to."""
    applies: bool = True
    """Whether photos can be had in it: not where the generator is an imported one."""
    notes: tuple[str, ...] = ()
    """What there is to say about the pictures, see ``ExemplarCheck.notes``."""


def learn_style(
    exemplars: Path,
    output: Path,
    config: NewStyleConfig,
    progress: Progress,
    note: Callable[[str], None] = lambda sentence: None,
    together: Together | None = None,
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
        together: processes that learn it together, this the first; the others call ``take_part``.

    Raises:
        PhotoError: no usable picture.
        RefusedError: ``config.strict`` and there is a warning about the pictures; nothing was written.
        MissingError: no such stylizer or base model, or what writes the log is not installed.
        UsageError: photos are given that an imported generator cannot learn from.
        OutputError: the folder cannot be written.
    """
    clock, together = _Clock(), together or Together(device=choose_device(config.device))
    if config.dataset is not None:
        check_place(config.dataset)
    photos = _photos(config)
    base = _base(config, together)
    pictures = read_exemplars(exemplars, base.framing)
    check = check_exemplars(pictures)
    for sentence in check.notes:
        note(sentence)
    if config.strict:
        refuse_doubtful(check)
    log = open_log(config.log)
    clock.lap("exemplars")
    material = prepare(base, pictures, photos, output, config, together, progress, clock.lap)
    pairs, dataset, settings = material.pairs, material.dataset, material.settings
    if config.dataset is not None:
        write_layout(config.dataset, _stylized(pairs, material.photos))
        dataset["folder"] = config.dataset
    clock.lap("augment")
    displacement, state = _displacement(base, material), _state(output)
    learnt = learn_from(pairs, base, pictures, displacement, settings, state, progress, log, together)
    clock.lap("transfer")
    difference = finished(base, learnt.difference, pictures, settings, progress)
    difference = replace(difference, calm=_calm(base, material))
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
        stylizer=material.stylizer_card,
        exemplars=tuple(pictures.card()),
        training={"seed": config.seed, "preset": config.preset, "pairs": len(pairs), **_plain(settings, learnt)},
        scores=scores.as_json(),
        licenses=join_notes(base.licenses, material.description.licenses, (terms,)),
    )
    path = output / f"{config.name}.safetensors"
    write_style(path, bundle)
    clock.lap("bundle")
    preview = save_png(output / "preview.png", sheet(people))
    notes = (*check.notes, *_left_out(dataset), *_flattened(scores))
    for sentence in notes[len(check.notes) :]:
        note(sentence)
    report = _write_report(output / "report.json", bundle, learnt.losses, clock.seconds, dataset, notes)
    # They are large, and a longer run has surfaces of its own.
    shutil.rmtree(work_folder(output) / SURFACES, ignore_errors=True)
    measured = _measured(scores)
    stopped = "early" if learnt.early else "length"
    files = (path, preview, report)
    return StyleResult(config.name, *files, measured, clock.seconds, stopped, dataset, not base.imported, notes)


def take_part(exemplars: Path, output: Path, config: NewStyleConfig, together: Together) -> None:
    """What a process beside the first does: it reads what ``learn_style`` makes there, and shares its transfer.

    Raises:
        As ``learn_style``.
    """
    base = _base(config, together)
    pictures = read_exemplars(exemplars, base.framing)
    material = prepare(base, pictures, _photos(config), output, config, together, _untold, lambda stage: None)
    displacement, state, settings = _displacement(base, material), _state(output), material.settings
    learn_from(material.pairs, base, pictures, displacement, settings, state, _untold, together=together)


def learn_from(
    pairs: Pairs,
    base: BaseModel,
    pictures: ExemplarSet,
    displacement: torch.Tensor | None,
    settings: TransferConfig,
    state: Path,
    progress: Progress,
    log: Log | None = None,
    together: Together | None = None,
) -> Transferred:
    """The second half of the flow, up to what is learnt; arguments as of ``transfer``."""
    shown, brows = as_batch(pictures, SIZE), None
    heads = None
    if not base.imported:
        place = state.parent / SURFACES
        heads = (together or Together()).in_turn(lambda: all_heads(pairs, base, displacement, place, progress))
    if heads and settings.brows:
        pairs, brows = with_inked_brows(pairs, heads, base.generator, shown)
    wanted = head_features(shown) if settings.early and len(shown) > 1 else None
    learnt = transfer(pairs, heads, base, displacement, settings, state, progress, log, together, wanted)
    if brows is None:
        return learnt
    return replace(learnt, difference=with_brows(base.generator, learnt.difference, brows))


def _base(config: NewStyleConfig, together: Together) -> BaseModel:
    base = load_base(config.base, together.device)
    if base.imported and config.photos is not None and config.dataset is None:
        raise UsageError(
            "--photos shows a style's shapes to generators that deform, and the imported "
            f"{base.reference.name!r} does not; leave --photos away, or give --export-dataset to have them stylized."
        )
    return base


def _photos(config: NewStyleConfig) -> list[Photo]:
    return find_photos(config.photos) if config.photos is not None else []


def _displacement(base: BaseModel, material: Material) -> torch.Tensor | None:
    if not base.generator.deforms:
        return None
    return style_displacement(material.pairs, base, material.photos, material.stylizer)


def _calm(base: BaseModel, material: Material) -> float:
    stylizer = material.stylizer
    drawn = stylizer.features_drawn if isinstance(stylizer, DrawsFeatures) else 0.0
    return material.settings.calm * drawn if base.landmarks is not None else 0.0


def _state(output: Path) -> Path:
    """File from which an interrupted transfer goes on."""
    return work_folder(output) / "transfer.safetensors"


def _untold(stage: str, fraction: float) -> None:
    """Beside the first, nobody is told."""


class _Clock:
    """Seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage], self._last = round(now - self._last, 3), now


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


def _flattened(scores: Scores) -> list[str]:
    """A sentence where faces lost their depth."""
    if scores.relief is None or scores.relief >= FLAT:
        return []
    return [
        f"Faces are flat in this style, {scores.relief:.2f} as deep as without it; give exemplars that show faces from "
        "more sides, or apply it with a lower --structure."
    ]


def _exemplar_note(pictures: ExemplarSet, folder: Path) -> LicenseNote:
    """Terms of the exemplars: the line ``SPDX-License-Identifier: MIT`` in a LICENSE.txt beside them, else unknown."""
    told = folder / TERMS
    text = told.read_text(encoding="utf-8", errors="replace") if told.is_file() else ""
    found = re.search(r"SPDX-License-Identifier:\s*(\S+)", text)
    source = re.search(r"Origin:\s*(.+)", text)
    spdx = found.group(1) if found else "unknown"
    origin = source.group(1).strip() if source else "given by the user"
    return LicenseNote(f"{len(pictures.exemplars)} exemplars", spdx, origin, spdx in FREE)


def _plain(settings: TransferConfig, learnt: Transferred) -> dict[str, Any]:
    return {"steps": learnt.steps, "config": asdict(settings)}


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
