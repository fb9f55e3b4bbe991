"""A small graph that every pass has something to do in."""

from __future__ import annotations

import pytest

from esper.ir import BlueprintIR

TEXT = """
blueprint small {
  %x = input() : f32[N, 8]
  %linear.weight = param() {init="fan_in_uniform", fan_in=8, gain=1.0} : f32[4, 8]
  %linear.bias = param() {init="zeros", fan_in=1, gain=1.0} : f32[4]
  %unused = param() {init="zeros", fan_in=1, gain=1.0} : f32[4]
  %linear = linear(%x, %linear.weight, %linear.bias) : f32[N, 4]
  %two = constant() {value=2.0} : f32[]
  %half = constant() {value=0.5} : f32[]
  %one = mul(%two, %half) : f32[]
  %scaled = mul(%one, %linear) : f32[N, 4]
  %gelu = gelu(%scaled) : f32[N, 4]
  %again = gelu(%linear) : f32[N, 4]
  %same = gelu(%linear) : f32[N, 4]
  %negative = neg(%same) : f32[N, 4]
  %twice = sub(%gelu, %negative) : f32[N, 4]
  %thrice = add(%twice, %again) : f32[N, 4]
  %dead = exp(%twice) : f32[N, 4]
  output y = %thrice
}
"""


@pytest.fixture
def small() -> BlueprintIR:
    return BlueprintIR.from_text(TEXT)
