"""What an expression is while a blueprint is elaborated: a static value, a tensor, or poison.

`Unknown` is a static value that depends on sizes without numbers; poison is the value of an expression
whose error was already told, so that it is told once.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from esper.ir.dims import Dim, Size
from esper.ir.graph import Value
from esper.ir.types import DType


@dataclass(frozen=True, slots=True)
class OperatorName:
    """An operator as a value: of an `op` parameter, or named in an expression."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Unknown:
    """A truth value or number that depends on the sizes `symbols`."""

    symbols: frozenset[str]


class Poison(Enum):
    POISON = "poison"


POISON = Poison.POISON

Known = bool | int | Dim | float | str | OperatorName | DType | tuple[Size, ...]
Static = Known | Unknown
AnyValue = Static | Value | Poison


def is_size(value: object) -> bool:
    """Whether `value` is an integer or a size; truth values are not."""
    return isinstance(value, int | Dim) and not isinstance(value, bool)


def describe(value: AnyValue) -> str:
    """What `value` is, for a message: `the integer 3`, `a tensor`."""
    match value:
        case Value():
            return "a tensor"
        case bool():
            return f"the truth value {str(value).lower()}"
        case int():
            return f"the integer {value}"
        case float():
            return f"the number {value}"
        case str():
            return "a text"
        case Dim():
            return f"the size {value}"
        case OperatorName():
            return f"the operator `{value}`"
        case DType():
            return f"the element type `{value}`"
        case tuple():
            return "a list of sizes"
        case Unknown():
            return "a value that is known later"
        case Poison():
            return "an error"


def shown(value: Static) -> str:
    """`value` as a blueprint's source writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    return str(value)
