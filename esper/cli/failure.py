"""How a failure is told: its place, code and message, the line of source it points at, the way out.

FILE:LINE:COLUMN: error[CODE]: message
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esper.errors import EsperError

if TYPE_CHECKING:
    from esper.lang.source import Source


class FileUnusable(EsperError):
    """The system refused a file, and the code that asked for it did not foresee it."""

    code = "E0980"
    message = "cannot use `{path}`: {reason}"


class PackageAbsent(EsperError):
    """An import failed that no code foresaw."""

    code = "E0981"
    message = "the Python package `{package}` is not installed"
    help = "pip install 'esper-toolchain[growth]' brings everything that the commands use"
    exit_code = 3


class InternalFailure(EsperError):
    """Anything else: a fault of Esper's own."""

    code = "E0982"
    message = "{kind}: {reason}"
    help = "this is a fault in Esper; `--debug` shows where: please report it"


@dataclass(frozen=True, slots=True)
class Failure:
    """What to print on stderr, and the program's exit code."""

    text: str
    exit_code: int


def failure_of(error: Exception) -> Failure:
    """`error` as it is told to a user; what no code foresaw is told as an error of its own kind."""
    known = error if isinstance(error, EsperError) else _as_esper_error(error)
    return Failure(error_text(known), known.exit_code)


def is_internal(error: Exception) -> bool:
    """Whether `error` is a fault of Esper's own, and not of the input, the usage or the machine."""
    if isinstance(error, click.ClickException | click.Abort | click.exceptions.Exit):
        return False
    # Loaded only where something failed, as in `error_text`.
    from esper.passes.errors import PassDefect

    known = error if isinstance(error, EsperError) else _as_esper_error(error)
    return isinstance(known, InternalFailure | PassDefect)


def error_text(error: EsperError) -> str:
    """The text of `error` without a final newline; the line it points at is shown where it can be read."""
    # Loaded only where something failed: a command that succeeds may need no language.
    from esper.lang.diagnostics import BlueprintRejected, Diagnostic
    from esper.lang.render import as_text

    if isinstance(error, BlueprintRejected):
        return str(error)
    if error.span is not None:
        found = Diagnostic(error.code, str(error), error.span, error.help_text)
        return as_text([found], _sources(error.span.file)).rstrip("\n")
    way_out = f"\n  help: {error.help_text}" if error.help_text else ""
    file = "" if error.file is None else f"{error.file}: "
    return f"{file}error[{error.code}]: {error}{way_out}"


def _as_esper_error(error: Exception) -> EsperError:
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("esper"):
        return PackageAbsent(package=error.name.partition(".")[0])
    if isinstance(error, OSError) and error.filename is not None:
        return FileUnusable(path=error.filename, reason=error.strerror)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return FileUnusable(path="the disk", reason=error.strerror)
    return InternalFailure(kind=type(error).__name__, reason=error)


def _sources(file: str) -> dict[str, Source]:
    from esper.lang.source import Source

    try:
        return {file: Source(file, Path(file).read_text(encoding="utf-8"))}
    except (OSError, UnicodeDecodeError):
        return {}
