"""exemplars -> style bundle: the stages of the flow, called in order, nothing else.

Source: AgileGAN3D (arXiv 2303.14297): style prior creation, then guided transfer learning.
"""

from __future__ import annotations

import datetime
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from agile3d_cli import camera
from agile3d_cli.avatar.render import GeneratorHead
from agile3d_cli.bundle import StyleBundle, write_style
from agile3d_cli.device import choose_device
from agile3d_cli.errors import OutputError
from agile3d_cli.image import save_png, to_array, write_whole
from agile3d_cli.licenses import FREE, LicenseNote, join_notes
from agile3d_cli.models.checkpoints import BaseModel, for_portraits, load_base
from agile3d_cli.models.styled import StyleDifference, stylized
from agile3d_cli.scores import NOT_MEASURED, Scores, sharpness
from agile3d_cli.style.augment import make_pairs
from agile3d_cli.style.config import PRESET_WORK, NewStyleConfig, TransferConfig
from agile3d_cli.style.displacement import style_displacement
from agile3d_cli.style.exemplars import TERMS, ExemplarSet, as_batch, read_exemplars
from agile3d_cli.style.faces import TRUNCATION, GeneratorFaces
from agile3d_cli.style.stylize import fit_stylizer
from agile3d_cli.style.transfer import transfer
from agile3d_cli.stylizer import Progress

PREVIEW_PEOPLE, PREVIEW_SIZE, KEPT_SIZE = 8, 192, 128
"""People of the preview and pixels of each view: in the picture, and in the bundle, which it must not fill."""


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
    notes: tuple[str, ...] = ()
    """What there is to say about the pictures, see ``ExemplarSet.notes``."""


def learn_style(
    exemplars: Path,
    output: Path,
    config: NewStyleConfig,
    progress: Progress,
    note: Callable[[str], None] = lambda sentence: None,
) -> StyleResult:
    """Learns a style from a folder of pictures and writes it to ``output``.

    An interrupted run leaves its work in ``output/.work``; with ``config.resume`` the next one goes on from there.

    Args:
        exemplars: the folder.
        output: where bundle, preview and report go.
        config: settings.
        progress: told how far the work is.
        note: told each of the result's notes before the long work begins.

    Raises:
        PhotoError: no usable picture.
        MissingError: no such stylizer or base model.
        UsageError: the base model is an imported one.
        OutputError: the folder cannot be written.
    """
    clock = _Clock()
    work = _work_folder(output)
    preset = PRESET_WORK[config.preset]
    settings = TransferConfig(steps=preset.steps, seed=config.seed)
    base = for_portraits(load_base(config.base, choose_device(config.device)))
    pictures = read_exemplars(exemplars, base.framing)
    for sentence in pictures.notes:
        note(sentence)
    _start(work, config, settings, base, pictures)
    clock.lap("exemplars")
    faces = GeneratorFaces(base, preset.size)
    stylizer, description, stylizer_card = fit_stylizer(config.stylizer, pictures, faces, config.seed, progress)
    clock.lap("stylizer")
    pairs = make_pairs(faces, stylizer, preset.pairs, work, config.seed, progress)
    clock.lap("augment")
    displacement = style_displacement(pairs, base) if base.generator.deforms else None
    learnt = transfer(pairs, base, displacement, settings, work / "transfer.safetensors", progress)
    clock.lap("transfer")
    people = _people(base, learnt.difference)
    scores = Scores(sharpness=sharpness(people, as_batch(pictures, PREVIEW_SIZE)))
    terms = _exemplar_note(pictures, exemplars)
    bundle = StyleBundle(
        name=config.name,
        license=terms.license,
        base=base.reference,
        tensors=learnt.difference.tensors(),
        preview=torch.from_numpy(_sheet(F.interpolate(people, size=KEPT_SIZE, mode="area"))),
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
    preview = save_png(output / "preview.png", _sheet(people))
    report = _write_report(output / "report.json", bundle, learnt.losses, clock.seconds, pictures.notes)
    measured = _measured(scores)
    return StyleResult(config.name, path, preview, report, measured, clock.seconds, "length", pictures.notes)


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


def _start(
    work: Path, config: NewStyleConfig, settings: TransferConfig, base: BaseModel, pictures: ExemplarSet
) -> None:
    """Empties the work folder unless the run may go on from it: same settings, same generator, same pictures."""
    facts = {
        "config": asdict(replace(config, resume=False)),
        "preset": asdict(PRESET_WORK[config.preset]),
        "transfer": asdict(settings),
        "base": base.reference.sha256,
        "exemplars": pictures.card(),
    }
    plan = json.dumps(facts, sort_keys=True)
    told = work / "plan.json"
    try:
        if not (config.resume and told.exists() and told.read_text(encoding="utf-8") == plan):
            for old in work.iterdir():
                old.unlink()
        told.write_text(plan, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{work} cannot be written ({error.strerror}); choose another --output.") from error


@torch.no_grad()
def _people(base: BaseModel, difference: StyleDifference) -> torch.Tensor:
    """Random people in the style, (2 * PREVIEW_PEOPLE, 3, S, S): front and turned in turn."""
    generator, painter = base.generator, stylized(base.generator, difference)
    rng = torch.Generator().manual_seed(2303)
    views = []
    for _ in range(PREVIEW_PEOPLE):
        z = TRUNCATION * torch.randn(1, generator.config.z_dim, generator=rng).to(next(generator.parameters()))
        weights = generator.deformation.weights(z) if generator.deforms else None
        moved = None if difference.displacement is None else difference.displacement[None].to(z)
        ws = generator.mapping(z)
        subject = generator.subject(ws, weights, moved)
        head = GeneratorHead(generator, replace(subject, paint=painter.backbone(ws)))
        labels = torch.stack([camera.portrait_label(yaw, 0.0, 0.75 * camera.FOCAL) for yaw in (0.0, 0.6)])
        views.append(head.render(labels, PREVIEW_SIZE).image.cpu())
    return torch.cat(views)


def _sheet(people: torch.Tensor) -> np.ndarray:
    rows = people.reshape(4, 4, *people.shape[1:])
    return to_array(torch.cat([torch.cat(list(row), 2) for row in rows], 1))


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
    path: Path, bundle: StyleBundle, losses: Mapping[str, float], seconds: Mapping[str, float], notes: tuple[str, ...]
) -> Path:
    facts = {
        "schema": "agile3d.style-report/1",
        "style": bundle.name,
        "training": dict(bundle.training),
        "losses": dict(losses),
        "scores": {name: NOT_MEASURED if value is None else value for name, value in bundle.scores.items()},
        "seconds": dict(seconds),
        "notes": list(notes),
    }
    data = (json.dumps(facts, indent=2) + "\n").encode()
    return write_whole(path, lambda stream: stream.write(data))
