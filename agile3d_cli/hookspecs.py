"""What a plugin may offer. One hook per idea; each docstring is the contract.

A plugin is a package that names one of its modules in the entry-point group ``agile3d``::

    [project.entry-points.agile3d]
    mystyle = "agile3d_mystyle"

and implements hooks in that module, which imports nothing heavy::

    from agile3d_cli.hookspecs import hookimpl

    @hookimpl
    def agile3d_stylizers():
        return [StylizerDescription(name="mystyle", ...)]

``docs/write-a-stylizer.md`` walks through a whole package.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from agile3d_cli.stylizer import StylizerDescription

PROJECT = "agile3d"
"""Name of the project towards pluggy, and of the entry-point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def agile3d_stylizers() -> Sequence[StylizerDescription]:  # type: ignore[empty-body]
    """2D stylizers that the plugin offers.

    Returns descriptions only: no weights are loaded and torch is not imported here. See ``stylizer.py`` for what a
    description holds and what the stylizer it builds must do; ``testing.py`` holds the tests that it must pass.
    """
