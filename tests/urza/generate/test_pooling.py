"""Pooling and its gradients compute what the operators mean; no access goes astray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.dims import Size
from esper.ir.graph import Value
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.compiler import make_programs
from esper.urza.plan.eligible import ELIGIBLE
from esper.urza.verify.simulate import simulate
from esper.urza.verify.verification import KernelVerdict, verify_programs

N, H, W, D = symbol("N"), symbol("H"), symbol("W"), symbol("D")
SPACES: Mapping[int, tuple[Size, ...]] = {1: (W,), 2: (H, W), 3: (D, H, W)}


@dataclass(frozen=True)
class Case:
    """A pooling `op` over the last `axes` of D, H and W; with a `size` it is adaptive."""

    op: str = "max_pool"
    axes: int = 2
    kernel: int = 2
    stride: int = 0
    padding: int = 0
    size: int = 0
    count_include_pad: bool = True
    dtype: DType = DType.F32
    permuted: bool = False

    @property
    def attrs(self) -> dict[str, int | bool]:
        if self.size:
            return {"size": self.size}
        window = {"kernel": self.kernel, "stride": self.stride, "padding": self.padding}
        return window | ({"count_include_pad": self.count_include_pad} if self.op == "avg_pool" else {})

    def fits(self, sizes: tuple[int, ...]) -> bool:
        """Whether a window fits the map, in three axes without its padding, as torch demands of a mean."""
        over = 2 * self.padding if self.axes < 3 else 0
        return self.size > 0 or all(size + over >= self.kernel for size in sizes[-self.axes :])

    def append(self, build: Builder, name: str) -> tuple[Value, ...]:
        """One more pooling; permuted: of a map that lies in memory with its channels last."""
        space = SPACES[self.axes]
        shape = (N, *space, 3) if self.permuted else (N, 3, *space)
        x = build.input(f"x.{name}", TensorType(self.dtype, shape))
        if self.permuted:
            x = build.op("permute", x, axes=(0, self.axes + 1, *range(1, self.axes + 1)))
        op = f"adaptive_{self.op}" if self.size else self.op
        return build.ops(op, x, name=name, span=None, **self.attrs)


def graph(cases: Mapping[str, Case]) -> BlueprintIR:
    build = Builder("poolings")
    found = {name: case.append(build, name) for name, case in cases.items()}
    return build.finish({f"{name}.{i}": v for name, values in found.items() for i, v in enumerate(values)})


CASES = {
    "max": Case(),
    "max_over": Case(kernel=3, stride=2, padding=1),
    "max_dense": Case(kernel=3, stride=1, padding=1, dtype=DType.BF16),
    "max_apart": Case(kernel=2, stride=3, padding=1),
    "max_line": Case(axes=1, kernel=4, stride=1, padding=2, dtype=DType.F16),
    "max_volume": Case(axes=3, kernel=3, stride=2, padding=1),
    "max_permuted": Case(permuted=True, kernel=3, stride=1, padding=1),
    "max_whole": Case(size=1),
    "avg": Case("avg_pool"),
    "avg_over": Case("avg_pool", kernel=3, stride=2, padding=1),
    "avg_alone": Case("avg_pool", kernel=3, stride=2, padding=1, count_include_pad=False),
    "avg_apart": Case("avg_pool", kernel=2, stride=3, padding=1, dtype=DType.BF16),
    "avg_line": Case("avg_pool", axes=1, kernel=5, stride=1, padding=2, dtype=DType.F16),
    "avg_volume": Case("avg_pool", axes=3, kernel=3, stride=1, padding=1, count_include_pad=False),
    "avg_permuted": Case("avg_pool", permuted=True, kernel=3, stride=2, padding=1),
    "part": Case("avg_pool", size=3),
    "parts": Case("avg_pool", size=4, dtype=DType.BF16),
    "part_line": Case("avg_pool", size=2, axes=1),
    "part_volume": Case("avg_pool", size=2, axes=3, permuted=True),
    "part_max": Case(size=3),
    "part_max_line": Case(size=4, axes=1),
}
SIZES = [(1, 1, 1, 3), (2, 2, 5, 7), (3, 3, 8, 16)]


def wrong(kernels: tuple[KernelVerdict, ...]) -> list[KernelVerdict]:
    return [kernel for kernel in kernels if not kernel.ok]


@pytest.mark.parametrize("n, d, h, w", SIZES)
def test_results_and_gradients_are_right_at_any_size(n: int, d: int, h: int, w: int) -> None:
    cases = {name: case for name, case in CASES.items() if case.fits((d, h, w))}
    found = verify_programs(make_programs(graph(cases)), sizes={"N": n, "D": d, "H": h, "W": w})
    assert wrong(found.kernels) == []
    compared = [case for case in cases.values() if case.size and case.op == "max_pool"]
    assert set(found.outside) == {"adaptive_max_pool_backward"}
    assert found.launches == 2 * len(cases) - len(compared)


def test_kernels_build_without_spills(tmp_path: Path) -> None:
    heavy = {name: CASES[name] for name in ("max_over", "max_volume", "avg_volume", "part_volume")}
    kernels = [kernel for program in make_programs(graph(heavy)).both for kernel in program.kernels]
    build = build_kernels(kernels, ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    assert len(build.kernels) == 2 * len(kernels) == 4 * len(heavy)
    assert [built.kernel.name for built in build.kernels if built.resources.spill_bytes] == []


def refusal(op: str, given: tuple[Size, ...], **attrs: int) -> str | None:
    """Why the gradient of a maximum over a map has no kernel; given: the shape of the result."""
    build = Builder("one")
    g = build.input("g", TensorType(DType.F32, given))
    x = build.input("x", TensorType(DType.F32, (N, 3, H, W)))
    (dx,) = build.ops(f"{op}_backward", g, x, name="dx", span=None, **attrs)
    ir = build.finish({"dx": dx})
    (node,) = ir.of(f"{op}_backward")
    return ELIGIBLE[node.op](ir, node)


def test_what_is_refused_says_why() -> None:
    assert refusal("max_pool", (N, 3, H // 2, W // 2), kernel=2, stride=2, padding=0) is None
    dense = refusal("max_pool", (N, 3, H, W), kernel=5, stride=1, padding=2)
    assert dense == "the gradient would compare 625 elements for each, above 256"
    whole = refusal("adaptive_max_pool", (N, 3, 7, 7), size=7)
    assert whole == "the gradient would compare all elements of a window, whose number is not fixed"


def test_of_equal_elements_the_first_is_found_and_of_nans_the_last() -> None:
    """As torch does; a window of nothing but -inf has its first element."""
    inf, nan = float("inf"), float("nan")
    rows = [[1.0, 1, 1, 0], [-inf, -inf, -inf, -inf], [nan, 5, nan, 7], [0.0, -0.0, 3, inf], [2, nan, 9, nan]]
    x = torch.tensor(rows).reshape(5, 1, 4)
    build = Builder("ties")
    given = build.input("x", TensorType(DType.F32, (N, 1, W)))
    values = build.ops("max_pool", given, name="y", span=None, kernel=3, stride=1, padding=1)
    programs = make_programs(build.finish({"y": values[0], "at": values[1]}))
    found = simulate(programs.forward, {"x": x}, {"N": 5, "W": 4})
    y, at = torch.nn.functional.max_pool1d(x, 3, 1, 1, return_indices=True)
    torch.testing.assert_close(found.results["y"], y, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(found.results["at"], at)
