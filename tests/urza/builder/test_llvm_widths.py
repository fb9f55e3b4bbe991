"""Which buffer an access of an AMD GPU goes to, followed back through the values of LLVM IR."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from esper.lang import lower
from esper.urza.builder import amdgcn
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.llvm_widths import llvm_widths
from esper.urza.compiler import make_programs

LLIR = """
declare float @llvm.exp2.f32(float)

define amdgpu_kernel void @k(ptr addrspace(1) inreg readonly captures(none) %0, ptr addrspace(1) inreg \
captures(address, read_provenance) %1, i32 inreg %2, ptr addrspace(1) inreg %3) local_unnamed_addr #1 {
  %5 = tail call ptr addrspace(8) @llvm.amdgcn.make.buffer.rsrc.p8.p1(ptr addrspace(1) %3, i16 0, i32 -2)
  %6 = sext i32 %2 to i64
  %7 = getelementptr bfloat, ptr addrspace(1) %0, i64 %6
  br label %8

8:                                                ; preds = %8, %4
  %9 = phi ptr addrspace(1) [ %7, %4 ], [ %11, %8 ]
  %10 = load <8 x bfloat>, ptr addrspace(1) %9, align 16
  %11 = getelementptr bfloat, ptr addrspace(1) %9, i64 64
  store <4 x bfloat> %12, ptr addrspace(3) %13, align 8
  br i1 %14, label %8, label %15

15:                                               ; preds = %8
  %16 = load i64, ptr addrspace(1) %1, align 8
  %17 = inttoptr i64 %16 to ptr addrspace(1)
  store float %18, ptr addrspace(1) %17, align 4
  %19 = tail call <4 x i32> @llvm.amdgcn.raw.ptr.buffer.load.v4i32(ptr addrspace(8) %5, i32 %2, i32 0, i32 0)
  tail call void @llvm.amdgcn.raw.ptr.buffer.store.v2i32(<2 x i32> %20, ptr addrspace(8) %5, i32 %2, i32 0)
  %21 = select i1 %14, ptr addrspace(1) %7, ptr addrspace(1) %1
  store <8 x half> %22, ptr addrspace(1) %21, align 8, !dbg !3
  ret void
}

define void @another(ptr addrspace(1) %0) {
  store i8 0, ptr addrspace(1) %0, align 1
}
"""


def test_addresses_are_followed_to_the_parameters_they_come_from() -> None:
    assert llvm_widths(LLIR, trips=5) == {
        0: {128: 80, 64: 8},
        1: {64: 8 + 8},
        3: {128: 16, 64: 8},
        -1: {32: 4},
    }


def test_text_without_a_kernel_does_not_pass_for_no_accesses() -> None:
    with pytest.raises(ValueError, match="no kernel"):
        llvm_widths("define void @k() {\n}\n", trips=1)


@pytest.mark.parametrize("name", ["norm", "mlp_block"])
def test_every_access_of_the_assembly_is_found(name: str, tmp_path: Path) -> None:
    programs = make_programs(lower(name, precision="bf16"))
    for one in build_kernels(programs.kernels, ["gfx942"], cache=KernelCache(tmp_path), jobs=2).kernels:
        found = llvm_widths(one.llir, 1)
        assert found.keys() == {n for n, a in enumerate(one.kernel.arguments) if a.kind == "pointer"}
        total = sum((Counter(widths) for widths in found.values()), Counter[int]())
        counted = Counter(amdgcn.access_bytes(one.ptx, 1))
        assert total.keys() == counted.keys()
        if "pick(" in one.kernel.source:  # an access to one of several buffers counts for each
            assert total > counted
        else:
            assert total == counted
