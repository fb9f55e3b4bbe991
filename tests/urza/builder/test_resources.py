"""Figures read off ptxas logs and PTX."""

from __future__ import annotations

import pytest

from esper.urza.builder.resources import access_bytes, resources

LOG = """
ptxas info    : Compiling entry function 'k' for 'sm_90a'
ptxas info    : Function properties for k
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 80 registers, used 1 barriers, 8 bytes cumulative stack size
"""
PTX = """
	@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
	ld.global.nc.L1::evict_first.b16 %rs1, [ %rd2 ];
	ld.shared.v4.b32 {%r1, %r2, %r3, %r4}, [%r9];
$L__BB0_1:
	cp.async.cg.shared.global [ %r22 + 0 ], [ %rd5 + 0 ], 0x10, %r23;
	wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {%f1}, %rd1, %rd2, p, 1, 1, 0, 0;
	@%p2 bra 	$L__BB0_1;
	@%p3 bra 	$L__BB0_2;
	st.global.v2.b32 [ %rd9 ], { %r1, %r2 };
$L__BB0_2:
	ret;
"""


def test_bytes_are_counted_by_width_and_loops_weigh_their_turns() -> None:
    assert access_bytes(PTX, trips=10) == {128: 16 + 160, 16: 2, 64: 8}


def test_registers_spills_and_matrix_instructions() -> None:
    used = resources(LOG, PTX, shared_bytes=512, trips=10)
    assert (used.registers, used.spill_bytes, used.shared_bytes) == (80, 28, 512)
    assert (used.matrix_instructions, used.matrix_kind) == (1, "wgmma")
    assert used.wide_share == pytest.approx(176 / 186)


def test_a_log_that_says_nothing_does_not_pass_for_zero() -> None:
    with pytest.raises(ValueError, match="names no registers"):
        resources("", PTX, shared_bytes=0, trips=1)
