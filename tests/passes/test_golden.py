"""What the passes of the default pipeline, and what builds on them, make of one small graph.

The golden text of any other pass stands in a test module of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from esper.ir import BlueprintIR
from esper.passes import DEFAULT, PASSES, joint_graph, partition, run_passes


@pytest.mark.parametrize("name", DEFAULT.split(","))
def test_a_pass_alone(name: str, small: BlueprintIR, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.ir", f"{PASSES[name].run(small)}\n")


def test_the_pipeline(small: BlueprintIR, golden: Callable[[str, str], None]) -> None:
    golden("pipeline.ir", f"{run_passes(small, DEFAULT)}\n")


def test_autodiff(small: BlueprintIR, golden: Callable[[str, str], None]) -> None:
    golden("autodiff.ir", f"{run_passes(small, 'expand,autodiff')}\n")


def test_the_joint_graph_and_its_parts(small: BlueprintIR, golden: Callable[[str, str], None]) -> None:
    joint = joint_graph(small)
    parts = partition(joint)
    golden("joint.ir", f"{joint}\n")
    golden("partition.ir", f"{parts.forward}\n{parts.backward}\n")


NORMS = """
blueprint norms {
  %x = input() : f32[N, 8]
  %gain = param() {init="ones", fan_in=1, gain=1.0} : f32[8]
  %mean = buffer() {init="zeros"} : f32[8]
  %variance = buffer() {init="ones"} : f32[8]
  %seed = seed() : i64[]
  %dropout = dropout(%x, %seed) {p=0.5, offset=1} : f32[N, 8]
  %batch_norm = batch_norm(%dropout, %gain, _, %mean, %variance) {training=true, momentum=0.1, eps=1e-05}
    : f32[N, 8], f32[8], f32[8], f32[8], f32[8]
  output y = %batch_norm
  update mean = %batch_norm#3
  update variance = %batch_norm#4
}
"""


@pytest.mark.parametrize("name", ["decompose", "inference"])
def test_a_pass_on_normalisation(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.ir", f"{PASSES[name].run(BlueprintIR.from_text(NORMS))}\n")
