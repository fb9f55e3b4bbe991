"""Products that share a launch, an accumulator, or the tiles of a column sum, against torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.kernel import Argument, Constant, KernelSource
from esper.urza.verify.interpret import KernelCall, interpret

SOURCE = """
import triton
import triton.language as tl
from esper.kernels.matmul import matmul
from esper.kernels.sharing import member_of_program, pick

@triton.jit
def store(tile, slice_index, row, column, mask, operands):
    c, M, N = operands
    tl.store(c + (slice_index * M + row) * N + column, tile, mask)

@triton.jit
def store_sums(totals, slice_index, offsets, mask, operands):
    sums, LINE = operands
    tl.store(sums + slice_index * LINE + offsets, totals, mask)

@triton.jit
def terms(a, a2, b, b2, c, M, N, K: tl.constexpr, K2: tl.constexpr, BLOCK: tl.constexpr):
    strides = ((0, K, 1), (0, K2, 1)), ((0, N, 1), (0, N, 1))
    matmul(tl.program_id(0), (a, a2), (b, b2), M, N, (K, K2), strides[0], strides[1],
             (c, M, N), store, BLOCK, BLOCK, BLOCK, "ieee")

@triton.jit
def summed(a, b, c, sums, M, N, K, SPLITS: tl.constexpr, SUM_OF: tl.constexpr, BLOCK: tl.constexpr):
    matmul(tl.program_id(0), (a,), (b,), M, N, (K,), ((0, 1, M),), ((0, N, 1),),
             (c, M, N), store, BLOCK, BLOCK, BLOCK, "ieee", SPLITS=SPLITS,
             SUM_OF=SUM_OF, SUM=store_sums, sum_operands=(sums, M if SUM_OF == "a" else N))

@triton.jit
def beside(a, b, b2, c, c2, M, K, N: tl.constexpr, N2: tl.constexpr, BLOCK: tl.constexpr):
    rows = tl.cdiv(M, BLOCK)
    member, program = member_of_program((rows * tl.cdiv(N, BLOCK), rows * tl.cdiv(N2, BLOCK)))
    columns = pick((N, N2), member)
    matmul(program, (a,), (pick((b, b2), member),), M, columns, (K,), ((0, K, 1),), ((0, columns, 1),),
             (pick((c, c2), member), M, columns), store, BLOCK, BLOCK, BLOCK, "ieee")
"""
BLOCK = 16


def run(
    entry: str,
    pointers: str,
    sizes: Mapping[str, int],
    grid: tuple[Extent, ...],
    inputs: Mapping[str, torch.Tensor],
    outputs: Mapping[str, tuple[int, ...]],
    **constants: Constant,
) -> dict[str, torch.Tensor]:
    """What the kernel `entry` writes; fails on any finding."""
    arguments = [Argument(name, "pointer", "f32", writes=name in outputs) for name in pointers.split()]
    arguments += [Argument(name, "size") for name in sizes]
    constexprs = {**constants, "BLOCK": BLOCK}
    kernel = KernelSource(entry, "forward", SOURCE, entry, tuple(arguments), grid, constexprs)
    arrays: dict[str, NDArray[Any]] = {name: tensor.numpy() for name, tensor in inputs.items()}
    call = KernelCall(kernel, {name: name for name in pointers.split()}, sizes)
    found = interpret([call], arrays, {name: ("f32", shape) for name, shape in outputs.items()})
    assert found.findings == ()
    return {name: torch.from_numpy(found.buffers[name]) for name in outputs}


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("inner", [(16, 16), (5, 40), (33, 1)])
def test_terms_add_up_in_one_accumulator(inner: tuple[int, int]) -> None:
    first, second = inner
    a, b = torch.randn(21, first), torch.randn(first, 19)
    a2, b2 = torch.randn(21, second), torch.randn(second, 19)
    grid = (Product((CeilDiv("M", BLOCK), CeilDiv("N", BLOCK))),)
    got = run(
        "terms",
        "a a2 b b2 c",
        {"M": 21, "N": 19},
        grid,
        {"a": a, "b": b, "a2": a2, "b2": b2},
        {"c": (21, 19)},
        K=first,
        K2=second,
    )
    close(got["c"], a @ b + a2 @ b2)


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("factor", ["a", "b"])
def test_a_factor_is_summed_beside_its_product(factor: str, splits: int) -> None:
    a, b = torch.randn(70, 37), torch.randn(70, 19)
    width = 37 if factor == "a" else 19
    got = run(
        "summed",
        "a b c sums",
        {"M": 37, "N": 19, "K": 70},
        (Product((CeilDiv("M", BLOCK), CeilDiv("N", BLOCK))), splits),
        {"a": a, "b": b},
        {"c": (splits, 37, 19), "sums": (splits, width)},
        SPLITS=splits,
        SUM_OF=factor,
    )
    close(got["c"].sum(0), a.T @ b)
    close(got["sums"].sum(0), (a if factor == "a" else b).sum(0))


def test_products_beside_each_other_are_apart() -> None:
    a, b, b2 = torch.randn(21, 23), torch.randn(23, 40), torch.randn(23, 5)
    got = run(
        "beside",
        "a b b2 c c2",
        {"M": 21, "K": 23},
        (Product((CeilDiv("M", BLOCK), 3 + 1)),),
        {"a": a, "b": b, "b2": b2},
        {"c": (21, 40), "c2": (21, 5)},
        N=40,
        N2=5,
    )
    close(got["c"], a @ b)
    close(got["c2"], a @ b2)
