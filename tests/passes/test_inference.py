"""inference: what a graph computes in torch's eval mode."""

from __future__ import annotations

import torch

from esper.ir import BlueprintIR, Builder, DType, TensorType
from esper.passes import run_passes
from esper.testing import random_values
from esper.testing.laws import run

MAPS = TensorType(DType.F32, (4, 3, 5))


def _trained() -> BlueprintIR:
    build = Builder("norm")
    x, w, b = (
        build.input("x", MAPS),
        build.param("w", MAPS.with_shape((3,))),
        build.param("b", MAPS.with_shape((3,))),
    )
    mean, var = (build.buffer(name, MAPS.with_shape((3,))) for name in ("mean", "var"))
    x = build.op("dropout", x, build.seed(), p=0.5, offset=0)
    y, _, _, new_mean, new_var = build.ops("batch_norm", x, w, b, mean, var)
    return build.finish({"y": y}, {"mean": new_mean, "var": new_var})


def test_outputs_are_those_of_eval_mode() -> None:
    ir = _trained()
    values = random_values(ir)
    weights = values.weights
    expected = torch.nn.functional.batch_norm(
        values.inputs["x"], weights["mean"], weights["var"], weights["w"], weights["b"], training=False
    )
    torch.testing.assert_close(run(run_passes(ir, "inference"), values)["y"], expected)


def test_nothing_is_updated_and_no_seed_is_read() -> None:
    after = run_passes(_trained(), "inference,dce")
    assert not after.updates
    assert not after.of("seed")
