"""What can go wrong in a way the user can mend: one small tree, each with its documented exit code.

The library raises these; only ``cli/app.py`` turns them into one message and an exit code. Each message says what was
found, where, and what to do next. Anything else that escapes is a bug and keeps its traceback.
"""

from __future__ import annotations


class Agile3dError(Exception):
    """An expected error. The message is meant for the user as it stands."""

    exit_code = 1


class UsageError(Agile3dError):
    """Options or arguments that do not fit together."""

    exit_code = 2


class PhotoError(Agile3dError):
    """A photo that cannot be read: not an image, truncated, too large."""


class NoFaceError(PhotoError):
    """A readable photo without a usable face."""

    exit_code = 3


class MissingError(Agile3dError):
    """A model, style or plugin that is not installed."""

    exit_code = 4


class RefusedError(Agile3dError):
    """A file that was refused: unsafe, corrupt, wrong hash or wrong licence."""

    exit_code = 5


class DeviceError(Agile3dError):
    """Out of memory, or a device that is not there."""

    exit_code = 6


class OutputError(Agile3dError):
    """A place that cannot be written."""


class ConfigError(Agile3dError):
    """A configuration value outside its range."""

    exit_code = 2


class PartialBatchError(Agile3dError):
    """A batch that finished with some photos failed."""

    exit_code = 7
