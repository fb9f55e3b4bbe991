"""How a failure is told: its place, code and message, the line of source it points at, the way out.

FILE:LINE:COLUMN: error[CODE]: message
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path

from esper.errors import EsperError, Span


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


def error_text(error: EsperError) -> str:
    """The text of `error` without a final newline."""
    from esper.lang.diagnostics import BlueprintRejected  # loaded only where something failed

    if isinstance(error, BlueprintRejected):
        return str(error)
    place = ""
    lines = []
    if error.span is not None:
        place = f"{error.span.file}:{error.span.line}:{error.span.column}: "
        lines = _source_lines(error.span)
    if error.help_text:
        lines.append(f"  help: {error.help_text}")
    return "\n".join([f"{place}error[{error.code}]: {error}", *lines])


def _as_esper_error(error: Exception) -> EsperError:
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("esper"):
        return PackageAbsent(package=error.name.partition(".")[0])
    if isinstance(error, OSError) and error.filename is not None:
        return FileUnusable(path=error.filename, reason=error.strerror)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return FileUnusable(path="the disk", reason=error.strerror)
    return InternalFailure(kind=type(error).__name__, reason=error)


def _source_lines(span: Span) -> list[str]:
    """The first line that `span` covers and a caret line under it; nothing where it cannot be read."""
    try:
        source = Path(span.file).read_text(encoding="utf-8").split("\n")[span.line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        return []
    end = span.end_column if span.end_line == span.line else len(source) + 1
    indent = "".join("\t" if character == "\t" else " " for character in source[: span.column - 1])
    return [f"  {source}", f"  {indent}{'^' * max(1, end - span.column)}"]
