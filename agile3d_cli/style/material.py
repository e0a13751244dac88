"""Exemplars + base generator -> stylized faces, in a folder from which an interrupted run goes on.

Source: AgileGAN3D (arXiv 2303.14297), style prior creation.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agile3d_cli.errors import OutputError
from agile3d_cli.models.checkpoints import BaseModel
from agile3d_cli.style.augment import Pairs, PhotoPairs, make_pairs, make_photo_pairs
from agile3d_cli.style.config import PRESET_WORK, FilterConfig, NewStyleConfig, Preset, TransferConfig
from agile3d_cli.style.exemplars import ExemplarSet
from agile3d_cli.style.faces import GeneratorFaces
from agile3d_cli.style.kept_faces import KeptFaces
from agile3d_cli.style.photos import Photo, photo_key
from agile3d_cli.style.stylize import fit_stylizer
from agile3d_cli.style.together import Together
from agile3d_cli.stylizer import Progress, Stylizer, StylizerDescription

UNPLANNED = ("resume", "strict", "photos", "dataset", "log")
"""Settings that change nothing of what is learnt, or are told apart by the photos themselves."""
REAL, FACES, PHOTOS = "real", "faces", "photos"
"""Folders below the work folder: of faces that the stylizer is fitted with, and of stylized pictures."""


@dataclass(frozen=True)
class Material:
    """What a style is learnt from."""

    settings: TransferConfig
    stylizer: Stylizer
    description: StylizerDescription
    stylizer_card: Mapping[str, Any]
    pairs: Pairs
    photos: PhotoPairs | None
    dataset: dict[str, Any]
    """See ``StyleResult.dataset``."""


def prepare(
    base: BaseModel,
    pictures: ExemplarSet,
    photos: Sequence[Photo],
    output: Path,
    config: NewStyleConfig,
    together: Together,
    progress: Progress,
    lap: Callable[[str], None],
) -> Material:
    """Fits the stylizer and has it draw; what lies in the work folder already is taken from there."""
    preset, filters = work_with(base, config), FilterConfig()
    settings = TransferConfig(steps=preset.steps, patch=preset.size // 4, seed=config.seed, early=preset.early)
    work = work_folder(output)
    facts = {"base": base.reference.sha256, "exemplars": pictures.card(), "points": pictures.points}
    more = {"filters": asdict(filters), "photos": [photo_key(photo) for photo in photos]}
    faces = GeneratorFaces(base, preset.size)
    if together.first:
        _start(work, config, {"preset": asdict(preset), "transfer": asdict(settings), **facts, **more})
    kept = KeptFaces(faces, work / REAL, {"base": base.reference.sha256, "size": preset.size})
    stylizer, description, card = together.in_turn(
        lambda: fit_stylizer(config.stylizer, pictures, kept, config.seed, progress, work)
    )
    kept.clear()
    lap("stylizer")
    recipe = {**facts, "stylizer": card, "size": preset.size, "seed": config.seed}
    pairs, harvest = together.in_turn(
        lambda: make_pairs(faces, stylizer, preset.pairs, work / FACES, recipe, config.seed, progress, filters)
    )
    dataset: dict[str, Any] = {"faces": harvest}
    shown: PhotoPairs | None = None
    if photos:
        place, look = work / PHOTOS, (preset.size, base.framing)
        shown, dataset["photos"] = together.in_turn(
            lambda: make_photo_pairs(photos, stylizer, *look, place, recipe, progress, filters)
        )
    return Material(settings, stylizer, description, card, pairs, shown, dataset)


def work_with(base: BaseModel, config: NewStyleConfig) -> Preset:
    """The preset's work, with pictures as large as an imported generator makes them."""
    preset, larger = PRESET_WORK[config.preset], base.generator.config.superresolution
    return replace(preset, size=(larger.sizes or (larger.rendered,))[-1]) if base.imported else preset


def work_folder(output: Path) -> Path:
    """The folder of unfinished work."""
    work = output / ".work"
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output} cannot be written ({error.strerror}); choose another --output.") from error
    return work


def _start(work: Path, config: NewStyleConfig, facts: Mapping[str, Any]) -> None:
    """Empties the work folder, or what of it a run with other settings, generator or pictures cannot go on from.

    Stylized pictures stay: they say themselves what they were made of.
    """
    plain = {name: value for name, value in asdict(config).items() if name not in UNPLANNED}
    plan = json.dumps({"config": plain, **facts}, sort_keys=True)
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
