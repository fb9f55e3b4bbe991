"""Kernels compute integers as integers: a float32 rounds those beyond 2^24."""

from __future__ import annotations

import pytest
import torch

from esper.ir import Builder, DType, TensorType, symbol
from esper.ops.reference.evaluate import evaluate
from esper.urza.program import make_program
from esper.urza.verify.simulate import simulate

IDS = torch.tensor([[2**24 + 1, 16777219, 2**40 + 1]])


@pytest.mark.parametrize("op", ["add", "sub", "mul", "maximum"])
def test_a_number_beside_integers_is_one(op: str) -> None:
    build = Builder("integers")
    ids = build.input("ids", TensorType(DType.I64, (symbol("N"), 3)))
    ir = build.finish({"y": build.op(op, ids, 3.0)})
    found = simulate(make_program(ir, "forward"), {"ids": IDS}, {"N": 1}).results["y"]
    assert torch.equal(found, evaluate(ir, {"ids": IDS}, {})["y"])
