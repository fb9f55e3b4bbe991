"""Which buffer an access goes to, followed back through the registers of PTX."""

from __future__ import annotations

from pathlib import Path

import pytest

from esper.lang import lower, size_values
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.buffer_widths import buffer_widths, wide_share
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.resources import access_bytes
from esper.urza.compiler import make_programs
from esper.urza.traffic import traffic, traffic_of_buffers

PTX = """
	ld.param.b64 	%rd1, [k_param_0];
	ld.param.v2.b64 	{%rd2, %rd3}, [k_param_1+8];
	cvta.to.global.u64 	%rd4, %rd1;
	mad.wide.s32 	%rd5, %r1, 2, %rd4;
	@%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd5 + 16 ];
	mov.b64 	%rd6, %rd2;
$L__BB0_1:
	cp.async.cg.shared.global [ %r22 + 0 ], [ %rd6 + 0 ], 0x10, %r23;
	add.s64 	%rd7, %rd6, 128;
	mov.b64 	%rd6, %rd7;
	@%p2 bra 	$L__BB0_1;
	selp.b64 	%rd8, %rd1, %rd2, %p3;
	st.global.b16 	[ %rd8 ], %rs1;
	ld.global.b64 	%rd9, [ %rd4 ];
	st.global.v2.b32 	[ %rd9 ], { %r1, %r2 };
"""


def test_addresses_are_followed_to_the_parameters_they_come_from() -> None:
    assert buffer_widths(PTX, trips=5) == {0: {128: 16, 64: 8, 16: 2}, 1: {128: 80, 16: 2}, -1: {64: 8}}


CHOSEN = """
	mov.b64 	%rd1, k_param_0;
	mov.b64 	%rd2, k_param_2;
	selp.b64 	%rd3, %rd2, %rd1, %p1;
	ld.param.b64 	%rd4, [%rd3];
	mad.wide.s32 	%rd5, %r1, 2, %rd4;
	ld.global.v4.b32 	{ %r1, %r2, %r3, %r4 }, [ %rd5 ];
"""


def test_a_parameter_may_be_chosen_before_it_is_read() -> None:
    assert buffer_widths(CHOSEN, trips=1) == {0: {128: 16}, 2: {128: 16}}


def test_a_share_is_of_bytes() -> None:
    assert wide_share({128: 48, 32: 16}) == pytest.approx(0.75)
    assert wide_share({}) == 0.0


def test_every_buffer_of_built_kernels_is_found(tmp_path: Path) -> None:
    programs = make_programs(lower("norm", precision="bf16"))
    built = build_kernels(programs.kernels, ["sm_90"], cache=KernelCache(tmp_path), jobs=2).kernels
    for one in built:
        widths = buffer_widths(one.ptx, one.kernel.trips)
        pointers = {number for number, a in enumerate(one.kernel.arguments) if a.kind == "pointer"}
        assert widths.keys() == pointers
        assert {bits for found in widths.values() for bits in found} == set(access_bytes(one.ptx, 1))


def test_what_a_kernel_moves_is_the_sum_over_its_buffers() -> None:
    programs = make_programs(lower("transformer_block", precision="bf16"))
    sizes = size_values(programs.ir)
    for program, launch, _ in programs.launches():
        by_buffer = traffic_of_buffers(program, launch, sizes)
        assert by_buffer.keys() == set(launch.buffers.values())
        assert traffic(program, launch, sizes).moved == sum(one.moved for one in by_buffer.values())
