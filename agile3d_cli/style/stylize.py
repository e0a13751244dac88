"""Exemplars + plugin -> fitted 2D stylizer: second stage of the flow exemplars -> style.

In: aligned exemplars and realistic faces. Out: a stylizer that redraws faces without moving the head.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from agile3d_cli.errors import RefusedError
from agile3d_cli.plugins import choose_stylizer
from agile3d_cli.style.exemplars import ExemplarSet
from agile3d_cli.stylizer import FaceSampler, Progress, Stylizer, StylizerDescription


def fit_stylizer(
    name: str, exemplars: ExemplarSet, faces: FaceSampler, seed: int, progress: Progress, work: Path | None = None
) -> tuple[Stylizer, StylizerDescription, dict[str, object]]:
    """Fits the named plugin with its default settings.

    Args:
        name: of the plugin.
        exemplars: to fit to.
        faces: realistic ones.
        seed: of all chance.
        progress: told how far the fit is.
        work: folder of an interrupted run, from which a stylizer that was fitted is taken, and where it is kept.

    Returns:
        The stylizer, its description, and what the bundle says about it.

    Raises:
        MissingError: no such plugin, or a broken one.
    """
    plugin = choose_stylizer(name)
    description = plugin.description
    assert description is not None, "a chosen stylizer could be loaded"
    config = description.config()
    kept = work / f"stylizer-{plugin.version}.safetensors" if work else None
    stylizer = _kept(description, kept)
    if stylizer is None:
        stylizer = description.build(config)
        stylizer.fit(exemplars.images, faces, progress, seed)
        if kept:
            # Under its name only when it is whole.
            part = kept.with_name(f"part-{kept.name}")
            stylizer.save(part)
            os.replace(part, kept)
    card: dict[str, object] = {"name": name, "version": plugin.version, "config": asdict(config)}
    return stylizer, description, card


def _kept(description: StylizerDescription, kept: Path | None) -> Stylizer | None:
    """The stylizer that was kept; None where there is none, or a damaged one."""
    if kept is None or not kept.is_file():
        return None
    try:
        return description.load(kept)
    except RefusedError:
        return None
