"""Exemplars + plugin -> fitted 2D stylizer: second stage of the flow exemplars -> style.

In: aligned exemplars and realistic faces. Out: a stylizer that redraws faces without moving the head.
"""

from __future__ import annotations

from dataclasses import asdict

from agile3d_cli.plugins import choose_stylizer
from agile3d_cli.style.exemplars import ExemplarSet
from agile3d_cli.style.faces import GeneratorFaces
from agile3d_cli.stylizer import Progress, Stylizer, StylizerDescription


def fit_stylizer(
    name: str, exemplars: ExemplarSet, faces: GeneratorFaces, seed: int, progress: Progress
) -> tuple[Stylizer, StylizerDescription, dict[str, object]]:
    """Fits the named plugin with its default settings.

    Returns:
        The stylizer, its description, and what the bundle says about it.

    Raises:
        MissingError: no such plugin, or a broken one.
    """
    plugin = choose_stylizer(name)
    description = plugin.description
    assert description is not None, "a chosen stylizer could be loaded"
    config = description.config()
    stylizer = description.build(config)
    stylizer.fit(exemplars.images, faces, progress, seed)
    card: dict[str, object] = {"name": name, "version": plugin.version, "config": asdict(config)}
    return stylizer, description, card
