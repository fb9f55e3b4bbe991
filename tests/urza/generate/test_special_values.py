"""NaN, infinities, zeros and the ends of the range: kernels give what torch gives.

Every pointwise entry of the operator table is tried, each of its operands with each value against each. A
result may differ from torch's in its own dtype where torch in float64 agrees with it: one of the two is free
of an overflow on the way.
"""

from __future__ import annotations

import itertools
import random

import pytest
import torch

import esper.ops  # noqa: F401  (fills the operator table)
from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS, AttrValue, Operator, Pointwise
from esper.ops.reference.evaluate import TORCH_DTYPES, evaluate
from esper.testing.sampler import GraphSampler
from esper.urza.program import make_program
from esper.urza.verify.simulate import simulate

N = symbol("N")
NAN, INF = float("nan"), float("inf")
TINY = 1e-40
"""Below the smallest normal number of float32 and of bf16."""

RELATIVE = {DType.F32: 1e-5, DType.BF16: 2e-2}
POINTWISE = sorted(
    name for name, entry in OPERATORS.items() if isinstance(entry.lowering, Pointwise) and entry.inputs
)


def specials(dtype: DType) -> list[float]:
    if not dtype.is_floating:
        return [0.0, 1.0]
    most = torch.finfo(TORCH_DTYPES[dtype]).max
    return [NAN, INF, -INF, 0.0, -0.0, most, -most, TINY, -TINY, 1.0, -1.0]


def drawn(entry: Operator, dtype: DType) -> tuple[list[DType | None], dict[str, AttrValue]]:
    """The operands' dtypes, None for the random seed, and attributes, as the entry's sample has them."""
    build = Builder("drawn")
    sampler = GraphSampler(build, (5, 8), (dtype,))
    sampler.rewind(random.Random(entry.name).randbytes(64))
    assert entry.sample is not None
    operands, attrs = entry.sample(sampler)
    nodes = [build.node(operand.node) for operand in operands if operand is not None]
    return [None if node.op == "seed" else node.type.dtype for node in nodes], attrs


def graph_of(names: list[str], dtype: DType, narrow: int | None = None) -> BlueprintIR:
    """An output for each entry; its operands are inputs of one axis, the one at `narrow` a single element."""
    build = Builder("specials")
    given: dict[tuple[int, DType], Value] = {}

    def operand(index: int, dtype: DType | None) -> Value:
        if dtype is None:
            return build.seed()
        if (index, dtype) not in given:
            shape = (1,) if index == narrow else (N,)
            given[index, dtype] = build.input(f"x{index}_{dtype.value}", TensorType(dtype, shape))
        return given[index, dtype]

    outputs = {}
    for name in names:
        dtypes, attrs = drawn(OPERATORS[name], dtype)
        result = build.op(name, *itertools.starmap(operand, enumerate(dtypes)), name=None, span=None, **attrs)
        outputs[f"{name}_out"] = result
    return build.finish(outputs)


def values_of(ir: BlueprintIR) -> dict[str, torch.Tensor]:
    """Each value of each input with each of the others; of a single element the first one but NaN."""
    lists = [
        specials(node.type.dtype) if node.type.shape == (N,) else specials(node.type.dtype)[-2:-1]
        for node in ir.inputs
    ]
    columns = zip(*itertools.product(*lists), strict=True)
    found = {}
    for node, column in zip(ir.inputs, columns, strict=True):
        values = torch.tensor(column, dtype=torch.float64).to(TORCH_DTYPES[node.type.dtype])
        found[node.name] = values if node.type.shape == (N,) else values[:1]
    return found


def element_by_element(tensor: torch.Tensor) -> torch.Tensor:
    """The same with a gap behind each element, on which torch computes as it does on a GPU, not in vectors,
    whose answers at NaN and infinity differ in places."""
    return torch.stack([tensor, tensor], -1)[..., 0]


def disagreements(ir: BlueprintIR, dtype: DType) -> dict[str, list[tuple[float, ...]]]:
    """By output, what its operands were where the kernel is not right, with its result and torch's."""
    inputs = values_of(ir)
    program = make_program(ir, "forward")
    assert program.outside == ()
    seeds = {node.name: torch.tensor(0) for node in ir.of("seed")}
    size = max(tensor.numel() for tensor in inputs.values())
    found = simulate(program, {**inputs, **seeds}, {"N": size})
    assert found.findings == ()
    eager = evaluate(ir, {name: element_by_element(tensor) for name, tensor in inputs.items()}, {})
    wide = {name: widened(tensor) for name, tensor in inputs.items()}
    truths = evaluate(ir, wide, {}, dtype=torch.float64)
    wrong = {}
    for name, result in found.results.items():
        right = alike(result, eager[name], dtype) | alike(result, truths[name].to(result.dtype), dtype)
        if not right.all():
            places = (~right).nonzero().flatten().tolist()
            wrong[name] = [
                tuple(t.expand(size)[place].item() for t in (*inputs.values(), result, eager[name]))
                for place in places
            ]
    return wrong


def widened(tensor: torch.Tensor) -> torch.Tensor:
    return element_by_element(tensor.double() if tensor.is_floating_point() else tensor)


def alike(found: torch.Tensor, expected: torch.Tensor, dtype: DType) -> torch.Tensor:
    mine, theirs = found.double(), expected.double()
    return torch.isclose(mine, theirs, rtol=RELATIVE[dtype], atol=2 * TINY, equal_nan=True)


def entries_with(count: int, dtype: DType) -> list[str]:
    return [
        name for name in POINTWISE if sum(d is not None for d in drawn(OPERATORS[name], dtype)[0]) == count
    ]


@pytest.mark.parametrize("dtype", RELATIVE, ids=lambda dtype: dtype.value)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_pointwise_operators_treat_special_values_as_torch_does(count: int, dtype: DType) -> None:
    assert disagreements(graph_of(entries_with(count, dtype), dtype), dtype) == {}


@pytest.mark.parametrize("narrow", [0, 1])
def test_one_operand_may_be_a_single_element(narrow: int) -> None:
    names = [name for name in entries_with(2, DType.F32) if not name.endswith("_backward")]
    assert disagreements(graph_of(names, DType.F32, narrow), DType.F32) == {}


@pytest.mark.parametrize("constant", [0, 1])
@pytest.mark.parametrize("value", [2.5, -3.0, 0.0, -0.0])
def test_one_operand_may_be_a_constant(constant: int, value: float) -> None:
    build = Builder("constants")
    outputs: dict[str, Value] = {}
    for name in entries_with(2, DType.F32):
        if name.endswith("_backward") or drawn(OPERATORS[name], DType.F32)[0] != [DType.F32, DType.F32]:
            continue
        x = build.input("x", TensorType(DType.F32, (N,))) if not outputs else Value("x")
        operands = [x, build.constant(value, DType.F32)]
        outputs[f"{name}_out"] = build.op(name, *(operands if constant else reversed(operands)))
    assert {"pow_out", "maximum_out", "remainder_out"} <= set(outputs)
    assert disagreements(build.finish(outputs), DType.F32) == {}


def test_a_negative_zero_keeps_its_sign() -> None:
    build = Builder("negative_zero")
    x = build.input("x", TensorType(DType.F32, (N,)))
    zero = build.constant(-0.0, DType.F32)
    padded = build.op("pad", x, pad=(1, 1), value=-0.0)
    ir = build.finish({"y": build.op("add", x, zero), "padded": build.op("sqrt", padded)})
    inputs = {"x": torch.tensor([-0.0, 0.0, 1.0])}
    found = simulate(make_program(ir, "forward"), inputs, {"N": 3}).results
    for name, expected in evaluate(ir, inputs, {}).items():
        assert torch.equal(found[name].signbit(), expected.signbit()), name
    assert found["y"].signbit().any() and found["padded"].signbit().any()
