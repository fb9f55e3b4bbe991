"""reassociate: factors in another order give the same outputs and gradients, with fewer operations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.ir import BlueprintIR, Builder, DType, Size, TensorType, Value, symbol
from esper.lang import lower
from esper.passes import Law, joint_graph, run_passes
from esper.passes.errors import BadOption
from esper.passes.reassociate import Reassociate
from esper.testing import random_values
from esper.testing.laws import require_gradients, require_law
from esper.urza.traffic import flops

EXAMPLES = settings(max_examples=settings().max_examples // 5)  # each runs gradients, too
SIZES = {"N": 3, "T": 7}


def require_same_training(ir: BlueprintIR, after: BlueprintIR) -> None:
    values = random_values(ir, SIZES)
    require_law(Law.REAL_EQUAL, ir, after, values)
    require_gradients(ir, joint_graph(after), values)


def operations(ir: BlueprintIR) -> int:
    return flops(run_passes(ir, "dce"), SIZES)


@st.composite
def scalings(draw: st.DrawFn) -> BlueprintIR:
    """A map times up to four factors that broadcast to it, in any order of operands."""
    build = Builder("scalings")
    shape: tuple[Size, ...] = (symbol("N"), 4, symbol("T"))
    value = build.input("x", TensorType(DType.F32, shape))
    for index in range(draw(st.integers(2, 4))):
        kept = draw(st.lists(st.booleans(), min_size=3, max_size=3))
        smaller = tuple(size if keep else 1 for size, keep in zip(shape, kept, strict=True))
        factor = build.input(f"s{index}", TensorType(DType.F32, smaller[draw(st.integers(0, 2)) :]))
        value = build.op("mul", *draw(st.permutations([value, factor])))
    return build.finish({"y": value})


@EXAMPLES
@given(ir=scalings())
def test_scales_are_multiplied_before_the_map_is(ir: BlueprintIR) -> None:
    after = Reassociate().run(ir)
    assert after == ir or operations(after) < operations(ir)
    require_same_training(ir, after)


@st.composite
def chains(draw: st.DrawFn) -> BlueprintIR:
    """Three to four matrices, perhaps of a batch and perhaps transposed, multiplied in a drawn order."""
    build = Builder("chain")
    count = draw(st.integers(3, 4))
    options: list[Size] = [1, 2, 5, symbol("T")]
    sizes = [draw(st.sampled_from(options)) for _ in range(count + 1)]
    batch: tuple[Size, ...] = (symbol("N"),) if draw(st.booleans()) else ()
    matrices: list[tuple[Value, bool]] = []
    for index, (rows, columns) in enumerate(pairwise(sizes)):
        swapped = draw(st.booleans())
        shape = (columns, rows) if swapped else (rows, columns)
        matrices.append((build.input(f"m{index}", TensorType(DType.F32, (*batch, *shape))), swapped))
    while len(matrices) > 1:
        at = draw(st.integers(0, len(matrices) - 2))
        (a, ta), (b, tb) = matrices[at : at + 2]
        matrices[at : at + 2] = [(build.op("matmul", a, b, transpose_a=ta, transpose_b=tb), False)]
    return build.finish({"y": matrices[0][0]})


@EXAMPLES
@given(ir=chains())
def test_matrices_are_multiplied_with_fewer_operations(ir: BlueprintIR) -> None:
    entry = Reassociate(("N=3", "T=7"))
    after = entry.run(ir)
    assert after == ir or operations(after) < operations(ir)
    assert entry.run(after) == after
    require_same_training(ir, after)


ATTENTION = """
blueprint linear_attention {
  %q = input() : f32[N, T, 16]
  %k = input() : f32[N, T, 16]
  %v = input() : f32[N, T, 16]
  %scores = matmul(%q, %k) {transpose_a=false, transpose_b=true} : f32[N, T, T]
  %y = matmul(%scores, %v) {transpose_a=false, transpose_b=false} : f32[N, T, 16]
  output y = %y
}
"""


def test_attention_without_a_softmax_is_linear_in_its_length(golden: Callable[[str, str], None]) -> None:
    ir = BlueprintIR.from_text(ATTENTION)
    after = run_passes(ir, "reassociate{sizes=[T=1024]},dce")
    assert flops(after, {"N": 1, "T": 2048}) == 2 * flops(after, {"N": 1, "T": 1024})
    golden("reassociate.ir", f"{after}\n")


def test_the_order_depends_on_sizes() -> None:
    ir = BlueprintIR.from_text(ATTENTION)
    assert run_passes(ir, "reassociate{sizes=[T=8]}") == ir


def test_what_is_read_elsewhere_is_multiplied_anyway() -> None:
    ir = BlueprintIR.from_text(ATTENTION.replace("output y", "output scores = %scores\n  output y"))
    assert run_passes(ir, "reassociate{sizes=[T=1024]}") == ir


def test_matrices_of_a_batch_are_no_factors_of_a_shared_one() -> None:
    build = Builder("b")
    a = build.input("a", TensorType(DType.F32, (4, 64, 1)))
    w = build.param("w", TensorType(DType.F32, (1, 64)))
    b = build.input("b", TensorType(DType.F32, (4, 64, 1)))
    ir = build.finish({"y": build.op("matmul", build.op("matmul", a, w), b)})
    assert Reassociate().run(ir) == ir


@pytest.mark.parametrize("name", ["squeeze_excite", "spatial_attention", "eca_block"])
def test_the_librarys_gates_are_doubled_before_they_scale_a_map(name: str) -> None:
    before = run_passes(lower(name))
    sizes = {"N": 2, "S_0": 8, "S_1": 8}
    sizes = {symbol: sizes.get(symbol, 8) for symbol in before.symbols}
    after = run_passes(before, "reassociate,dce")
    assert len(after.of("mul")) == len(before.of("mul"))
    assert flops(after, sizes) < flops(before, sizes)


@pytest.mark.parametrize("size", ["T", "T=", "=4", "T=four", "T=-1"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(BadOption, match=r"expected a list as \[N=64, T=1024\]"):
        Reassociate((size,))
