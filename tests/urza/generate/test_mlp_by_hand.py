"""A residual MLP block, forward and backward, from the templates and epilogues written by hand.

What the generator has to produce, shown on one example: x + W2 gelu(W1 x + b1) + b2 and its gradients.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.grid import CeilDiv, Extent, Product
from esper.urza.kernel import Argument, Configuration, KernelSource
from esper.urza.verify.interpret import KernelCall, interpret

SOURCE = """
import triton
import triton.language as tl

from esper.kernels.access import load_columns
from esper.kernels.columns import columns, finish
from esper.kernels.functions import gelu, gelu_gradient
from esper.kernels.matmul import matmul


@triton.jit
def hidden_epilogue(tile, slice_index, row, column, mask, operands):
    bias, pre, act, H = operands
    value = tile + load_columns(bias, column, H)
    offsets = row * H + column
    tl.store(pre + offsets, value, mask)
    tl.store(act + offsets, gelu(value), mask)


@triton.jit
def hidden(x, weight, bias, pre, act, N, K: tl.constexpr, H: tl.constexpr,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    matmul(tl.program_id(0), (x,), (weight,), N, H, (K,), ((0, K, 1),), ((0, 1, K),),
           (bias, pre, act, H), hidden_epilogue, BLOCK_M, BLOCK_N, BLOCK_K, "ieee", EVEN_K=K % BLOCK_K == 0)


@triton.jit
def output_epilogue(tile, slice_index, row, column, mask, operands):
    bias, x, y, K = operands
    offsets = row * K + column
    value = tile + load_columns(bias, column, K)
    value = value + tl.load(x + offsets, mask, 0.0).to(tl.float32)
    tl.store(y + offsets, value, mask)


@triton.jit
def output(act, weight, bias, x, y, N, K: tl.constexpr, H: tl.constexpr,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    matmul(tl.program_id(0), (act,), (weight,), N, K, (H,), ((0, H, 1),), ((0, 1, H),),
           (bias, x, y, K), output_epilogue, BLOCK_M, BLOCK_N, BLOCK_K, "ieee", EVEN_K=H % BLOCK_K == 0)


@triton.jit
def grad_hidden_epilogue(tile, slice_index, row, column, mask, operands):
    pre, grad, H = operands
    offsets = row * H + column
    value = tile * gelu_gradient(tl.load(pre + offsets, mask, 0.0).to(tl.float32))
    tl.store(grad + offsets, value, mask)


@triton.jit
def grad_hidden(grad_y, weight, pre, grad, N, K: tl.constexpr, H: tl.constexpr,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    matmul(tl.program_id(0), (grad_y,), (weight,), N, H, (K,), ((0, K, 1),), ((0, H, 1),),
           (pre, grad, H), grad_hidden_epilogue, BLOCK_M, BLOCK_N, BLOCK_K, "ieee", EVEN_K=K % BLOCK_K == 0)


@triton.jit
def grad_x_epilogue(tile, slice_index, row, column, mask, operands):
    grad_y, grad_x, K = operands
    offsets = row * K + column
    tl.store(grad_x + offsets, tile + tl.load(grad_y + offsets, mask, 0.0).to(tl.float32), mask)


@triton.jit
def grad_x(grad, weight, grad_y, grad_x, N, K: tl.constexpr, H: tl.constexpr,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    matmul(tl.program_id(0), (grad,), (weight,), N, K, (H,), ((0, H, 1),), ((0, K, 1),),
           (grad_y, grad_x, K), grad_x_epilogue, BLOCK_M, BLOCK_N, BLOCK_K, "ieee", EVEN_K=H % BLOCK_K == 0)


@triton.jit
def slice_epilogue(tile, slice_index, row, column, mask, operands):
    slices, OUT, IN = operands
    tl.store(slices + (slice_index * OUT + row) * IN + column, tile, mask)


@triton.jit
def grad_weight(grad, x, slices, N, OUT: tl.constexpr, IN: tl.constexpr, SPLITS: tl.constexpr,
        BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    matmul(tl.program_id(0), (grad,), (x,), OUT, IN, (N,), ((0, 1, OUT),), ((0, IN, 1),),
           (slices, OUT, IN), slice_epilogue, BLOCK_M, BLOCK_N, BLOCK_K, "ieee", SPLITS=SPLITS)


@triton.jit
def total_body(totals, offsets, mask, operands):
    tl.store(operands[0] + offsets, totals[0], mask)


@triton.jit
def total(slices, result, WIDTH: tl.constexpr, PARTS: tl.constexpr,
        BLOCK_P: tl.constexpr, BLOCK_W: tl.constexpr):
    finish(PARTS, WIDTH, (slices,), (result,), total_body, BLOCK_P, BLOCK_W)


@triton.jit
def bias_body(row, column, mask, operands):
    grad, K = operands
    return (tl.load(grad + row * K + column, mask, 0.0).to(tl.float32),)


@triton.jit
def grad_bias(grad, partials, N, K: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr):
    columns(N, (grad, K), (partials,), bias_body, K, BLOCK_M, BLOCK_K)
"""

PRODUCTS = {"hidden", "output", "grad_hidden", "grad_x", "grad_weight"}


def pointer(name: str, dtype: str = "bf16", writes: bool = False) -> Argument:
    return Argument(name, "pointer", dtype, divisible_by=16, writes=writes)


def product(
    name: str, arguments: str, writes: str, rows: Extent, columns: Extent, **constants: int
) -> KernelSource:
    """A product with 64 x 64 tiles over the rows N, `arguments` and `writes` being names of bf16 buffers."""
    splits = constants.get("SPLITS", 1)
    return KernelSource(
        name=name,
        direction="forward" if name in ("hidden", "output") else "backward",
        source=SOURCE,
        entry=name,
        arguments=(
            *(
                pointer(one, "f32" if one == "slices" else "bf16", one in writes.split())
                for one in arguments.split()
            ),
            Argument("N", "size"),
        ),
        grid=(Product((CeilDiv(rows, "BLOCK_M"), CeilDiv(columns, "BLOCK_N"))), splits),
        constexprs={**constants, "BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64},
        trips=4,
        alternatives=(Configuration({"BLOCK_K": 32}, 4, 3),),
    )


def kernels(features: int, hidden: int) -> dict[str, KernelSource]:
    sizes = {"K": features, "H": hidden}
    found = [
        product("hidden", "x weight bias pre act", "pre act", "N", "H", **sizes),
        product("output", "act weight bias x y", "y", "N", "K", **sizes),
        product("grad_hidden", "grad_y weight pre grad", "grad", "N", "H", **sizes),
        product("grad_x", "grad weight grad_y grad_x", "grad_x", "N", "K", **sizes),
        product("grad_weight", "grad x slices", "slices", "OUT", "IN", OUT=hidden, IN=features, SPLITS=4),
        KernelSource(
            "total",
            "backward",
            SOURCE,
            "total",
            (pointer("slices", "f32"), pointer("result", writes=True)),
            (CeilDiv("WIDTH", "BLOCK_W"),),
            {"WIDTH": hidden * features, "PARTS": 4, "BLOCK_P": 4, "BLOCK_W": 1024},
        ),
        KernelSource(
            "grad_bias",
            "backward",
            SOURCE,
            "grad_bias",
            (pointer("grad"), pointer("partials", "f32", writes=True), Argument("N", "size")),
            (CeilDiv("K", "BLOCK_K"), 8),
            {"K": hidden, "BLOCK_M": 32, "BLOCK_K": 128},
            trips=4,
        ),
    ]
    return {kernel.name: kernel for kernel in found}


def bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy().view(np.uint16)


def values(array: np.ndarray) -> torch.Tensor:
    if array.dtype == np.uint16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).double()
    return torch.from_numpy(array).double()


def block(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
    w1, b1, w2, b2 = weights
    return x + torch.nn.functional.gelu(x @ w1.T + b1) @ w2.T + b2


def gradients(dtype: torch.dtype, tensors: list[torch.Tensor], grad_y: torch.Tensor) -> list[torch.Tensor]:
    leaves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    y = block(*leaves)
    return [y.detach().double(), *(g.double() for g in torch.autograd.grad(y, leaves, grad_y.to(dtype)))]


@pytest.mark.parametrize("rows", [1, 77])
def test_block_and_gradients_are_as_exact_as_eager_bf16(rows: int) -> None:
    features, hidden = 48, 144
    torch.manual_seed(0)
    shapes = [(rows, features), (hidden, features), (hidden,), (features, hidden), (features,)]
    tensors = [(torch.randn(shape) / shape[-1] ** 0.5).bfloat16() for shape in shapes]
    grad_y = torch.randn(rows, features).bfloat16()
    k, sizes = kernels(features, hidden), {"N": rows}
    result = interpret(
        [
            KernelCall(
                k["hidden"], {"x": "x", "weight": "w1", "bias": "b1", "pre": "pre", "act": "act"}, sizes
            ),
            KernelCall(k["output"], {"act": "act", "weight": "w2", "bias": "b2", "x": "x", "y": "y"}, sizes),
            KernelCall(k["grad_hidden"], {"grad_y": "g", "weight": "w2", "pre": "pre", "grad": "gh"}, sizes),
            KernelCall(k["grad_x"], {"grad": "gh", "weight": "w1", "grad_y": "g", "grad_x": "gx"}, sizes),
            KernelCall(k["grad_weight"], {"grad": "gh", "x": "x", "slices": "slices"}, sizes),
            KernelCall(k["total"], {"slices": "slices", "result": "gw1"}),
            KernelCall(k["grad_bias"], {"grad": "gh", "partials": "partials"}, sizes),
        ],
        {
            name: bits(t)
            for name, t in zip(("x", "w1", "b1", "w2", "b2", "g"), [*tensors, grad_y], strict=True)
        },
        {
            "pre": ("bf16", (rows, hidden)),
            "act": ("bf16", (rows, hidden)),
            "y": ("bf16", (rows, features)),
            "gh": ("bf16", (rows, hidden)),
            "gx": ("bf16", (rows, features)),
            "slices": ("f32", (4, hidden, features)),
            "gw1": ("bf16", (hidden, features)),
            "partials": ("f32", (8, hidden)),
        },
    )
    assert result.findings == ()
    exact, eager = (gradients(dtype, tensors, grad_y) for dtype in (torch.float64, torch.bfloat16))
    got = [values(result.buffers[name]) for name in ("y", "gx", "gw1", "partials")]
    got[-1] = got[-1].sum(0)
    for mine, true, rounded in zip(got, exact, eager, strict=False):
        ulp = 2.0**-8 * true.abs().max()
        assert (mine - true).abs().max() <= 2 * (rounded - true).abs().max() + ulp


def test_products_use_matrix_instructions_wide_accesses_and_no_spills(tmp_path: Path) -> None:
    build = build_kernels(list(kernels(256, 1024).values()), ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    for built in build.kernels:
        used = built.resources
        assert used.spill_bytes == 0, built.symbol
        assert used.wide_share >= 0.95, built.symbol
        if built.symbol in PRODUCTS:
            assert used.matrix_kind == {"sm_80": "mma", "sm_90": "wgmma"}[built.target], built.symbol
