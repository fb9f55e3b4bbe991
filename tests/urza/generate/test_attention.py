"""The kernels of attention compute what the operators mean, whatever the sizes; no access goes astray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.lang import lower
from esper.ops.reference.random import uniform
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import make_programs
from esper.urza.generate.writer import Launch
from esper.urza.traffic import traffic
from esper.urza.verify.simulate import Simulation, simulate
from esper.urza.verify.verification import KernelVerdict, Verification, verify_programs

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
    "apart_bias": Case(mask=(N, 1, T, S), mask_dtype=DType.F16, dtype=DType.F16, dropout=0.5, causal=True),
    "bf16": Case(dtype=DType.BF16, width=32),
    "bf16_bias": Case(dtype=DType.BF16, mask=(N, 2, T, 1), mask_dtype=DType.BF16, causal=True),
    "f16": Case(dtype=DType.F16, heads=4, kv_heads=1, causal=True),
    "dropout": Case(dropout=0.25, causal=True, heads=4, kv_heads=2),
    "bf16_dropout": Case(dropout=0.5, dtype=DType.BF16, mask=(S,)),
}
SIZES = [(2, 1, 3), (1, 64, 128), (1, 131, 67)]


@pytest.mark.parametrize("n, t, s", SIZES)
def test_results_and_gradients_are_right_at_any_size(n: int, t: int, s: int) -> None:
    found = verify_programs(make_programs(graph(CASES)), sizes={"N": n, "T": t, "S": s})
    assert wrong(found) == []
    names = [kernel.name for kernel in found.kernels]
    for step in ("attention_forward", "attention_query_grad", "attention_key_value_grad"):
        assert len([name for name in names if name.startswith(step)]) == len(CASES)
    assert found.outside == ("attention_mask_grad",)


def test_a_wide_head_and_a_constant_operand_are_library_calls_and_the_plan_says_why() -> None:
    build = Builder("refused")
    wide = [build.input(name, TensorType(DType.F32, (N, 2, T, 288))) for name in "qkv"]
    ones = build.op("broadcast_to", build.constant(1.0), shape=(N, 2, T, 16))
    q, k = (build.input(name, TensorType(DType.F32, (N, 2, T, 16))) for name in ("q.2", "k.2"))
    y = build.op("scaled_dot_product_attention", *wide, None, None, name="wide")
    z = build.op("scaled_dot_product_attention", q, k, ones, None, None, name="filled")
    found = make_programs(build.finish({"y": y, "z": z})).forward
    assert found.outside == ("attention_forward", "attention_forward")
    assert {refusal.node.partition(".")[0]: refusal.reason for refusal in found.plan.refusals} == {
        "wide": "the head size 288 of `q` is above 256",
        "filled": "`v` is a constant, which lies in no buffer",
    }


def test_the_gradient_of_a_mask_shared_by_queries_is_a_library_call_and_the_plan_says_why() -> None:
    case = Case(mask=(N, 1, 1, S), mask_dtype=DType.F32)
    found = make_programs(graph({"shared": case})).backward
    assert found.outside == ("attention_mask_grad",)
    (refusal,) = [entry for entry in found.plan.refusals if entry.node.endswith("attention_mask_grad")]
    assert refusal.reason.startswith("the mask is broadcast along queries or keys")


def simulated(case: Case, given: Mapping[str, torch.Tensor], sizes: Mapping[str, int]) -> Simulation:
    return simulate(make_programs(graph({"one": case})).forward, given, sizes)


def operands(case: Case, n: int, t: int, s: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    shapes = {"q": (t, case.heads, case.width), "k": (s, case.kv_heads, case.width)}
    shapes["v"] = (s, case.kv_heads, case.v_width)
    return {f"{name}.one": torch.randn((n, *shape), generator=generator) for name, shape in shapes.items()}


def test_dropout_drops_the_same_weights_as_the_reference() -> None:
    case = Case(dropout=0.375, v_width=32, heads=2)
    t, s = 9, 32
    given = operands(case, 1, t, s) | {"seed": torch.tensor(7)}
    given["v.one"] = torch.eye(s)[None, :, None].expand(1, s, 2, s).contiguous()
    found = simulated(case, given, {"N": 1, "T": t, "S": s})
    weights = found.results["y.one"].transpose(1, 2)  # by identity for values
    (node,) = graph({"one": case}).of("scaled_dot_product_attention")
    offset = node.attrs["offset"]
    assert isinstance(offset, int)
    assert torch.equal(weights > 0, uniform(7, offset, (1, 2, t, s)) >= case.dropout)


def test_a_batch_element_has_the_same_bits_whatever_its_neighbours() -> None:
    case = Case(heads=4, kv_heads=2, causal=True)
    given = operands(case, 3, 67, 67)
    whole = simulated(case, given, {"N": 3, "T": 67, "S": 67}).results
    alone = {name: tensor[1:2] for name, tensor in given.items()}
    part = simulated(case, alone, {"N": 1, "T": 67, "S": 67}).results
    assert all(torch.equal(whole[name][1:2], part[name]) for name in ("y.one", "lse.one"))


def test_half_precision_holds_gradients_whose_scores_gradients_it_does_not() -> None:
    """Those reach 10^6 and more, what they add up to with small queries and keys 10^4."""
    sizes = {"N": 1, "T": 19, "S": 37}
    generator = torch.Generator().manual_seed(3)

    def drawn(rows: int, scale: float) -> torch.Tensor:
        return (torch.randn((1, 2, rows, 16), generator=generator) * scale).half()

    q, k, v, g = drawn(19, 1e-3), drawn(37, 1e-3), drawn(37, 3e3), drawn(19, 3e3)
    wide = [one.double().requires_grad_() for one in (q, k, v)]
    scores = wide[0] @ wide[1].mT / 4.0
    result = scores.softmax(-1) @ wide[2]
    truths = torch.autograd.grad(result, wide, g.double())
    given = {"q": q, "k": k, "v": v, "g": g}
    given |= {"logsumexp": scores.logsumexp(-1).float(), "delta": (g * result).sum(-1).float()}
    given = {name: tensor.detach() for name, tensor in given.items()}

    build = Builder("gradients")
    types = {"q": (T, 16), "k": (S, 16), "v": (S, 16), "g": (T, 16), "logsumexp": (T,), "delta": (T,)}
    values = {
        name: build.input(name, TensorType(DType.F16 if len(shape) > 1 else DType.F32, (N, 2, *shape)))
        for name, shape in types.items()
    }
    operands = [values.get(name) for name in ("q", "k", "v", "mask", "seed", "logsumexp", "g", "delta")]
    attrs: dict[str, Any] = {"causal": False, "scale": 0.0, "dropout": 0.0, "offset": 0}
    dq = build.op("attention_query_grad", *operands, **attrs)
    dk, dv = build.ops("attention_key_value_grad", *operands, name="dkv", span=None, **attrs)
    programs = make_programs(build.finish({"q": dq, "k": dk, "v": dv}), wrt=())
    found = simulate(programs.forward, given, sizes)
    assert found.findings == ()
    slopes = scores.softmax(-1) * (g.double() @ v.double().mT - given["delta"][..., None])
    assert slopes.abs().max() > 10 * torch.finfo(torch.float16).max
    for name, truth in zip("qkv", truths, strict=True):
        mine = found.results[name].double().transpose(1, 2)
        assert float((mine - truth).abs().max()) <= 2.0**-9 * float(truth.abs().max()), name


def test_projections_are_read_and_written_in_place() -> None:
    found = make_programs(lower("attention", features=64))
    for program in found.both:
        copies = [group for group in program.plan.groups if [node.op for node in group.nodes] == ["cast"]]
        assert copies == []
    assert found.outside_calls == ()


@pytest.mark.parametrize("causal", [False, True])
def test_products_are_matrix_instructions_and_nothing_spills(causal: bool, tmp_path: Path) -> None:
    programs = make_programs(lower("attention", causal=causal, precision="bf16"))
    kernels = [kernel for kernel in programs.kernels if kernel.name.startswith("attention_")]
    assert len(kernels) == 3
    built = build_kernels(kernels, ["sm_80", "sm_90"], cache=KernelCache(tmp_path)).kernels
    for one in built:
        used = one.resources
        assert used.spill_bytes == 0
        assert used.matrix_kind == {"sm_80": "mma", "sm_90": "wgmma"}[one.target]
        products = one.ttir.count("tt.dot ")
        assert 0 < products <= used.matrix_instructions
        assert used.shared_bytes <= 96 * 1024
        assert used.wide_share > 0.85


def test_what_is_walked_over_is_counted_once_for_each_block_that_walks() -> None:
    programs = make_programs(graph({"one": Case(heads=4, kv_heads=2, dtype=DType.BF16)}))
    sizes = {"N": 2, "T": 512, "S": 256}
    (launch,) = [step for step in programs.forward.steps if isinstance(step, Launch)]
    found = traffic(programs.forward, launch, sizes)
    key_bytes = 2 * 256 * 2 * 16 * 2
    blocks = 512 // int(launch.kernel.constexprs["BLOCK_M"])
    assert found.moved - found.minimum == 2 * key_bytes * (2 * blocks - 1)
