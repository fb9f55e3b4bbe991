"""What counts as a broken law, on graphs made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.passes import PASSES, Law, Pass, run_passes
from esper.passes.errors import NotEvaluated
from esper.testing.failure import broken_law


def promising(promised: Law) -> Pass:
    """A pass with a law and no work: what it made is given by the test."""

    @dataclass(frozen=True)
    class Promises:
        name: ClassVar[str] = "promises"
        law: ClassVar[Law] = promised

        def run(self, ir: BlueprintIR) -> BlueprintIR:
            return ir

    return Promises()


def doubled(factor: float) -> BlueprintIR:
    build = Builder("doubled")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 3)))
    return build.finish({"y": build.op("mul", x, factor)})


@pytest.mark.parametrize(
    ("law", "factor", "way"),
    [
        (Law.EXACT, 2.0, None),
        (Law.EXACT, 2.0 + 1e-6, "breaks its law exact"),
        (Law.REAL_EQUAL, 2.0, None),
        (Law.REAL_EQUAL, 2.0 + 1e-6, "breaks its law real_equal"),
        (Law.TOLERANCE, 2.0, None),
        (Law.TOLERANCE, 2.0 + 1e-6, "breaks its law tolerance"),
        (Law.CHANGES_SIGNATURE, 3.0, None),
    ],
)
def test_results_are_held_to_the_law(law: Law, factor: float, way: str | None) -> None:
    failure = broken_law(promising(law), doubled(2.0), doubled(factor))
    assert (failure and failure.way) == way
    assert failure is None or (failure.ran and "`y`" in failure.reason)


def test_a_graph_that_does_not_run_any_more_breaks_the_law() -> None:
    before = doubled(2.0)
    after = before.replace(nodes=[node for node in before.nodes if node.op != "input"])
    failure = broken_law(promising(Law.EXACT), before, after)
    assert failure is not None and failure.way == "breaks its law exact"


def test_gradients_are_those_of_autograd() -> None:
    ir = doubled(2.0)
    autodiff = PASSES["autodiff"]
    assert broken_law(autodiff, ir, run_passes(ir, "autodiff")) is None
    failure = broken_law(autodiff, ir, run_passes(doubled(3.0), "autodiff"))
    assert failure is not None and failure.way == "breaks gradients" and "grad.x" in failure.reason


def test_sizes_that_are_too_small_to_evaluate_are_told() -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (2, 3, symbol("H"))))
    weight = build.param("w", TensorType(DType.F32, (3, 3, 5)))
    ir = build.finish({"y": build.op("convolution", x, weight, padding=0)})
    with pytest.raises(NotEvaluated, match="`b` cannot be evaluated with H = 2: ") as raised:
        broken_law(PASSES["cse"], ir, ir)
    assert "--size" in raised.value.help_text
    assert broken_law(PASSES["cse"], ir, ir, {"H": 6}) is None
