"""Ahead-of-time builds: counted, cached, reproducible, and honest about what a kernel uses."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from esper.urza import toolchain
from esper.urza.build import build_kernels, kernel_key
from esper.urza.cache import KernelCache
from esper.urza.errors import KernelBuildFailed, MissingCompiler, UnknownTarget
from esper.urza.kernel import Argument, Configuration, KernelSource

SCALE = KernelSource(
    name="scale",
    direction="forward",
    source="""
import triton
import triton.language as tl
from esper.kernels.pointwise import pointwise

@triton.jit
def body(offsets, mask, operands):
    x, y = operands
    tl.store(y + offsets, tl.load(x + offsets, mask, 0.0).to(tl.float32) * 2.0, mask)

@triton.jit
def scale(x, y, N, K: tl.constexpr, BLOCK: tl.constexpr):
    pointwise(N * K, (x, y), body, BLOCK)
""",
    entry="scale",
    arguments=(
        Argument("x", "pointer", "bf16", divisible_by_16=True),
        Argument("y", "pointer", "bf16", divisible_by_16=True, writes=True),
        Argument("N", "size"),
    ),
    grid=(1,),
    constexprs={"K": 64, "BLOCK": 1024},
)
SPILLING = KernelSource(
    name="spilling",
    direction="forward",
    source="""
import triton
import triton.language as tl

@triton.jit
def spilling(x, y, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    row = tl.load(x + index)
    tl.store(y + index, row - tl.sum(row, 0))
""",
    entry="spilling",
    arguments=(Argument("x", "pointer", "f32"), Argument("y", "pointer", "f32", writes=True)),
    grid=(1,),
    constexprs={"SIZE": 16384},
    num_warps=1,
)


def test_the_second_build_does_not_invoke_triton(tmp_path: Path) -> None:
    first = build_kernels([SCALE], ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    second = build_kernels([SCALE], ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    assert (first.invocations, second.invocations) == (2, 0)
    assert second.cached and not first.cached
    assert [k.cubin for k in first.kernels] == [k.cubin for k in second.kernels]
    assert [k.resources for k in first.kernels] == [k.resources for k in second.kernels]


def test_equal_kernels_are_built_once(tmp_path: Path) -> None:
    build = build_kernels([SCALE, replace(SCALE, name="again")], ["sm_90"], cache=KernelCache(tmp_path))
    assert build.invocations == 1
    assert [built.kernel.name for built in build.kernels] == ["scale", "again"]


def test_native_code_does_not_depend_on_where_it_is_built(tmp_path: Path) -> None:
    builds = [build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path / name)) for name in "ab"]
    assert builds[0].kernels[0].cubin == builds[1].kernels[0].cubin


def test_settings_in_the_environment_do_not_change_native_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path / "a"))
    for name in ("TRITON_INTERPRET", "TRITON_DEBUG", "DISABLE_PTXAS_OPT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TRITON_OVERRIDE_ARCH", "sm80")
    other = build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path / "b"))
    assert plain.kernels[0].cubin == other.kernels[0].cubin


def test_aligned_rows_move_in_128_bit_accesses(tmp_path: Path) -> None:
    (built,) = build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path)).kernels
    assert (built.resources.vector_bits, built.resources.wide_share) == (128, 1.0)
    assert built.resources.spill_bytes == 0
    assert built.cubin.startswith(b"\x7fELF") and built.symbol == "scale"


def test_a_kernel_that_spills_says_so(tmp_path: Path) -> None:
    (built,) = build_kernels([SPILLING], ["sm_80"], cache=KernelCache(tmp_path)).kernels
    assert built.resources.spill_bytes > 0


def test_a_spilling_kernel_is_tried_in_its_alternatives(tmp_path: Path) -> None:
    choices = (Configuration({}, 2, 3), Configuration({}, 8, 3))
    kernel = replace(SPILLING, alternatives=choices)
    (built,) = build_kernels([kernel], ["sm_80"], cache=KernelCache(tmp_path)).kernels
    assert built.resources.spill_bytes == 0
    assert (built.kernel.num_warps, built.num_warps) == (8, 8)


def test_the_key_follows_everything_the_code_depends_on() -> None:
    keys = {
        kernel_key(SCALE, "sm_90"),
        kernel_key(SCALE, "sm_80"),
        kernel_key(replace(SCALE, source=SCALE.source + "\n"), "sm_90"),
        kernel_key(replace(SCALE, constexprs={"K": 32, "BLOCK": 1024}), "sm_90"),
        kernel_key(replace(SCALE, num_warps=8), "sm_90"),
        kernel_key(replace(SCALE, arguments=SCALE.arguments[::-1]), "sm_90"),
    }
    assert len(keys) == 6
    assert kernel_key(replace(SCALE, trips=9), "sm_90") in keys


def test_a_kernel_that_triton_refuses_is_named_with_the_reason(tmp_path: Path) -> None:
    broken = replace(SCALE, source=SCALE.source.replace("* 2.0", "* no_such_name"))
    with pytest.raises(KernelBuildFailed, match=r"(?s)`scale` does not build for sm_90.*no_such_name"):
        build_kernels([broken], ["sm_90"], cache=KernelCache(tmp_path))


def test_a_build_process_that_dies_costs_one_kernel_and_is_reported(tmp_path: Path) -> None:
    deadly = replace(SCALE, source="import os\nos._exit(9)\n")
    with pytest.raises(KernelBuildFailed, match="ended with code 9"):
        build_kernels([deadly], ["sm_90"], cache=KernelCache(tmp_path))
    assert build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path)).invocations == 1


def test_a_build_process_that_hangs_is_ended(tmp_path: Path) -> None:
    endless = replace(SCALE, source="import time\ntime.sleep(60)\n")
    with pytest.raises(KernelBuildFailed, match=r"limit 0\.5 s"):
        build_kernels([endless], ["sm_90"], cache=KernelCache(tmp_path), timeout_s=0.5)


def test_an_unknown_target_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownTarget, match="sm_42") as caught:
        build_kernels([SCALE], ["sm_42"], cache=KernelCache(tmp_path))
    assert "sm_90" in caught.value.help_text


def test_without_an_assembler_the_error_asks_for_a_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tmp_path / "absent"))
    toolchain.ptxas_version.cache_clear()
    with pytest.raises(MissingCompiler) as caught:
        build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path))
    assert caught.value.exit_code == 3
    toolchain.ptxas_version.cache_clear()


def test_without_triton_the_error_asks_for_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    toolchain.triton_version.cache_clear()
    with pytest.raises(MissingCompiler, match="triton") as caught:
        build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path))
    assert caught.value.exit_code == 3
