"""Depthwise convolutions compute what the operators mean in all directions; no access goes astray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.dims import Size, evaluate_size
from esper.ir.graph import Value
from esper.lang import lower
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.buffer_widths import buffer_widths, wide_share
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.llvm_widths import llvm_widths
from esper.urza.compiler import make_programs
from esper.urza.plan.eligible import ELIGIBLE
from esper.urza.verify.verification import KernelVerdict, verify_programs

N, H, W, D = symbol("N"), symbol("H"), symbol("W"), symbol("D")
SPACES: Mapping[int, tuple[Size, ...]] = {1: (W,), 2: (H, W), 3: (D, H, W)}


@dataclass(frozen=True)
class Case:
    """A depthwise convolution over the last `axes` of D, H and W, with `multiplier` filters a channel."""

    axes: int = 2
    channels: int = 5
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    multiplier: int = 1
    dtype: DType = DType.F32
    channels_last: bool = False
    permuted: bool = False

    def fits(self, sizes: tuple[int, ...]) -> bool:
        """Whether the padded map has room for a window."""
        reach = self.dilation * (self.kernel - 1) + 1
        return all(size + 2 * self.padding >= reach for size in sizes[-self.axes :])

    def append(self, build: Builder, name: str) -> Value:
        """One more convolution; permuted: of a map that lies in memory with its channels last."""
        space, axes = SPACES[self.axes], tuple(range(1, self.axes + 1))
        last = self.channels_last or self.permuted
        shape = (N, *space, self.channels) if last else (N, self.channels, *space)
        x = build.input(f"x.{name}", TensorType(self.dtype, shape))
        if self.permuted:
            x = build.op("permute", x, axes=(0, self.axes + 1, *axes))
        sides = (self.kernel,) * self.axes
        filters = TensorType(self.dtype, (self.channels * self.multiplier, 1, *sides))
        return build.op(
            "convolution_channels_last" if self.channels_last else "convolution",
            x,
            build.param(f"w.{name}", filters),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.channels,
        )


def graph(cases: Mapping[str, Case]) -> BlueprintIR:
    build = Builder("convolutions")
    return build.finish({f"y.{name}": case.append(build, name) for name, case in cases.items()})


CASES = {
    "plain": Case(),
    "wide": Case(kernel=7, padding=3, channels=3),
    "longest": Case(kernel=11, padding=5, channels=2),
    "even": Case(kernel=2, padding=2, channels=8),
    "pointwise": Case(kernel=1, padding=0),
    "stride": Case(stride=2),
    "far": Case(stride=3, dilation=2, padding=2),
    "dilated": Case(dilation=2, padding=4, channels=9),
    "filters": Case(multiplier=3, channels=3, stride=2),
    "line": Case(axes=1, kernel=5, padding=4, stride=2),
    "volume": Case(axes=3, channels=2, stride=2),
    "bf16": Case(dtype=DType.BF16, kernel=3, stride=2),
    "f16": Case(dtype=DType.F16, kernel=3, dilation=2, padding=2),
    "last": Case(channels_last=True, channels=8),
    "last_wide": Case(channels_last=True, channels=5, kernel=5, padding=2, stride=2),
    "last_line": Case(channels_last=True, axes=1, multiplier=2),
    "last_volume": Case(channels_last=True, axes=3, channels=3, stride=3, dtype=DType.BF16),
    "permuted": Case(permuted=True, channels=4, stride=2),
}
SIZES = [(1, 1, 1, 3), (2, 2, 5, 7), (1, 3, 8, 16), (3, 8, 8, 8), (1, 8, 16, 24)]
DIRECTIONS = ("convolution", "convolution_input_grad", "convolution_weight_grad")


def wrong(kernels: tuple[KernelVerdict, ...]) -> list[KernelVerdict]:
    return [kernel for kernel in kernels if not kernel.ok]


@pytest.mark.parametrize("n, d, h, w", SIZES)
def test_each_direction_is_right_at_any_size(n: int, d: int, h: int, w: int) -> None:
    cases = {name: case for name, case in CASES.items() if case.fits((d, h, w))}
    found = verify_programs(make_programs(graph(cases)), sizes={"N": n, "D": d, "H": h, "W": w})
    assert wrong(found.kernels) == []
    assert found.outside == ()
    assert found.launches == 3 * len(cases) + 1  # each direction, and one for all sums of partial gradients


SMALL = {
    "mobilenet_block": lower("mobilenet_block", channels=6, expand=2, precision="bf16"),
    "convnext_block": lower("convnext_block", channels=10),
    "unet_down": lower("unet_down", channels=3),
}


@pytest.mark.parametrize("name", SMALL)
def test_blocks_of_the_library_pass(name: str) -> None:
    found = verify_programs(make_programs(SMALL[name]))
    assert found.ok, wrong(found.kernels)
    used = {kernel.name.split("_")[0] for kernel in found.kernels}
    assert ("max" if name == "unet_down" else "convolution") in used


def test_kernels_build_without_spills(tmp_path: Path) -> None:
    cases = {
        "wide": Case(channels=64, kernel=7, padding=3),
        "filters": Case(channels=32, multiplier=4, stride=2, dtype=DType.BF16),
        "last": Case(channels=64, channels_last=True, dtype=DType.BF16),
    }
    programs = make_programs(graph(cases))
    kernels = [kernel for one in programs.both for kernel in one.kernels if "convolution_" in kernel.name]
    build = build_kernels(kernels, ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    assert len(build.kernels) == 2 * len(kernels) >= 2 * 9
    assert [built.kernel.name for built in build.kernels if built.resources.spill_bytes] == []
    sums = [b for b in build.kernels if b.kernel.name.startswith("convolution_weight_grad_channels_last")]
    assert all(built.resources.wide_share > 0.9 for built in sums)


VECTORS = {
    "plain": Case(channels=64, dtype=DType.BF16),
    "wide": Case(channels=64, kernel=7, padding=3, dtype=DType.BF16),
    "far": Case(channels=32, dilation=3, padding=3, dtype=DType.BF16),
}


def test_lines_of_whole_vectors_move_in_vectors(tmp_path: Path) -> None:
    steps = [launch for _, launch, _ in make_programs(graph(VECTORS)).launches()]
    kernels = [
        launch.kernel.at(
            {name: evaluate_size(size, {"N": 1, "H": 16, "W": 8}) for name, size in launch.sizes.items()}
        )
        for launch in steps
        if launch.kernel.name.startswith("convolution")
    ]
    assert len(kernels) == 3 * len(VECTORS) and all(kernel.constexprs["VECTOR"] == 8 for kernel in kernels)
    for built in build_kernels(kernels, ["sm_90", "gfx942"], cache=KernelCache(tmp_path), jobs=2).kernels:
        amd, trips = built.target == "gfx942", built.kernel.trips
        widths = llvm_widths(built.llir, trips) if amd else buffer_widths(built.ptx, trips)
        maps = [n for n, a in enumerate(built.kernel.arguments) if a.dtype == "bf16" and "w_" not in a.name]
        assert [wide_share(widths[number]) for number in maps] == [1.0, 1.0]
        assert built.resources.spill_bytes == 0


def refusal(case: Case, groups: int, per_group: int = 1) -> str | None:
    """Why the convolution of `case`, in other groups, has no kernel."""
    build = Builder("one")
    x = build.input("x", TensorType(case.dtype, (N, groups * per_group, H, W)))
    filters = (case.channels * case.multiplier, per_group, case.kernel, case.kernel)
    weight = build.param("w", TensorType(case.dtype, filters))
    y = build.op("convolution", x, weight, stride=1, padding=6, dilation=1, groups=groups)
    ir = build.finish({"y": y})
    return ELIGIBLE["convolution"](ir, ir.node(y.node))


def test_what_is_refused_says_why() -> None:
    library = "a library call (cuDNN) until a measurement says otherwise"
    assert refusal(Case(channels=4), 4) is None
    assert refusal(Case(channels=4), 1) == library
    assert refusal(Case(channels=4), 1, per_group=4) == library
    assert refusal(Case(channels=4), 2, per_group=2) == library
    assert refusal(Case(channels=4, multiplier=5), 4) == "5 filters for each channel, above 4"
    assert refusal(Case(channels=4, kernel=13), 4) == "a filter's side is 13, above 11"
