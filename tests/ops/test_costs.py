"""What one fixed small use of every operator costs; a golden table, so that no constant moves unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import BlueprintIR, Builder, DType
from esper.ir.operator import OPERATORS, Leaf, Operator, Site
from esper.testing.sampler import GraphSampler

TAPE = bytes([1, 2] * 40)


def test_the_cost_of_one_use_of_every_operator(
    golden: Callable[[str, str], None], request: pytest.FixtureRequest
) -> None:
    """Of every operator in the table on file; `--update-golden` adds the others."""
    written = Path(__file__).parent / "golden" / "costs.txt"
    known = {line.partition("(")[0] for line in written.read_text(encoding="utf-8").splitlines()}
    names = set(OPERATORS) if request.config.getoption("--update-golden") else known
    entries = (OPERATORS[name] for name in sorted(names))
    lines = [cost_line(entry) for entry in entries if not isinstance(entry.lowering, Leaf)]
    golden("costs.txt", "\n".join(lines) + "\n")


def cost_line(entry: Operator) -> str:
    """Operand and result types, attributes, flops, bytes read and written, of the use drawn by one tape."""
    build = Builder("use")
    draw = GraphSampler(build, (3, 4), (DType.F32,))
    assert entry.sample is not None and entry.cost is not None
    owns_body = any(attribute.kind.value == "graph" for attribute in entry.attributes)
    draw.rewind(b"" if owns_body else TAPE)  # a body is drawn from all operators: the simplest has none
    operands, attrs = entry.sample(draw)
    results = build.ops(entry.name, *operands, name="use", span=None, **attrs)
    node = build.node("use")
    types = tuple(None if operand is None else build.type(operand) for operand in node.operands)
    cost = entry.cost(Site(entry, types, node.attrs, node.types))
    stored = {name: value for name, value in node.attrs.items() if not isinstance(value, BlueprintIR)}
    settings = " ".join(f"{name}={value}" for name, value in stored.items())
    assert len(results) == len(node.types)
    return (
        f"{entry.name}({', '.join(map(str, types))}) {{{settings}}} -> {', '.join(map(str, node.types))}: "
        f"{cost.flops} flops, {cost.read} read, {cost.written} written"
    )
