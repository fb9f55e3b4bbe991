"""The root of every error that a user can cause, and the place in a source it points at.

Each kind of error is one subclass with a code, one fixed message and, where there is one, a way out;
each room keeps its own in its `errors.py`. This module is below everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a source file; lines and columns count from 1, the end column is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


class EsperError(Exception):
    """An error with a code, a message made from `details`, and where there is source, a span.

    `message` and `help` are format templates over `details`. A way out may depend on something that is
    not always known, like the nearest name: it is left out where a detail it names is absent or None.
    `exit_code` is 1 where the input is at fault, 3 where a device, a tool or a package is missing.
    """

    code: ClassVar[str] = "E0000"
    message: ClassVar[str] = "{reason}"
    help: ClassVar[str] = ""
    exit_code: ClassVar[int] = 1

    file: str | None = None
    """The file at fault, where no place in it is known."""

    def __init__(self, *, span: Span | None = None, **details: Any) -> None:
        self.span = span
        self.details = details
        super().__init__(self.message.format(**details))

    @property
    def help_text(self) -> str:
        """The way out, or an empty string."""
        known = {name: value for name, value in self.details.items() if value is not None}
        try:
            return self.help.format(**known)
        except KeyError:
            return ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.span, self.details)


def _rebuild(kind: type[EsperError], span: Span | None, details: dict[str, Any]) -> EsperError:
    return kind(span=span, **details)


class MissingPackage(EsperError):
    """An optional package is not installed."""

    code = "E0001"
    message = "`{package}` is not installed, and {purpose} needs it"
    help = "pip install 'esper-toolchain[{extra}]'"
    exit_code = 3


class WrongArgument(EsperError):
    """A Python caller gave a function something of another kind than it takes."""

    code = "E0003"
    message = "`{argument}` is {found}, expected {expected}"


def require_kind(argument: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raises `WrongArgument` unless `value` is an instance of `kinds`, which `expected` describes."""
    if not isinstance(value, kinds):
        raise WrongArgument(argument=argument, found=f"of type {type(value).__name__}", expected=expected)
