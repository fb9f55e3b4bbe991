"""Kernels under promises on their sizes: launched where the promises hold, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper.ir.dims import evaluate_size
from esper.lang import lower
from esper.urza.artifact import read_artifact, write_artifact
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.buffer_widths import buffer_widths, wide_share
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.signature import HIDDEN_PARAMETERS
from esper.urza.compiler import Programs, compile_ir, make_programs
from esper.urza.generate.writer import Launch
from esper.urza.kernel import BATCH, VECTOR, KernelSource
from esper.urza.run.bound_program import Buffers
from esper.urza.run.launcher import Code, Launcher
from esper.urza.run.supply import stored_codes
from tests.urza.run.driver_shim import Shim, compiler

shimmed = pytest.mark.skipif(compiler() is None, reason="no C compiler for the stand-in driver")


@pytest.fixture(scope="module")
def programs() -> Programs:
    return make_programs(lower("conv_block", precision="bf16"))


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path)


def promised(kernel: KernelSource) -> set[str]:
    return {a.name for a in kernel.arguments if a.kind == "size" and a.divisible_by > 1}


def code(kernel: KernelSource) -> Code:
    symbol = f"{kernel.entry}${len(kernel.arguments) + HIDDEN_PARAMETERS}"
    return Code(kernel, symbol, b"\x7fELF" + kernel.digest.encode(), kernel.num_warps, 0, 0)


def functions(shim: Shim, programs: Programs, step: Launch, sizes: dict[str, int], aligned: bool) -> int:
    """The function that a launch of `step` calls."""
    sources = programs.sources if aligned else programs.kernels
    launches = Launcher(shim.driver, {k.digest: code(k) for k in sources}, 0, lambda device: 1)
    buffers = Buffers({}, torch.empty(0, dtype=torch.uint8), {})
    buffers.addresses.update(dict.fromkeys(step.buffers.values(), 4096))
    shim.set(launches=0)
    launches((step,), buffers, sizes)
    (seen,) = shim.launched()
    return seen.function


@shimmed
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(data=st.data())
def test_promises_are_relied_on_where_they_hold_and_only_there(
    shim: Shim, programs: Programs, data: st.DataObject
) -> None:
    steps = [launch for _, launch, _ in programs.launches()]
    step = data.draw(st.sampled_from(steps))
    symbols = sorted(programs.ir.symbols)
    sizes = {name: data.draw(st.sampled_from([1, 3, 4, 7, 8, 16, 28, 32]), label=name) for name in symbols}
    generic = shim.driver.function(code(step.kernel).cubin, code(step.kernel).symbol, 0, 0).value
    aligned = step.kernel.aligned
    holds = aligned is not None and all(
        evaluate_size(step.sizes[name], sizes) % VECTOR == 0 for name in promised(aligned)
    )
    assert (functions(shim, programs, step, sizes, aligned=True) != generic) == holds
    assert functions(shim, programs, step, sizes, aligned=False) == generic


def test_the_batch_may_be_odd(programs: Programs) -> None:
    versions = [kernel.aligned for kernel in programs.kernels]
    assert any(versions) and all(one is None or BATCH not in promised(one) for one in versions)


def test_kernels_that_find_no_places_by_quotients_are_built_once() -> None:
    for name in ("mlp_block", "transformer_block"):
        programs = make_programs(lower(name, precision="bf16"))
        assert programs.sources == programs.kernels


def test_a_promise_makes_accesses_wide(programs: Programs, tmp_path: Path) -> None:
    plain = next(kernel for kernel in programs.kernels if kernel.name.startswith("sums_") and kernel.aligned)
    assert plain.aligned is not None and plain.aligned.digest != plain.digest
    built = build_kernels([plain, plain.aligned], ["sm_90"], cache=KernelCache(tmp_path), jobs=2).kernels
    narrow, wide = (wide_share(buffer_widths(one.ptx, plain.trips)[0]) for one in built)
    assert narrow < 0.1 and wide > 0.8
    assert [one.resources.spill_bytes for one in built] == [0, 0]


def test_an_artifact_holds_both(programs: Programs, tmp_path: Path) -> None:
    compiled = compile_ir(
        lower("conv_block", precision="bf16"), ["sm_90"], cache=KernelCache(tmp_path / "cache"), jobs=2
    )
    write_artifact(tmp_path / "conv.seed", compiled.artifact())
    found = stored_codes(read_artifact(tmp_path / "conv.seed"), programs, "sm_90", ledger=None)
    assert found.keys() == {kernel.digest for kernel in programs.sources}
    assert len(programs.sources) > len(programs.kernels)
    names = [kernel["name"] for kernel in compiled.report()["kernels"]]
    assert len(set(names)) == len(names) == len(programs.sources)


@pytest.mark.parametrize("start", ["map_", "sums_"])
def test_parts_of_a_tensor_are_read_widely_under_promises(start: str, tmp_path: Path) -> None:
    kernels = make_programs(lower("dense_block", precision="bf16")).kernels
    plain = next(kernel for kernel in kernels if kernel.name.startswith(start) and "concat" in kernel.name)
    assert plain.aligned is not None
    (built,) = build_kernels([plain.aligned], ["sm_90"], cache=KernelCache(tmp_path), jobs=1).kernels
    widths = buffer_widths(built.ptx, 1)
    maps = [n for n, argument in enumerate(plain.arguments) if argument.dtype == "bf16"]
    moved = [n for n in maps if sum(widths[n].values()) > 8]  # a thread's share, not one element for all
    assert len(moved) >= 2 and all(wide_share(widths[n]) == 1.0 for n in moved)


def test_a_batch_alone_is_no_reason_to_build_a_kernel_twice() -> None:
    found = [kernel.aligned for kernel in make_programs(lower("gmlp_block", precision="bf16")).kernels]
    assert found and not any(found)


def test_what_a_vector_shares_is_loaded_once(programs: Programs, tmp_path: Path) -> None:
    """A thread of a map has eight elements of one channel, which share its statistics."""
    plain = next(kernel for kernel in programs.kernels if "pointwise_vectors" in kernel.source)
    assert plain.aligned is not None
    built = build_kernels([plain, plain.aligned], ["sm_90"], cache=KernelCache(tmp_path), jobs=1).kernels
    statistics = next(n for n, argument in enumerate(plain.arguments) if argument.dtype == "f32")
    assert [buffer_widths(one.ptx, 1)[statistics] for one in built] == [{32: 32}, {32: 4}]
