"""The kernels of attention compute what the operators mean, whatever the sizes; no access goes astray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.urza.compiler import make_programs
from esper.urza.verify import KernelVerdict, Verification, verify_programs

N, T, S = symbol("N"), symbol("T"), symbol("S")


@dataclass(frozen=True)
class Case:
    """Attention of one kind: `mask` is a shape over N, H, T, S, or None."""

    heads: int = 2
    kv_heads: int = 2
    width: int = 16
    v_width: int = 16
    causal: bool = False
    dtype: DType = DType.F32
    mask: tuple[Size, ...] | None = None
    mask_dtype: DType = DType.BOOL
    dropout: float = 0.0
    scale: float = 0.0
    beside: bool = True

    def append(self, build: Builder, name: str) -> tuple[Value, Value]:
        """One more use of attention. beside: operands lie as [N, T, heads, width], as projections write."""

        def operand(letter: str, heads: int, rows: Size, width: int) -> Value:
            shape = (N, rows, heads, width) if self.beside else (N, heads, rows, width)
            given = build.input(f"{letter}.{name}", TensorType(self.dtype, shape))
            return build.op("permute", given, axes=(0, 2, 1, 3)) if self.beside else given

        q = operand("q", self.heads, T, self.width)
        k = operand("k", self.kv_heads, S, self.width)
        v = operand("v", self.kv_heads, S, self.v_width)
        mask = None
        if self.mask is not None:
            mask = build.input(f"mask.{name}", TensorType(self.mask_dtype, self.mask))
        seed = build.seed() if self.dropout else None
        result, logsumexp = build.ops(
            "scaled_dot_product_attention",
            *(q, k, v, mask, seed),
            name=name,
            span=None,
            causal=self.causal,
            scale=self.scale,
            dropout=self.dropout,
            offset=len(build.nodes) if self.dropout else 0,
        )
        return build.op("permute", result, axes=(0, 2, 1, 3)), logsumexp


def graph(cases: Mapping[str, Case]) -> BlueprintIR:
    build = Builder("attentions")
    outputs = {}
    for name, case in cases.items():
        outputs[f"y.{name}"], outputs[f"lse.{name}"] = case.append(build, name)
    return build.finish(outputs)


def wrong(found: Verification) -> list[KernelVerdict]:
    return [kernel for kernel in found.kernels if not kernel.ok]


CASES = {
    "plain": Case(),
    "causal": Case(causal=True),
    "grouped": Case(heads=6, kv_heads=2, causal=True),
    "apart": Case(beside=False, width=24, v_width=40),
    "scale": Case(scale=0.5, kv_heads=1, width=5, v_width=3),
    "keys": Case(mask=(N, 1, 1, S)),
    "pairs": Case(mask=(T, S), causal=True),
    "bias": Case(mask=(2, T, S), mask_dtype=DType.F32, heads=2, kv_heads=1),
    "bf16": Case(dtype=DType.BF16, width=32),
    "bf16_bias": Case(dtype=DType.BF16, mask=(N, 2, T, 1), mask_dtype=DType.BF16, causal=True),
    "f16": Case(dtype=DType.F16, heads=4, kv_heads=1, causal=True),
    "dropout": Case(dropout=0.25, causal=True, heads=4, kv_heads=2),
    "bf16_dropout": Case(dropout=0.5, dtype=DType.BF16, mask=(S,)),
}
SIZES = [(2, 1, 1), (1, 64, 128), (2, 67, 131)]


@pytest.mark.parametrize("n, t, s", SIZES)
def test_results_and_gradients_are_right_at_any_size(n: int, t: int, s: int) -> None:
    found = verify_programs(make_programs(graph(CASES)), sizes={"N": n, "T": t, "S": s})
    assert wrong(found) == []
    names = [kernel.name for kernel in found.kernels]
    for step in ("attention_forward", "attention_query_grad", "attention_key_value_grad"):
        assert len([name for name in names if name.startswith(step)]) == len(CASES)
    assert found.outside == ("attention_mask_grad",)
