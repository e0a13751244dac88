"""exemplars -> what a new style would be learnt from and what it would cost; the first stage of ``learn_style`` alone.

Writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agile3d_cli.device import choose_device
from agile3d_cli.models.checkpoints import load_base
from agile3d_cli.plugins import choose_stylizer
from agile3d_cli.style.check import ExemplarCheck, check_exemplars
from agile3d_cli.style.config import NewStyleConfig
from agile3d_cli.style.eg3d_layout import check_place
from agile3d_cli.style.exemplars import read_exemplars
from agile3d_cli.style.material import work_with
from agile3d_cli.style.photos import find_photos
from agile3d_cli.style.plan import Plan, plan_style


@dataclass(frozen=True)
class DryRun:
    """What was found and what is planned."""

    check: ExemplarCheck
    plan: Plan


def look_ahead(exemplars: Path, config: NewStyleConfig) -> DryRun:
    """Checks the pictures of a folder and plans the rest.

    Raises:
        PhotoError: no usable picture, or no photos where there should be some.
        RefusedError: ``points.json`` is not what it should be.
        MissingError: no such stylizer or base model.
    """
    if config.dataset is not None:
        check_place(config.dataset)
    photos = find_photos(config.photos) if config.photos is not None else []
    base = load_base(config.base, choose_device(config.device))
    pictures = read_exemplars(exemplars, base.framing)
    description = choose_stylizer(config.stylizer).description
    assert description is not None, "a chosen stylizer could be loaded"
    kept = sum(image.numel() * image.element_size() for image in pictures.images)
    plan = plan_style(
        len(pictures.exemplars), work_with(base, config), len(photos), description.seconds, kept, base.imported
    )
    return DryRun(check_exemplars(pictures), plan)
