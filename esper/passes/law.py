"""What a pass is: a frozen dataclass with a name, a law, options as fields, and `run`.

`register` puts one into the table `PASSES`, by which pipelines written as text find it.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from esper.ir.graph import BlueprintIR


class Law(Enum):
    """How the results of a graph after a pass compare with those before it."""

    EXACT = "exact"  # bit-equal in the reference
    REAL_EQUAL = "real_equal"  # equal over the reals: within 1e-9 in float64
    TOLERANCE = "tolerance"  # another precision, within its bound
    CHANGES_SIGNATURE = "changes_signature"  # other inputs or outputs; the pass states its own law


@runtime_checkable
class Pass(Protocol):
    """A graph to a graph; neither the argument nor anything else is changed."""

    name: ClassVar[str]
    law: ClassVar[Law]

    def run(self, ir: BlueprintIR) -> BlueprintIR: ...


PassType = TypeVar("PassType", bound=Pass)
PASSES: dict[str, Pass] = {}


def register(kind: type[PassType]) -> type[PassType]:
    """Adds a pass with its default options to the table; a name may be taken once."""
    if kind.name in PASSES:
        raise ValueError(f"pass `{kind.name}` is registered twice")
    PASSES[kind.name] = kind()
    return kind
