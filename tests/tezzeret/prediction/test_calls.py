"""What a graph calls on the torch tier, and the uses that a device is measured on."""

from __future__ import annotations

from collections import Counter

import pytest

from esper.lang import library, lower, size_values
from esper.tezzeret.prediction.calls import ACCUMULATE, Call, calls_of
from esper.tezzeret.prediction.errors import UnmeasuredType
from esper.tezzeret.prediction.sweep import DRAWS, Use, uses


def called(expression: str, *inputs: tuple[int, ...]) -> list[Call]:
    return list(calls_of(Use("", inputs, expression).lower(), {}).calls)


def test_each_operator_is_called_once_and_gradients_of_a_value_read_twice_are_added() -> None:
    ir = lower("mlp_block", features=64)
    found = Counter(call.op for call in calls_of(ir, size_values(ir)).calls)
    assert found == {"layer_norm": 1, "linear": 2, "gelu": 1, "add": 1, ACCUMULATE: 1}


def test_what_reads_or_feeds_a_transposed_view_is_told_apart() -> None:
    (plain,) = called("linear(x, 8)", (2, 4, 8))
    _, reads = called("linear(transpose(x, 1, 2), 8)", (2, 8, 4))
    feeds, _ = called("transpose(linear(x, 8), 1, 2)", (2, 4, 8))
    assert len({plain.figures, reads.figures, feeds.figures}) == 3
    assert plain.flops == reads.flops == feeds.flops > 0


def test_a_view_does_no_work() -> None:
    (view,) = called("transpose(x, 1, 2)", (2, 4, 8))
    assert (view.flops, view.bytes) == (0, 0)


def test_figures_are_as_many_for_every_use_of_an_operator() -> None:
    widths: dict[str, set[int]] = {}
    for entry in library():
        ir = lower(entry.name)
        for call in calls_of(ir, size_values(ir)).calls:
            widths.setdefault(call.op, set()).add(len(call.figures))
    for use in uses(0, 0.1):
        for call in calls_of(use.lower(), {}).calls:
            widths.setdefault(call.op, set()).add(len(call.figures))
    assert {op: found for op, found in widths.items() if len(found) > 1} == {}


def test_the_sweep_has_every_operator_that_a_library_blueprint_calls() -> None:
    called = set()
    for entry in library():
        ir = lower(entry.name)
        called |= {call.op for call in calls_of(ir, size_values(ir)).calls}
    assert called <= set(DRAWS)


def test_each_use_calls_the_operator_that_it_was_drawn_for_and_views_beside_it() -> None:
    for use in uses(3, 0.1):
        ops = [call.op for call in calls_of(use.lower(), {}).calls]
        assert use.op in ops, use


def test_a_sweep_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    assert list(uses(1, 0.1)) == list(uses(1, 0.1)) != list(uses(2, 0.1))


def test_a_graph_of_a_narrower_type_is_refused_by_name() -> None:
    ir = lower("mlp_block", features=64, precision="bf16")
    with pytest.raises(UnmeasuredType, match="bf16") as caught:
        calls_of(ir, size_values(ir))
    assert caught.value.code == "E1080"
