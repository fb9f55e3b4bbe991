"""`esperc opt --reduce`: the first failure of a pass, and a smallest graph on which it fails so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.lang import SizeValue
    from esper.passes import Pass
    from esper.passes.failure import Failure


@dataclass(frozen=True, slots=True)
class Smallest:
    """A failure, the number of nodes of the graph that its pass was given, and the graph found.

    tried: how many graphs were tried. is_minimal: whether the time sufficed to see that none is simpler.
    """

    failure: Failure
    nodes_before: int
    ir: BlueprintIR
    tried: int
    is_minimal: bool

    def __str__(self) -> str:
        found = f"{self.nodes_before} nodes reduced to {len(self.ir.nodes)}, {self.tried} graphs tried"
        return (
            f"{self.failure}\n{found}{'' if self.is_minimal else '; the time was over before it was minimal'}"
        )

    def document(self) -> dict[str, Any]:
        """For `--json`, without the graph."""
        from esper.passes import pipeline_text

        failure = {"pass": self.failure.entry.name, "way": self.failure.way, "cause": self.failure.cause}
        return {
            "blueprint": self.ir.name,
            "ir_hash": self.ir.hash,
            "pipeline": pipeline_text([self.failure.entry]),
            "failure": {**failure, "reason": self.failure.reason},
            "nodes_before": self.nodes_before,
            "nodes_after": len(self.ir.nodes),
            "tried": self.tried,
            "is_minimal": self.is_minimal,
        }


def smallest(
    ir: BlueprintIR, pipeline: Sequence[Pass], sizes: Mapping[str, SizeValue], seconds: float | None
) -> Smallest | None:
    """What the first pass of `pipeline` to fail fails on, made as small as can be; None where none fails.

    A pass fails that raises, makes an invalid graph, or breaks its law or gradients on random values, which
    needs torch. sizes: as `--size` gave them. seconds: for the reduction.
    """
    from esper import lang
    from esper.passes.reduce import reduce

    known = lang.size_values(ir, sizes)
    values = {name: value for name, value in known.items() if name.partition(".")[0] in sizes}
    found = _first_failure(ir, pipeline, values)
    if found is None:
        return None
    failure, given = found
    reduced = reduce(
        given, lambda ir: _again(failure, ir, values) is not None, inf if seconds is None else seconds
    )
    shown = _again(failure, reduced.ir, values) or failure
    return Smallest(shown, len(given.nodes), reduced.ir, reduced.tried, reduced.is_minimal)


def _first_failure(
    ir: BlueprintIR, pipeline: Sequence[Pass], values: Mapping[str, int]
) -> tuple[Failure, BlueprintIR] | None:
    """With the graph that the pass was given."""
    from esper.passes.failure import Failure, outcome

    for entry in pipeline:
        after = outcome(entry, ir)
        failure = after if isinstance(after, Failure) else _broken_law(entry, ir, after, values)
        if failure is not None:
            return failure, ir
        assert not isinstance(after, Failure)
        ir = after
    return None


def _again(failure: Failure, ir: BlueprintIR, values: Mapping[str, int]) -> Failure | None:
    """The failure of the same pass on another graph, if it is the same one."""
    from esper.passes.errors import NotEvaluated
    from esper.passes.failure import Failure, outcome

    after = outcome(failure.entry, ir)
    if not isinstance(after, Failure):
        if not failure.ran:
            return None
        try:
            found = _broken_law(failure.entry, ir, after, values)
        except NotEvaluated:
            return None
        return found if found == failure else None
    return after if after == failure else None


def _broken_law(
    entry: Pass, before: BlueprintIR, after: BlueprintIR, values: Mapping[str, int]
) -> Failure | None:
    from esper.testing.failure import broken_law  # needs torch, which a pass that crashes does not

    return broken_law(entry, before, after, values)
