"""How plugins are found: installed packages -> stylizer descriptions, each with its state.

A plugin that does not load is listed with the reason and harms nobody until it is chosen. ``AGILE3D_LOAD_PLUGINS``
limits the packages that are looked at: a comma-separated list of package names, empty for none.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points

import pluggy

from agile3d_cli import hookspecs
from agile3d_cli.errors import MissingError
from agile3d_cli.stylizer import StylizerDescription

LIMIT_VARIABLE = "AGILE3D_LOAD_PLUGINS"


@dataclass(frozen=True)
class FoundStylizer:
    """One stylizer of one package, or one package that offers none because it is broken."""

    name: str
    """The stylizer's name; of a broken package the entry point's."""
    package: str
    version: str
    description: StylizerDescription | None
    """None when the package could not be loaded."""
    error: str | None = None
    """Why it cannot be used, or None."""

    @property
    def state(self) -> str:
        """``ok`` or ``broken``."""
        return "broken" if self.error else "ok"


def find_stylizers() -> list[FoundStylizer]:
    """Every stylizer that installed packages offer, usable or not, sorted by name and package."""
    found = [stylizer for point in _entry_points() for stylizer in _load(point)]
    return sorted(_mark_clashes(found), key=lambda stylizer: (stylizer.name, stylizer.package))


def choose_stylizer(name: str) -> FoundStylizer:
    """The stylizer of that name.

    Raises:
        MissingError: there is none, it is broken, or several packages offer it.
    """
    found = find_stylizers()
    named = [stylizer for stylizer in found if stylizer.name == name]
    for stylizer in named:
        if stylizer.error is None:
            return stylizer
    if named:
        raise MissingError(f"Stylizer {name!r} of package {named[0].package} cannot be used: {named[0].error}")
    raise MissingError(_not_found(name, [stylizer.name for stylizer in found if stylizer.error is None]))


def _not_found(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = ", ".join(choices) or "none"
    return (
        f"No stylizer is called {name!r}.{hint} Installed: {listed}. A stylizer usually comes as a package "
        f"agile3d-<name>; install it with pip into this environment and look at `agile3d plugins list`."
    )


def _entry_points() -> list[EntryPoint]:
    limit = os.environ.get(LIMIT_VARIABLE)
    points = entry_points(group=hookspecs.PROJECT)
    if limit is None:
        return list(points)
    wanted = {_canonical(word) for word in limit.split(",") if word.strip()}
    return [point for point in points if _canonical(_package(point)) in wanted]


def _canonical(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package.strip()).lower()


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _load(point: EntryPoint) -> list[FoundStylizer]:
    """What one package offers. Any failure in it becomes a reason, whatever it is: the code is not ours."""
    package, version = _package(point), point.dist.version if point.dist else "unknown"
    try:
        descriptions = _ask(point)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return [FoundStylizer(point.name, package, version, None, reason)]
    return [FoundStylizer(description.name, package, version, description) for description in descriptions]


def _ask(point: EntryPoint) -> Sequence[StylizerDescription]:
    """Calls the hooks of one package through a manager of its own, so that packages cannot disturb each other."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load(), name=point.name)
    manager.check_pending()
    descriptions = [description for offered in manager.hook.agile3d_stylizers() for description in offered]
    if not descriptions:
        raise LookupError(f"{point.value} offers nothing: it needs a function agile3d_stylizers marked @hookimpl")
    for description in descriptions:
        if not isinstance(description, StylizerDescription):
            raise TypeError(f"agile3d_stylizers returned a {type(description).__name__}, not a StylizerDescription")
    return descriptions


def _mark_clashes(found: list[FoundStylizer]) -> list[FoundStylizer]:
    owners: dict[str, list[str]] = defaultdict(list)
    for stylizer in found:
        if stylizer.error is None:
            owners[stylizer.name].append(stylizer.package)
    return [
        replace(
            stylizer,
            error=f"the name {stylizer.name!r} is offered by {' and by '.join(sorted(owners[stylizer.name]))}; "
            f"uninstall one, or name the wanted package in {LIMIT_VARIABLE}",
        )
        if stylizer.error is None and len(owners[stylizer.name]) > 1
        else stylizer
        for stylizer in found
    ]
