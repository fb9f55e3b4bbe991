"""dce: what no result needs is gone, parameters included; inputs, which are the signature, stay."""

from __future__ import annotations

from esper.ir import BlueprintIR
from esper.passes import run_passes


def test_a_parameter_that_no_result_needs_is_gone() -> None:
    ir = BlueprintIR.from_text(
        """blueprint b {
          %x = input() : f32[N, 4]
          %unread = input() : f32[N]
          %w = param() {init="normal", fan_in=4, gain=1.0} : f32[4, 4]
          %dead = param() {init="normal", fan_in=4, gain=1.0} : f32[4, 4]
          %y = matmul(%x, %w) {transpose_a=false, transpose_b=false} : f32[N, 4]
          %z = matmul(%x, %dead) {transpose_a=false, transpose_b=false} : f32[N, 4]
          output y = %y
        }"""
    )
    after = run_passes(ir, "dce")
    assert [node.name for node in after.params] == ["w"]
    assert after.parameters == 16 and "z" not in after
    assert after.inputs == ir.inputs
