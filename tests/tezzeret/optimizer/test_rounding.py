"""What fewer digits cost, as it is measured, and which products a budget allows."""

from __future__ import annotations

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType
from esper.lang import lower, size_values
from esper.passes import run_passes
from esper.passes.precision import Precision
from esper.tezzeret.optimizer.rounding import Rounding, narrowest

EPS = 2.0**-8
"""Of bfloat16."""


def block() -> BlueprintIR:
    return run_passes(lower("conv_enhance", channels=4))


def test_float32_errs_by_its_roundings_and_bfloat16_by_more() -> None:
    ir = block()
    rounding = Rounding(ir, size_values(ir, None))
    single = rounding.error(ir)
    narrow = rounding.error(run_passes(ir, "precision"))
    assert 0 < single < 1e-5
    assert EPS / 8 < narrow < 0.5


def test_one_product_errs_by_less_than_both() -> None:
    ir = block()
    names = [node.name for node in ir.of("convolution")]
    rounding = Rounding(ir, size_values(ir, None))
    both = rounding.error(run_passes(ir, "precision"))
    last = rounding.error(run_passes(ir, [Precision(keep=(names[0],))]))
    assert 0 < last < both


@pytest.mark.parametrize("share", [0.0, 0.9, 1.1])
def test_the_budget_holds(share: float) -> None:
    ir = block()
    sizes = size_values(ir, None)
    everything = Rounding(ir, sizes).error(run_passes(ir, "precision"))
    found = narrowest(ir, share * everything, sizes)
    if share == 0.0:
        assert found is None
        return
    assert found is not None
    entry, error = found
    narrow = [node for node in run_passes(ir, [entry]).of("convolution") if node.type.dtype is DType.BF16]
    assert 0 < error <= share * everything
    assert len(narrow) == (2 if share > 1 else 1)


def test_a_gradient_that_is_zero_but_for_roundings_counts_for_nothing() -> None:
    """A softmax takes the bias of keys away again."""
    ir = run_passes(lower("attention", features=8, heads=2))
    assert Rounding(ir, size_values(ir, None)).error(run_passes(ir, "precision")) < 0.1


def test_a_graph_without_products_has_nothing_to_narrow() -> None:
    ir = BlueprintIR.from_text(
        "blueprint b {\n%x = input() : f32[N]\n%y = exp(%x) : f32[N]\noutput y = %y\n}"
    )
    assert narrowest(ir, 1.0, {"N": 4}) is None


def test_a_map_with_no_room_for_small_sizes_is_measured_as_it_is() -> None:
    text = """blueprint b {
      %x = input() : f32[N, 1, S]
      %w = param() {init="normal", fan_in=24, gain=1.0} : f32[1, 1, 24]
      %y = convolution(%x, %w) {stride=1, padding=0, dilation=1, groups=1} : f32[N, 1, S - 23]
      output y = %y
    }"""
    ir = BlueprintIR.from_text(text)
    found = narrowest(ir, 1.0, {"N": 2, "S": 32})
    assert found is not None and 0 < found[1] < 0.02


def test_of_many_products_neighbours_are_narrowed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esper.tezzeret.optimizer.rounding.MOST_GROUPS", 3)
    build = Builder("deep")
    value = build.input("x", TensorType(DType.F32, (4, 2)))
    for index in range(6):
        weight = build.param(f"w{index}", TensorType(DType.F32, (2, 2)))
        value = build.op("add", build.op("tanh", build.op("matmul", value, weight)), value)
    ir = build.finish({"y": value})
    everything = Rounding(ir, {}).error(run_passes(ir, "precision"))
    found = narrowest(ir, everything / 2, {})
    assert found is not None
    kept = [int(name.removeprefix("matmul").removeprefix("_") or 1) for name in found[0].keep]
    assert kept and all({name, name + 1 if name % 2 else name - 1} <= set(kept) for name in kept)
