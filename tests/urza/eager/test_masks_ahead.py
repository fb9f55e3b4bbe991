"""Masks that are drawn ahead: the numbers are those of the operators, the operators that draw them few."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from esper.ir.graph import BlueprintIR
from esper.lang import lower
from esper.ops.reference.evaluate import evaluate
from esper.urza.eager.masks_ahead import MOST_CALLS, MOST_ELEMENTS, Streams
from esper.urza.run.seed import CompiledSeed

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "transformer_block": ({"d_model": 16}, (2, 4, 16)),
    "transformer_post_norm": ({"d_model": 16}, (2, 4, 16)),
    "mbconv_block": ({"channels": 8, "drop_rate": 0.2}, (3, 8, 4, 4)),
    "convnext_block": ({"channels": 8, "drop_rate": 0.2}, (3, 8, 4, 4)),
}


def block(name: str) -> tuple[BlueprintIR, torch.Tensor]:
    arguments, shape = SMALL[name]
    return lower(name, **arguments), torch.randn(shape)


@pytest.mark.parametrize("name", SMALL)
def test_calls_draw_what_their_seeds_say(name: str) -> None:
    ir, x = block(name)
    seed = CompiledSeed(ir)
    for _ in range(MOST_CALLS + 3):
        drawn = int(seed.random_seed)
        weights = {key: value.clone() for key, value in seed.state_dict().items()}
        (expected, *_) = evaluate(ir, {ir.inputs[0].name: x}, weights, seed=drawn).values()
        torch.testing.assert_close(seed(x), expected)


def operators(seed: CompiledSeed, x: torch.Tensor, calls: int) -> Counter[str]:
    """How often each operator of torch runs."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(calls):
            seed(x)
    return Counter(event.name for event in found.events())


@pytest.mark.parametrize("name", SMALL)
def test_the_masks_of_many_calls_are_drawn_in_one_pass(name: str) -> None:
    ir, x = block(name)
    seed = CompiledSeed(ir)
    seed(x), seed(x)  # the first draws for itself, as these shapes may not come again
    found = operators(seed, x, MOST_CALLS)
    assert (found["aten::arange"], found["aten::index_select"]) == (0, 2)  # arange begins a mask by itself


def test_shapes_that_change_with_every_call_are_not_drawn_ahead() -> None:
    seed = CompiledSeed(lower("transformer_block", d_model=12))
    for length in (4, 3, 2, 4, 3, 2):
        seed(torch.randn(2, length, 12))
    streams = seed._graph(True, None).streams
    assert streams is not None and streams.masks.cache_info().misses == 0


def test_large_masks_are_drawn_one_by_one() -> None:
    streams = Streams(lower("transformer_block", d_model=16))
    elements = 4 * 16 * 16 + 6 * 16 * 16  # of the heads' weights, and of three results, for an example of 16
    most = MOST_ELEMENTS // elements
    assert streams.masks((torch.Size((most, 16, 16)),)) is not None
    assert streams.masks((torch.Size((most + 1, 16, 16)),)) is None


def test_masks_are_drawn_where_the_inputs_are_whatever_the_default_device() -> None:
    ir, x = block("transformer_block")
    seed = CompiledSeed(ir)
    with torch.device("meta"):
        assert {seed(x).device.type for _ in range(3)} == {"cpu"}


def test_masks_of_another_mode_are_not_kept() -> None:
    ir, x = block("transformer_block")
    seed = CompiledSeed(ir)
    with torch.inference_mode():
        seed(x), seed(x), seed(x)
    torch.func.vmap(seed, randomness="same")(torch.stack([x, x]))
    assert seed._ahead._drawn == {}
    assert torch.autograd.grad(seed(x).sum(), list(seed.parameters()))
