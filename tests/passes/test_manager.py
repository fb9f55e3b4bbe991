"""Pipelines: names, records, and the verifier between passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from esper.ir import BlueprintIR, Value
from esper.passes import PASSES, Law, PassRecord, run_passes
from esper.passes.errors import PassBrokeGraph, UnknownPass


def test_a_pipeline_is_names_with_commas(small: BlueprintIR) -> None:
    assert run_passes(small, "expand, dce") == PASSES["dce"].run(PASSES["expand"].run(small))


def test_an_empty_pipeline_changes_nothing(small: BlueprintIR) -> None:
    assert run_passes(small, "") is small


def test_an_unknown_word_is_refused_with_the_list_of_passes(small: BlueprintIR) -> None:
    with pytest.raises(UnknownPass, match="no pass `inline`") as raised:
        run_passes(small, "expand,inline")
    assert raised.value.help_text == f"the passes are {', '.join(PASSES)}"


def test_each_pass_is_recorded_with_its_graph(small: BlueprintIR) -> None:
    records: list[tuple[PassRecord, BlueprintIR]] = []
    run_passes(small, "expand,dce", lambda record, ir: records.append((record, ir)))
    assert [record.name for record, _ in records] == ["expand", "dce"]
    assert [record.nodes_before for record, _ in records] == [len(small.nodes), len(records[0][1].nodes)]
    assert all(record.nodes_after == len(ir.nodes) and record.ms >= 0 for record, ir in records)


@dataclass(frozen=True)
class DropsInputs:
    name: ClassVar[str] = "drops_inputs"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        return ir.replace(nodes=[node for node in ir.nodes if node.op != "input"])


def test_a_pass_that_breaks_a_graph_is_named(small: BlueprintIR) -> None:
    with pytest.raises(
        PassBrokeGraph, match="the pass `drops_inputs` made an invalid graph: node `linear`: reads `x`"
    ):
        run_passes(small, [DropsInputs()])


def test_a_graph_that_is_invalid_before_is_not_blamed_on_a_pass(small: BlueprintIR) -> None:
    broken = small.replace(outputs=[("y", Value("nowhere"))])
    with pytest.raises(Exception, match="result `y` is %nowhere"):
        run_passes(broken, "dce")


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_has_its_name_and_a_law(name: str) -> None:
    assert PASSES[name].name == name
    assert isinstance(PASSES[name].law, Law)
