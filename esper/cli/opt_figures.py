"""What `esperc opt` tells of a run: the figures of the graph after each pass, and the passes' times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esper.ir.graph import BlueprintIR
    from esper.lang import SizeValue

COUNTS = ("parameters", "flops", "saved_bytes")


class Figures:
    """Counts of a graph, and how they change from pass to pass.

    parameters and flops are numbers at the given sizes (N is 32, axes of a `...` are 32, others 64, unless
    given); saved_bytes, of a joint graph alone, is what the forward graph saves for the backward graph.
    """

    def __init__(self, ir: BlueprintIR, sizes: Mapping[str, SizeValue]) -> None:
        from esper import lang

        self._sizes = lang.size_values(ir, sizes)
        self._operators = Counter(node.op for node in ir.nodes)
        self._given = {"nodes": len(ir.nodes), **self._counts(ir)}

    def after(self, ir: BlueprintIR) -> dict[str, Any]:
        """The counts of `ir`, and how many nodes of each operator it has more than the last graph."""
        operators = Counter(node.op for node in ir.nodes)
        changes = {
            op: operators[op] - self._operators[op]
            for op in sorted({*operators, *self._operators})
            if operators[op] != self._operators[op]
        }
        self._operators = operators
        return {**self._counts(ir), "operators": changes}

    def text(self, passed: Iterable[Mapping[str, Any]]) -> str:
        """A table of the counts, one line a pass, with the operators that came and went."""
        rows = [["pass", "nodes", *COUNTS, "operators"]]
        rows.append(["", str(self._given["nodes"]), *(_shown(self._given[name]) for name in COUNTS), ""])
        for record in passed:
            changes = ", ".join(f"{change:+d} {op}" for op, change in record["operators"].items())
            counts = (_shown(record[name]) for name in COUNTS)
            rows.append([record["name"], str(record["nodes_after"]), *counts, changes or "="])
        return table(rows)

    def _counts(self, ir: BlueprintIR) -> dict[str, int | None]:
        from esper.ir.dims import evaluate_size
        from esper.passes import partition
        from esper.passes.autodiff import GRADIENT
        from esper.urza.traffic import flops

        is_joint = any(name.startswith(GRADIENT) for name, _ in ir.outputs)
        return {
            "parameters": evaluate_size(ir.parameters, self._sizes),
            "flops": flops(ir, self._sizes),
            "saved_bytes": evaluate_size(partition(ir).saved_bytes, self._sizes) if is_joint else None,
        }


def times_text(passed: Sequence[Mapping[str, Any]]) -> str:
    """The time of each pass, and of all, in milliseconds."""
    rows = [[record["name"], f"{record['ms']:.3f} ms"] for record in passed]
    return table([*rows, ["", f"{sum(record['ms'] for record in passed):.3f} ms"]])


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns with two spaces between; the first and the last begin, the others end at their edges."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    lines = (
        "  ".join(
            cell.ljust(width) if index == 0 or index == last > 1 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _shown(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
