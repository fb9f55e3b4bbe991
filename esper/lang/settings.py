"""What elaboration is given besides the source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esper.ir.types import DType
from esper.lang.diagnostics import Report
from esper.lang.parameters import ParameterValue

PRECISIONS = {"f32": DType.F32, "bf16": DType.BF16, "f16": DType.F16}


@dataclass(slots=True)
class Budget:
    """What elaboration has used up: statements, repeated and called ones as often as they run.

    told_to: the reports that say that it was too much.
    """

    statements: int = 0
    told_to: list[Report] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Settings:
    """How one blueprint is elaborated.

    values: parameters by name. ranks: for each `...S`, how many axes it stands for (else 2).
    precision: replaces f32 in the inputs' types; None for what the blueprint states.
    symbolic: a check: leave `dim` parameters as size symbols, and look into every branch of a choice.
    """

    values: Mapping[str, ParameterValue] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    precision: DType | None = None
    symbolic: bool = False
    budget: Budget = field(default_factory=Budget, compare=False)
