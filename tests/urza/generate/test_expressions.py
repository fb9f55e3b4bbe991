"""Pointwise entries' Triton expressions in the interpreter, forward and gradient, judged as every kernel is.

One graph holds a use of each of several entries, as their `sample` rules draw them in float32. An entry that
is the gradient of another one is judged in the backward pass of that.
"""

from __future__ import annotations

import random

import pytest

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import BlueprintIR, Builder, DType, TensorType, Value
from esper.ir.dims import Size
from esper.ir.operator import OPERATORS, Operator, Pointwise
from esper.testing.sampler import GraphSampler
from esper.urza.compiler import Programs, make_programs
from esper.urza.verify.verification import verify_programs

TOGETHER = 6
TAPE = 64
TRIALS = 40


def is_gradient(entry: Operator) -> bool:
    return entry.no_gradient == "second derivatives are not supported"


POINTWISE = sorted(name for name, entry in OPERATORS.items() if isinstance(entry.lowering, Pointwise))
FORWARD = [name for name in POINTWISE if not is_gradient(OPERATORS[name])]
PARTS = [FORWARD[start : start + TOGETHER] for start in range(0, len(FORWARD), TOGETHER)]


class FreshMatrices(GraphSampler):
    """Draws inputs of their own for each use, of two axes or more: the largest error of a few elements alone
    is a matter of luck."""

    def _values(self) -> list[Value]:
        return []

    def shape(self, min_rank: int = 0, max_rank: int = 4) -> tuple[Size, ...]:
        return super().shape(max(min_rank, min(max_rank, 2)), max_rank)


def use(build: Builder, name: str, tape: bytes) -> Value:
    sampler = FreshMatrices(build, (5, 8), (DType.F32,))
    sampler.rewind(tape)
    entry = OPERATORS[name]
    assert entry.sample is not None
    operands, attrs = entry.sample(sampler)
    return build.op(name, *operands, name=None, span=None, **attrs)


def broadcasts(name: str, tape: bytes) -> bool:
    build = Builder("trial")
    operands = build.node(use(build, name, tape).node).operands
    return len({build.type(o).shape for o in operands if o is not None and o.node != "seed"}) > 1


def programs_of(names: list[str]) -> Programs:
    """No operand is broadcast, so no gradient is a sum, whose error is not the expression's."""
    build = Builder("expressions")
    outputs = {}
    for name in names:
        draws = random.Random(name)
        tapes = [draws.randbytes(TAPE) for _ in range(TRIALS)]
        outputs[f"{name}_out"] = use(build, name, next(tape for tape in tapes if not broadcasts(name, tape)))
    return make_programs(build.finish(outputs))


@pytest.mark.parametrize("names", PARTS, ids=lambda names: names[0])
def test_an_expression_computes_its_reference_and_so_does_its_gradient(names: list[str]) -> None:
    programs = programs_of(names)
    found = verify_programs(programs)
    assert found.ok, [kernel for kernel in found.kernels if not kernel.ok]
    assert not set(programs.outside_calls) & set(names)


def test_every_gradient_that_is_an_entry_is_met() -> None:
    met: set[str] = set()
    for names in PARTS:
        joint: BlueprintIR = programs_of(names).joint
        met.update(node.op for node in joint.nodes)
    assert {name for name in POINTWISE if is_gradient(OPERATORS[name])} <= met


def test_a_scalar_can_be_dropped() -> None:
    build = Builder("scalar")
    x = build.input("x", TensorType(DType.F32))
    found = verify_programs(
        make_programs(build.finish({"y": build.op("dropout", x, build.seed(), offset=0)}))
    )
    assert found.ok, found.kernels
