"""Kernels for AMD GPUs: built without one, and judged by their assembly."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import lower
from esper.urza.artifact import read_artifact, write_artifact
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.amdgcn import access_bytes, parameter_bits, resources
from esper.urza.builder.buffer_widths import wide_share
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.llvm_widths import llvm_widths
from esper.urza.builder.signature import expected_bits
from esper.urza.builder.toolchain import versions
from esper.urza.compiler import Compilation, compile_ir

ASSEMBLY = """
k:                                      ; @k
; %bb.0:
	global_load_dwordx4 v[2:5], v[2:3], off
	global_load_ushort v9, v[2:3], off offset:16
	ds_read_b128 v[2:5], v1
	s_cbranch_scc1 .LBB0_3
.LBB0_1:                                ; %.lr.ph
                                        ; =>This Inner Loop Header: Depth=1
	buffer_load_dwordx2 v[2:3], v5, s[4:7], 0 offen
	v_mfma_f32_32x32x8_bf16 v[50:65], v[168:169], v[120:121], v[50:65]
; %bb.2:                                ;   in Loop: Header=BB0_1 Depth=1
	global_store_short_d16_hi v[2:3], v9, off
	s_cbranch_scc1 .LBB0_1
.LBB0_3:                                ; %._crit_edge
	scratch_load_dword v1, off, s32
	global_store_dwordx4 v[2:3], v[4:7], off
	s_endpgm
	.amdgpu_metadata
---
amdhsa.kernels:
  - .agpr_count:     0
    .args:
      - .address_space:  global
        .offset:         0
        .size:           8
        .value_kind:     global_buffer
      - .offset:         8
        .size:           4
        .value_kind:     by_value
      - .offset:         12
        .size:           4
        .value_kind:     hidden_block_count_x
    .group_segment_fixed_size: 64
    .name:           k
    .private_segment_fixed_size: 8
    .symbol:         k.kd
    .vgpr_count:     204
    .vgpr_spill_count: 3
...
	.end_amdgpu_metadata
"""


def test_bytes_are_counted_by_width_and_blocks_in_a_loop_weigh_its_turns() -> None:
    assert access_bytes(ASSEMBLY, trips=10) == {128: 16 + 16, 16: 2 + 20, 64: 80}


def test_registers_spills_and_matrix_instructions() -> None:
    used = resources(ASSEMBLY, shared_bytes=512, trips=10)
    assert (used.registers, used.spill_bytes, used.shared_bytes) == (204, 12, 576)
    assert (used.matrix_instructions, used.matrix_kind) == (1, "mfma")
    assert used.wide_share == pytest.approx(32 / 134)


def test_what_the_runtime_fills_in_is_no_parameter() -> None:
    assert parameter_bits(ASSEMBLY) == [64, 32]


@pytest.mark.parametrize("field", ["vgpr_count", "vgpr_spill_count", "private_segment_fixed_size"])
def test_metadata_that_says_nothing_does_not_pass_for_zero(field: str) -> None:
    with pytest.raises(ValueError, match=f"names no {field}"):
        resources(ASSEMBLY.replace(field, "another"), shared_bytes=0, trips=1)
    with pytest.raises(ValueError, match="has no metadata"):
        resources("", shared_bytes=0, trips=1)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compilation:
    cache = KernelCache(tmp_path_factory.mktemp("cache"))
    return compile_ir(lower("mlp_block", features=64, precision="bf16"), ["gfx942"], cache=cache, jobs=2)


def test_a_block_builds_for_an_amd_gpu_without_one(compiled: Compilation) -> None:
    for one in compiled.build.kernels:
        assert one.cubin.startswith(b"\x7fELF")
        assert parameter_bits(one.ptx) == expected_bits(one.kernel)
        used = one.resources
        assert used.spill_bytes == 0 < used.registers
        assert (used.matrix_kind == "mfma") == one.kernel.name.startswith("matmul")


def test_threads_share_out_a_tile_as_on_other_gpus_unless_waves_do(compiled: Compilation) -> None:
    for one in compiled.build.kernels:
        products = one.kernel.name.startswith("matmul")
        assert one.num_warps == one.kernel.num_warps // (1 if products else 2)


def test_products_store_whole_vectors(compiled: Compilation) -> None:
    stored = [
        wide_share(llvm_widths(one.llir, one.kernel.trips)[number])
        for one in compiled.build.kernels
        if one.kernel.has_products
        for number, argument in enumerate(one.kernel.arguments)
        if argument.writes and argument.dtype == "bf16"
    ]
    assert len(stored) >= 3 and set(stored) == {1.0}


def test_what_was_built_is_found_again(compiled: Compilation, tmp_path: Path) -> None:
    kernels = compiled.programs.kernels[:1]
    first, again = (build_kernels(kernels, ["gfx942"], cache=KernelCache(tmp_path), jobs=1) for _ in range(2))
    assert (first.invocations, again.invocations) == (1, 0)
    assert first.kernels[0].cubin == again.kernels[0].cubin


def test_an_artifact_holds_code_for_an_amd_gpu(compiled: Compilation, tmp_path: Path) -> None:
    path = tmp_path / "mlp.seed"
    write_artifact(path, compiled.artifact())
    found = read_artifact(path)
    assert {Path(name).suffix for name in found.cubins} == {".hsaco"}
    assert found.targets == ("gfx942",) and "ptxas" not in found.versions


def test_no_assembler_of_nvidia_is_named_where_none_is_needed() -> None:
    assert "ptxas" in versions(["sm_90", "gfx942"]) and "ptxas" not in versions(["gfx942"])
