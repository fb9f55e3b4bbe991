"""Each template against torch, with odd sizes, and every memory access accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.kernel import Argument, Constant, KernelSource
from esper.urza.verify.interpret import KernelCall, interpret

HEADER = """
import triton
import triton.language as tl
from esper.kernels.access import load_columns, load_rows, store_columns, store_rows
from esper.kernels.columns import channels, columns, finish
from esper.kernels.matmul import keep_tile, matmul
from esper.kernels.pointwise import pointwise
from esper.kernels.rows import rows, rows_with_sums
"""


def kernel(
    source: str, pointers: str, writes: str, sizes: str, grid: tuple[Extent, ...], **constants: Constant
) -> KernelSource:
    """A kernel `entry` over float32 buffers; `constants` are its constexprs."""
    arguments = [Argument(name, "pointer", "f32", writes=name in writes.split()) for name in pointers.split()]
    arguments += [Argument(name, "size") for name in sizes.split()]
    return KernelSource("entry", "forward", HEADER + source, "entry", tuple(arguments), grid, constants)


def run(
    *launches: tuple[KernelSource, Mapping[str, int]],
    inputs: Mapping[str, torch.Tensor],
    outputs: Mapping[str, tuple[int, ...]],
) -> dict[str, torch.Tensor]:
    """Launches over buffers that bear the arguments' names; fails on any finding."""
    calls = [
        KernelCall(source, {a.name: a.name for a in source.arguments if a.kind == "pointer"}, sizes)
        for source, sizes in launches
    ]
    arrays: dict[str, NDArray[Any]] = {name: tensor.numpy() for name, tensor in inputs.items()}
    result = interpret(calls, arrays, {name: ("f32", shape) for name, shape in outputs.items()})
    assert result.findings == ()
    return {name: torch.from_numpy(result.buffers[name]) for name in outputs}


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual.double(), expected.double(), rtol=1e-5, atol=1e-5)


POINTWISE = """
@triton.jit
def body(offsets, mask, operands):
    x, bias, y, K = operands
    tl.store(y + offsets, tl.load(x + offsets, mask, 0.0) + tl.load(bias + offsets % K, mask, 0.0), mask)

@triton.jit
def entry(x, bias, y, N, K: tl.constexpr, BLOCK: tl.constexpr):
    pointwise(N * K, (x, bias, y, K), body, BLOCK)
"""


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_pointwise_covers_each_element_once_with_broadcast_rows(rows: int) -> None:
    x, bias = torch.randn(rows, 13), torch.randn(13)
    k = kernel(POINTWISE, "x bias y", "y", "N", (CeilDiv(Product(("N", "K")), "BLOCK"),), K=13, BLOCK=64)
    close(
        run((k, {"N": rows}), inputs={"x": x, "bias": bias}, outputs={"y": (rows, 13)})["y"],
        x + bias,
    )


ROWS = """
@triton.jit
def body(row, column, mask, operands):
    x, y, mean, M, K = operands
    value = tl.load(x + row * K + column, mask, 0.0)
    center = tl.sum(value, 1)[:, None] / K
    rest = tl.where(mask, value - center, 0.0)
    deviation = tl.sqrt(tl.sum(rest * rest, 1)[:, None] / K + 1e-5)
    tl.store(y + row * K + column, rest / deviation, mask)
    store_rows(mean, row, center, M)

@triton.jit
def entry(x, y, mean, M, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    rows(M, (x, y, mean, M, K), body, K, BLOCK_M, BLOCK_K)
"""


def test_rows_normalises_in_registers() -> None:
    x = torch.randn(11, 20) + 3
    k = kernel(ROWS, "x y mean", "y mean", "M", (CeilDiv("M", "BLOCK_M"),), K=20, BLOCK_M=4, BLOCK_K=32)
    got = run((k, {"M": 11}), inputs={"x": x}, outputs={"y": (11, 20), "mean": (11,)})
    close(got["y"], torch.nn.functional.layer_norm(x, (20,)))
    close(got["mean"], x.mean(1))


ACCESS = """
@triton.jit
def body(row, column, mask, operands):
    a, b, y, p, q, M, K = operands
    left, right = load_rows(a, row, M), load_columns(b, column, K)
    tl.store(y + row * K + column, left * right, mask)
    store_rows(p, row, left + 1.0, M)
    store_columns(q, column, right + 1.0, K)

@triton.jit
def entry(a, b, y, p, q, M, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    rows(M, (a, b, y, p, q, M, K), body, K, BLOCK_M, BLOCK_K)
"""


@pytest.mark.parametrize("width", [5, 1030])
def test_operands_along_one_axis_are_loaded_and_stored(width: int) -> None:
    a, b = torch.randn(7), torch.randn(width)
    block = 8 if width == 5 else 2048
    k = kernel(ACCESS, "a b y p q", "y p q", "M", (1,), K=width, BLOCK_M=8, BLOCK_K=block)
    shapes = {"y": (7, width), "p": (7,), "q": (width,)}
    got = run((k, {"M": 7}), inputs={"a": a, "b": b}, outputs=shapes)
    close(got["y"], a[:, None] * b)
    close(got["p"], a + 1)
    close(got["q"], b + 1)


FINISH = """
@triton.jit
def store_totals(totals, offsets, mask, operands):
    for i in tl.static_range(len(operands)):
        tl.store(operands[i] + offsets, totals[i], mask)

@triton.jit
def entry(p, q, total_p, total_q, PARTS: tl.constexpr, WIDTH: tl.constexpr,
          BLOCK_P: tl.constexpr, BLOCK_W: tl.constexpr):
    finish(PARTS, WIDTH, (p, q), (total_p, total_q), store_totals, BLOCK_P, BLOCK_W)
"""


def finishing(parts: int, width: int) -> KernelSource:
    return kernel(
        FINISH,
        "p q total_p total_q",
        "total_p total_q",
        "",
        (CeilDiv("WIDTH", "BLOCK_W"),),
        PARTS=parts,
        WIDTH=width,
        BLOCK_P=4,
        BLOCK_W=16,
    )


SUMS = """
@triton.jit
def body(row, column, mask, operands):
    x, y, K = operands
    value = tl.load(x + row * K + column, mask, 0.0)
    tl.store(y + row * K + column, -value, mask)
    return value + 1.0, value * value

@triton.jit
def entry(x, y, p, q, M, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    TEMPLATE(M, (x, y, K), (p, q), body, K, BLOCK_M, BLOCK_K)
"""


@pytest.mark.parametrize("M", [1, 37])
@pytest.mark.parametrize("template", ["rows_with_sums", "columns"])
def test_column_sums_take_every_row_once(template: str, M: int) -> None:
    parts, x = 3, torch.randn(M, 20)
    grid: tuple[Extent, ...] = (parts,) if template == "rows_with_sums" else (CeilDiv("K", "BLOCK_K"), parts)
    block = 32 if template == "rows_with_sums" else 8
    sums = kernel(
        SUMS.replace("TEMPLATE", template), "x y p q", "y p q", "M", grid, K=20, BLOCK_M=4, BLOCK_K=block
    )
    shapes = {"y": (M, 20), "p": (parts, 20), "q": (parts, 20), "total_p": (20,), "total_q": (20,)}
    got = run((sums, {"M": M}), (finishing(parts, 20), {}), inputs={"x": x}, outputs=shapes)
    close(got["y"], -x)
    close(got["total_p"], x.sum(0) + M)
    close(got["total_q"], x.square().sum(0))


CHANNELS = """
@triton.jit
def body(before, channel, after, mask, operands):
    x, scale, C, B = operands
    value = tl.load(x + (before * C + channel) * B + after, mask, 0.0)
    return value, value * tl.load(scale + channel)

@triton.jit
def entry(x, scale, p, q, A, B, C: tl.constexpr, BLOCK: tl.constexpr):
    channels(A, B, (x, scale, C, B), (p, q), body, C, BLOCK)
"""


@pytest.mark.parametrize("batch, positions", [(1, 1), (5, 9)])
def test_channel_sums_keep_the_middle_axis(batch: int, positions: int) -> None:
    x, scale = torch.randn(batch, 6, positions), torch.randn(6)
    k = kernel(CHANNELS, "x scale p q", "p q", "A B", ("C", 2), C=6, BLOCK=8)
    shapes = {"p": (2, 6), "q": (2, 6), "total_p": (6,), "total_q": (6,)}
    launches = [(k, {"A": batch, "B": positions}), (finishing(2, 6), {})]
    got = run(*launches, inputs={"x": x, "scale": scale}, outputs=shapes)
    close(got["total_p"], x.sum((0, 2)))
    close(got["total_q"], x.sum((0, 2)) * scale)


PRODUCT = """
@triton.jit
def negate(tile, slice_index, row, column, mask, operands):
    return -tile

@triton.jit
def epilogue(tile, slice_index, row, column, mask, operands):
    c, M, N = operands
    tl.store(c + (slice_index * M + row) * N + column, tile, mask)

@triton.jit
def entry(a, b, c, M, N, K, BATCHED: tl.constexpr, A_TRANSPOSED: tl.constexpr, B_TRANSPOSED: tl.constexpr,
          SPLITS: tl.constexpr, PRECISION: tl.constexpr, NEGATE: tl.constexpr, SPREAD: tl.constexpr,
          BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    if A_TRANSPOSED:
        a_strides = (BATCHED * M * K, 1, M)
    else:
        a_strides = (BATCHED * M * K, K, 1)
    if B_TRANSPOSED:
        b_strides = (BATCHED * N * K, 1, K)
    else:
        b_strides = (BATCHED * N * K, N, 1)
    matmul(tl.program_id(0), (a,), (b,), M, N, (K,), (a_strides,), (b_strides,), (c, M, N), epilogue,
           BLOCK_M, BLOCK_N, BLOCK_K, PRECISION, GROUP_M=2, SPLITS=SPLITS,
           PROLOGUE_A=negate if NEGATE else keep_tile,
           SPREAD=SPREAD)
"""


def product(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    transposed: tuple[bool, bool] = (False, False),
    splits: int = 1,
    precision: str = "ieee",
    negate: bool = False,
    spread: bool = False,
) -> torch.Tensor:
    """The batched product of a [S, M, K] and b [S, K, N] by the template; for splits, their sum."""
    slices, M, K = a.shape
    N = b.shape[2]
    sources = [x.mT.contiguous() if flag else x for x, flag in zip((a, b), transposed, strict=True)]
    k = kernel(
        PRODUCT,
        "a b c",
        "c",
        "M N K",
        (Product((CeilDiv("M", "BLOCK_M"), CeilDiv("N", "BLOCK_N"))), slices * splits),
        BATCHED=int(slices > 1),
        A_TRANSPOSED=transposed[0],
        B_TRANSPOSED=transposed[1],
        SPLITS=splits,
        PRECISION=precision,
        NEGATE=negate,
        SPREAD=spread,
        BLOCK_M=16,
        BLOCK_N=16,
        BLOCK_K=16,
    )
    inputs = {"a": sources[0], "b": sources[1]}
    got = run((k, {"M": M, "N": N, "K": K}), inputs=inputs, outputs={"c": (slices * splits, M, N)})["c"]
    return got.sum(0, keepdim=True) if splits > 1 else got


@pytest.mark.parametrize("b_transposed", [False, True])
@pytest.mark.parametrize("a_transposed", [False, True])
def test_products_of_every_transpose(a_transposed: bool, b_transposed: bool) -> None:
    a, b = torch.randn(1, 50, 23), torch.randn(1, 23, 37)
    close(product(a, b, transposed=(a_transposed, b_transposed)), a @ b)


def test_batched_products_keep_slices_apart() -> None:
    a, b = torch.randn(3, 5, 17), torch.randn(3, 17, 9)
    close(product(a, b), a @ b)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (20, 37)])
def test_a_tile_that_is_spread_over_threads_is_the_same(rows: int, columns: int) -> None:
    a, b = torch.randn(1, rows, 17), torch.randn(1, 17, columns)
    close(product(a, b, spread=True), a @ b)


@pytest.mark.parametrize("inner", [1, 16, 100])
def test_split_products_add_up_to_the_whole(inner: int) -> None:
    a, b = torch.randn(1, 20, inner), torch.randn(1, inner, 20)
    close(product(a, b, transposed=(True, False), splits=4), a @ b)


def test_a_prologue_changes_the_left_operand() -> None:
    a, b = torch.randn(1, 20, 20), torch.randn(1, 20, 20)
    close(product(a, b, negate=True), -(a @ b))


def test_the_interpreter_shows_the_error_of_tf32() -> None:
    a, b = torch.randn(1, 32, 64), torch.randn(1, 64, 32)
    exact = a.double() @ b.double()
    errors = {
        precision: (product(a, b, precision=precision).double() - exact).abs().max().item()
        for precision in ("ieee", "tf32x3", "tf32")
    }
    assert errors["ieee"] < 1e-5 and errors["tf32x3"] < 1e-4
    assert 1e-3 < errors["tf32"] < 1e-1


def test_every_template_builds_without_spills(tmp_path: Path) -> None:
    tile = {"K": 512, "BLOCK_M": 4, "BLOCK_K": 512}
    flags: dict[str, Constant] = {"BATCHED": 1, "A_TRANSPOSED": True, "B_TRANSPOSED": False, "NEGATE": True}
    flags["SPREAD"] = False
    blocks = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32}
    kernels = [
        kernel(POINTWISE, "x bias y", "y", "N", (1,), K=512, BLOCK=1024),
        kernel(ROWS, "x y mean", "y mean", "M", (1,), **tile),
        kernel(ACCESS, "a b y p q", "y p q", "M", (1,), **tile),
        kernel(ACCESS, "a b y p q", "y p q", "M", (1,), K=2048, BLOCK_M=1, BLOCK_K=2048),
        kernel(SUMS.replace("TEMPLATE", "rows_with_sums"), "x y p q", "y p q", "M", (1,), **tile),
        kernel(SUMS.replace("TEMPLATE", "columns"), "x y p q", "y p q", "M", (1,), **tile),
        kernel(CHANNELS, "x scale p q", "p q", "A B", (1,), C=64, BLOCK=1024),
        finishing(8, 512),
        kernel(PRODUCT, "a b c", "c", "M N K", (1,), SPLITS=1, PRECISION="ieee", **flags, **blocks),
        kernel(PRODUCT, "a b c", "c", "M N K", (1,), SPLITS=4, PRECISION="tf32x3", **flags, **blocks),
    ]
    build = build_kernels(kernels, ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    assert len(build.kernels) == 20
    assert [built.resources.spill_bytes for built in build.kernels] == [0] * 20
