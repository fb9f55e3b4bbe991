"""Figures by parts are those of the whole, on any graph; and what parts see of each other joins them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR
from esper.lang import lower, size_values
from esper.testing import blueprint_irs
from esper.tezzeret.costs import DEVICES, Quantities
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.figures import counted
from esper.tezzeret.costs.ledger import Ledger
from esper.tezzeret.costs.wiring import Pieces, wiring_of

SOME = settings(max_examples=max(settings().max_examples // 5, 20))


def by_parts(ir: BlueprintIR, sizes: Mapping[str, Any] | None = None) -> tuple[list[Quantities], Ledger]:
    table = Pieces()
    ledger = Ledger(table, size_values(ir, sizes))
    return ledger.figures(wiring_of(ir, table), DEVICES.values()), ledger


@given(blueprint_irs())
@SOME
def test_figures_by_parts_are_those_of_the_whole(ir: BlueprintIR) -> None:
    try:
        found, _ = by_parts(ir)
    except (Unforeseen, EsperError):
        return
    assert found == counted(ir, None, DEVICES.values())


@given(blueprint_irs())
@SOME
def test_the_hash_of_a_wiring_is_that_of_the_graph(ir: BlueprintIR) -> None:
    table = Pieces()
    assert wiring_of(ir, table).hash(table) == ir.hash


@pytest.mark.parametrize(
    ("body", "largest"),
    [
        ("output x |> linear(4) |> relu()", 1),
        ("let two = 2 output relu(x) + relu(x) * two", 3),
        ("output sum(x, axes=[1], keepdims=true) * x + x", 3),
        ("output -(-relu(x)) + 1", 3),
        ("output y = x output x", 0),
        ("output reshape(x, [N, 2, 2]) |> reshape([N, 4]) |> linear(3)", 3),
        ("a = tanh(x) output a * sigmoid(x) + (1 - a) * x", 2),
    ],
)
def test_parts_that_see_each_other_are_taken_together(tmp_path: Path, body: str, largest: int) -> None:
    path = tmp_path / "block.esp"
    path.write_text(f"blueprint block() {{ input x: f32[N, 4] {body} }}")
    ir = lower(path)
    found, ledger = by_parts(ir, {"N": 3})
    assert found == counted(ir, {"N": 3}, DEVICES.values())
    assert max((len(key[0]) for key in ledger.regions), default=0) == largest


def test_gradients_that_one_part_adds_up_count_as_if_each_were_added(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text(
        "blueprint block() { input x: f32[N, 4, 3, 1] output z = alibi_bias(x, x) output y = sigmoid(x) }"
    )
    ir = lower(path)
    assert by_parts(ir)[0] == counted(ir, None, DEVICES.values())


def test_what_candidates_have_in_common_is_measured_once() -> None:
    table = Pieces()
    narrow, wide = (lower("mlp_block", features=features) for features in (16, 32))
    ledger = Ledger(table, size_values(narrow))
    for ir in (narrow, wide, narrow, wide):
        ledger.figures(wiring_of(ir, table), DEVICES.values())
        seen = len(ledger.regions)
    assert seen == len(ledger.regions)
    once = Ledger(table, size_values(narrow))
    once.figures(wiring_of(narrow, table), DEVICES.values())
    assert len(once.regions) < seen < 2 * len(once.regions) + 1
