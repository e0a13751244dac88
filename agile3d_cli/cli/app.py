"""The program: puts the commands together and turns every expected error into one message and its exit code."""

from __future__ import annotations

import errno
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from agile3d_cli import __version__
from agile3d_cli.cli import apply, doctor, export, licenses, models, new_style, plugins, pose, styles, view
from agile3d_cli.cli.session import add_command, schema
from agile3d_cli.errors import Agile3dError, DeviceError, OutputError

INTERRUPTED = 130
ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")
"""Wrong usage as Typer reports it; some versions of Typer bring this class along, others take it from click."""


class ErrorReporter(TyperGroup):
    """The top command: runs the others and reports what went wrong."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs the program; the exit code is the documented one."""
        words = list(sys.argv[1:] if args is None else args)
        code = self._run(words, complete_var, **extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def invoke(self, ctx: Any) -> Any:
        """Runs the chosen command. Ctrl-C is handled here, before Typer has its own way with it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error

    def _run(self, words: list[str], complete_var: str | None, **extra: Any) -> int:
        try:
            code = super().main(words, "agile3d", complete_var, False, **extra)
            return code if isinstance(code, int) else 0
        except ClickException as error:
            command = self._command(words)
            tip = f"Try 'agile3d {command} --help'." if command else "Try 'agile3d --help'."
            return _report(words, command, "UsageError", f"{_closed(error.format_message())} {tip}", 2)
        except (_Interrupted, typer.Abort, KeyboardInterrupt):
            return _report(words, self._command(words), "Interrupted", "Interrupted.", INTERRUPTED)
        except Exception as error:
            expected = _expected(error)
            if expected is None:
                raise
            if "--debug" in words:
                traceback.print_exception(error)
            kind = type(expected).__name__
            return _report(words, self._command(words), kind, str(expected), expected.exit_code)

    def _command(self, words: Sequence[str]) -> str:
        """The command as typed, "" when there is none."""
        found: list[str] = []
        commands: Any = self.commands
        for word in words:
            if word in commands:
                found.append(word)
                commands = getattr(commands[word], "commands", {})
            elif not word.startswith("-"):
                break
        return " ".join(found)


class _Interrupted(Exception):
    """Ctrl-C."""


def _expected(error: Exception) -> Agile3dError | None:
    """The error as one for the user, or None when it is a bug."""
    if isinstance(error, Agile3dError):
        return error
    # torch is not imported here: its class is told by name, its CPU allocator by message.
    name, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or name == "OutOfMemoryError" or "can't allocate memory" in text:
        return DeviceError("Memory ran out. Close other programs, or choose a smaller --size or another --device.")
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return OutputError(f"The disk is full{_where(error)}; free some space or choose another --output.")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return OutputError(f"No permission{_where(error)}; check who owns it, or choose another place.")
    return None


def _closed(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?", "!")) else f"{sentence}."


def _where(error: OSError) -> str:
    return f" at {error.filename}" if error.filename else ""


def _report(words: Sequence[str], command: str, kind: str, message: str, code: int) -> int:
    if "--json" in words:
        document = {"schema": schema(command or "error"), "error": message, "kind": kind, "exit_code": code}
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
    typer.echo(f"agile3d: {message}", err=True)
    return code


app = typer.Typer(
    cls=ErrorReporter,
    name="agile3d",
    help="Turns portrait photos into stylized 3D heads, and learns new styles from about 20 pictures.",
    no_args_is_help=True,
    # A bug shows Python's own traceback, without the values of variables.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"agile3d {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Turns portrait photos into stylized 3D heads, and learns new styles from about 20 pictures."""


add_command(app, "apply", apply.apply)
add_command(app, "export", export.export)
add_command(app, "view", view.view)
add_command(app, "new-style", new_style.new_style)
app.add_typer(styles.group, name="styles")
app.add_typer(models.group, name="models")
app.add_typer(plugins.group, name="plugins")
add_command(app, "pose", pose.pose)
add_command(app, "doctor", doctor.doctor)
add_command(app, "licenses", licenses.licenses)


def main() -> None:
    """Entry point of the console script. A polite request to stop is treated as Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.main.get_command(app)()
