"""CompiledSeed: an ordinary module on the torch tier, the same module on kernels."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import esper
from esper.errors import WrongArgument
from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ops.reference.evaluate import evaluate
from esper.urza.errors import NameTaken, OpenWeight, SeedsDoNotPickle, WrongInputs
from esper.urza.run.seed import CompiledSeed
from esper.urza.run.tiers import Tier


def block() -> BlueprintIR:
    """A residual block with a norm, an activation, a product and dropout."""
    build = Builder("block")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 8)))
    weight = build.param("norm.weight", TensorType(DType.F32, (8,)), init="ones")
    h = build.op("layer_norm", x, weight, None)
    w = build.param("linear.weight", TensorType(DType.F32, (8, 8)), init="fan_in_uniform", fan_in=8)
    h = build.op("linear", build.op("gelu", h), w, None)
    h = build.op("dropout", h, build.seed(), p=0.25, offset=0)
    return build.finish({"y": build.op("add", x, h)})


def seeded(tier: Tier = "torch") -> CompiledSeed:
    return CompiledSeed(block(), generator=torch.Generator().manual_seed(0), tier=tier)


def test_it_computes_what_its_graph_means() -> None:
    seed = seeded()
    x = torch.randn(5, 8)
    expected = evaluate(block(), {"x": x}, seed.state_dict(), seed=int(seed.random_seed))
    torch.testing.assert_close(seed(x), expected["y"])


def test_each_training_call_draws_other_numbers_and_eval_draws_none() -> None:
    seed = seeded()
    x = torch.randn(5, 8)
    assert not torch.equal(seed(x), seed(x))
    seed.eval()
    assert torch.equal(seed(x), seed(x))


def test_equal_generators_give_equal_seeds_and_torchs_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    first, second = seeded().state_dict(), seeded().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    seed = seeded()
    seed(torch.ones(2, 8)).sum().backward()
    assert torch.equal(before, torch.get_rng_state())


def test_parameters_keep_the_names_of_the_graph() -> None:
    assert set(seeded().state_dict()) == {"norm.weight", "linear.weight", "random_seed"}


def test_a_deep_copy_has_weights_of_its_own() -> None:
    seed = seeded()
    twin = copy.deepcopy(seed)
    x = torch.randn(3, 8)
    assert torch.equal(seed(x), twin(x))
    with torch.no_grad():
        next(twin.parameters()).add_(1.0)
    assert not torch.equal(next(seed.parameters()), next(twin.parameters()))


def test_pickling_is_refused_in_favour_of_seed_files() -> None:
    with pytest.raises(SeedsDoNotPickle, match=r"block"):
        pickle.dumps(seeded())


def test_a_parameter_cannot_hide_a_method() -> None:
    build = Builder("bad")
    x = build.input("x", TensorType(DType.F32, (2,)))
    p = build.param("forward", TensorType(DType.F32, (2,)))
    with pytest.raises(NameTaken):
        CompiledSeed(build.finish({"y": build.op("add", x, p)}))


def test_without_a_gpu_kernels_are_refused_and_the_torch_tier_says_why() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU: kernels run")
    seed = seeded("triton")
    assert seed(torch.randn(4, 8)).shape == (4, 8)
    status = seed.status()
    assert (status.tier, status.calls) == ("torch", {"torch": 1, "triton": 0})
    assert status.reason.startswith("kernels are in quarantine")


def test_buffers_may_trade_places_and_be_outputs() -> None:
    build = Builder("swap")
    x = build.input("x", TensorType(DType.F32, (2,)))
    first = build.buffer("first", TensorType(DType.F32, (2,)), init="ones")
    second = build.buffer("second", TensorType(DType.F32, (2,)))
    y = build.op("add", x, build.op("add", first, second))
    ir = build.finish({"y": y, "before": first}, updates={"first": second, "second": first})
    seed = CompiledSeed(ir)
    _, before = seed(torch.zeros(2))
    assert torch.equal(before, torch.ones(2))
    after = dict(seed.named_buffers())
    assert torch.equal(after["first"], torch.zeros(2)) and torch.equal(after["second"], torch.ones(2))


def test_a_weight_as_wide_as_an_input_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.esp").write_text("blueprint b() { input x: f32[N, C] output linear(x, 8) }")
    with pytest.raises(OpenWeight, match=r"`linear.weight` of `b` is f32.8, C., and `C` has no number"):
        esper.compile(tmp_path / "b.esp")


def test_a_call_with_too_few_tensors_names_the_inputs() -> None:
    with pytest.raises(WrongInputs, match="was given 0 tensors, and takes x"):
        seeded()()


TRAIN = """
import torch
from tests.urza.run.test_seed import seeded
kernels, plain = seeded("triton"), seeded("torch")
for step in range(3):
    x = torch.randn(5 + step, 8, generator=torch.Generator().manual_seed(step))
    for seed in (kernels, plain):
        seed(x).square().sum().backward()
        with torch.no_grad():
            for parameter in seed.parameters():
                parameter -= 0.01 * parameter.grad
                parameter.grad = None
for mine, theirs in zip(kernels.parameters(), plain.parameters(), strict=True):
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
status = kernels.status()
assert status.tier == "triton" and status.calls["triton"] == 3, status
print("trained", status.reason)
"""


def test_training_on_kernels_in_the_interpreter_follows_training_on_torch() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", TRAIN], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("trained kernels agree"), done.stderr


UNUSUAL = """
import torch
from esper.ir import Builder, DType, TensorType, symbol
from esper.urza.run.seed import CompiledSeed
build = Builder("unusual")
x = build.input("x", TensorType(DType.F32, (symbol("N"), 8)))
total = build.buffer("total", TensorType(DType.F32, (8,)))
column = build.op("sum", x, axes=(0,), keepdims=False)
wave = build.op("tanh", build.op("add", column, total))
outputs = {"y": wave, "big": build.op("greater", x, build.op("tanh", x))}
ir = build.finish(outputs, updates={"total": build.op("add", column, total)})
results = []
for tier in ("triton", "torch"):
    seed = CompiledSeed(ir, tier=tier)
    given = torch.arange(40.0).reshape(5, 8).div(400).requires_grad_()
    wave, big = seed(given)
    wave.sum().backward()
    assert seed.status().tier == tier, seed.status()
    results.append((wave, big, given.grad, seed.total))
for mine, theirs in zip(*results, strict=True):
    torch.testing.assert_close(mine, theirs)
print("equal")
"""


def test_kernels_update_buffers_write_booleans_and_know_sizes_that_backward_reads_nowhere() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", UNUSUAL],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "equal\n", done.stderr


UNFIT = """
import torch
from esper.ir import Builder, DType, TensorType, symbol
from esper.urza.run.seed import CompiledSeed
build = Builder("curve")
x = build.input("x", TensorType(DType.F32, (symbol("N"), 8)))
seed = CompiledSeed(build.finish({"y": build.op("tanh", x)}), tier="triton")
tiers = []
for dtype in (torch.float64, torch.float32, torch.float64, torch.float32):
    given = torch.ones(3, 8, dtype=dtype)
    assert torch.allclose(seed(given), given.tanh())
    tiers.append(seed.status().calls["triton"])
    if dtype == torch.float64:
        assert "`x` is torch.float64 on cpu" in seed.status().reason, seed.status()
print(tiers, seed.status().tier)
"""


def test_a_call_that_kernels_cannot_take_runs_on_torch_and_the_next_one_on_kernels() -> None:
    root = Path(__file__).parents[3]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", UNFIT], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "[0, 1, 1, 2] triton\n", done.stderr


def test_an_unknown_tier_is_refused() -> None:
    tier: Any = "cuda"
    with pytest.raises(WrongArgument, match="`tier` is 'cuda', expected torch or triton"):
        seeded(tier)
