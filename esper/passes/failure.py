"""How a pass fails on a graph, so that two failures can be told to be the same one."""

from __future__ import annotations

from dataclasses import dataclass, field

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.passes.errors import PassBrokeGraph, PassCrashed
from esper.passes.law import Pass
from esper.passes.manager import run_passes


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure of one pass.

    way: what the pass does: raises, makes an invalid graph, breaks its law, breaks gradients.
    cause: the error's kind or code, where there is one. reason: in words; two failures of one way and cause
    are the same one, whatever their reasons. ran: whether the pass made a valid graph, with wrong results.
    """

    entry: Pass
    way: str
    cause: str
    reason: str = field(compare=False)
    ran: bool = False

    def __str__(self) -> str:
        return f"`{self.entry.name}` {self.way}: {self.reason}"


def outcome(entry: Pass, ir: BlueprintIR) -> BlueprintIR | Failure:
    """The graph that `entry` makes of the valid graph `ir`, or how it fails to."""
    try:
        return run_passes(ir, [entry])
    except PassCrashed as error:
        return Failure(
            entry, "crashes", error.details["kind"], f"{error.details['kind']}: {error.details['reason']}"
        )
    except PassBrokeGraph as error:
        assert isinstance(error.__cause__, EsperError)
        return Failure(entry, "makes an invalid graph", error.__cause__.code, error.details["reason"])
    except EsperError as error:
        return Failure(entry, "refuses it", error.code, str(error))
