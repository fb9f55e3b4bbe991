"""A source written from a graph lowers to that graph; what no source says is refused by its node."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from esper.ir.graph import BlueprintIR, Value, frozen_attrs
from esper.ir.operator import OPERATORS, Role
from esper.lang import Source, check, format_source, library, lower, lower_loaded
from esper.lang.from_graph import NotInLanguage, Written, in_source_form, write_source
from esper.lang.library import Loaded
from esper.lang.statements import Bound
from esper.lang.units import source_unit
from esper.testing import blueprint_irs, esp_programs

LIBRARY = [entry.name for entry in library()]
SAYABLE = sorted(
    name
    for name, entry in OPERATORS.items()
    if entry.in_language and all(one.role in (Role.TENSOR, Role.SEED) for one in entry.inputs)
)
"""Operators without weights, which are a call with any operands."""


def graph_of(text: str) -> BlueprintIR:
    unit, report = source_unit(Source("<test>", text))
    assert not report.has_errors, report.diagnostics
    return lower_loaded(Loaded(unit.program.blueprints[0], unit), {}, {})[0]


def state(ir: BlueprintIR) -> list[tuple[str, str, dict[str, object]]]:
    return [(node.name, str(node.type), dict(node.attrs)) for node in (*ir.params, *ir.buffers)]


def signature(ir: BlueprintIR) -> list[str]:
    return [*(node.name for node in ir.inputs), *(name for name, _ in ir.outputs)]


def require_equal(ir: BlueprintIR, written: Written) -> None:
    again = graph_of(written.text)
    assert again.hash == written.ir.hash == ir.hash
    assert (state(again), signature(again)) == (state(ir), signature(ir))
    assert written.renamed == {}


@pytest.mark.parametrize("name", LIBRARY)
def test_what_is_written_lowers_to_the_graph_with_the_same_weights(name: str, tmp_path: Path) -> None:
    ir = lower(name)
    written = write_source(ir)
    require_equal(ir, written)
    (tmp_path / "block.esp").write_text(written.text)
    assert check(tmp_path / "block.esp") == []
    assert format_source(Source("<test>", written.text)) == written.text
    assert write_source(written.ir).text == written.text


def test_it_reads_as_if_written_by_hand(golden: Callable[[str, str], None]) -> None:
    texts = [
        write_source(lower(name), [f"`{name}` at its defaults."]).text
        for name in ("mobilenet_block", "global_context", "transformer_llama", "unet_up", "attention_layer")
    ]
    golden("written.esp", "\n".join(texts))


@given(esp_programs(max_statements=3))
def test_programs_of_any_kind_come_back(program: str) -> None:
    ir = graph_of(program)
    written = write_source(ir)
    assert (written.ir.hash, state(written.ir), signature(written.ir)) == (ir.hash, state(ir), signature(ir))


@given(blueprint_irs(operators=SAYABLE, max_nodes=6))
def test_a_graph_of_calls_without_weights_is_written_in_source_form(ir: BlueprintIR) -> None:
    try:
        written = write_source(ir)
    except NotInLanguage as error:  # an axis such as 2*M before M is one
        assert ir.node(str(error.details["node"])) in ir.inputs
    else:
        assert in_source_form(written.ir).hash == in_source_form(ir).hash


@given(blueprint_irs(max_nodes=4))
def test_any_other_graph_is_written_whole_or_refused_by_a_node(ir: BlueprintIR) -> None:
    try:
        written = write_source(ir)
    except NotInLanguage as error:
        assert str(error.details["node"]) in ir
    else:
        assert in_source_form(written.ir).hash == in_source_form(ir).hash


def test_names_of_nodes_stand_where_values_are_read_again_and_weights_that_lose_theirs_are_told() -> None:
    ir = lower("transformer_llama")
    kept = {"linear_4.weight": "gate.weight"}
    written = write_source(graph_with(ir, {**kept, "add": "attended"}))
    assert written.ir.hash == ir.hash
    assert written.renamed == {twin: name for name, twin in kept.items()}
    assert "attended = x + h" in written.text


def test_random_nodes_are_counted_anew_in_their_order() -> None:
    ir = lower("transformer_block")
    shifted = ir.replace(
        nodes=[
            node.replace(attrs=frozen_attrs({**node.attrs, "offset": int(str(node.attrs["offset"])) + 5}))
            if OPERATORS[node.op].draws(node.attrs)
            else node
            for node in ir.nodes
        ]
    )
    assert shifted.hash != ir.hash
    assert write_source(shifted).ir.hash == in_source_form(shifted).hash == ir.hash


def test_a_weight_that_two_calls_share_is_refused() -> None:
    ir = lower("transformer_llama")
    shared = ir.replace(
        nodes=[
            node.replace(operands=(node.operands[0], Value("linear.weight"), *node.operands[2:]))
            if node.name == "linear_2"
            else node
            for node in lower("transformer_llama", n_kv_heads=4).nodes
        ]
    )
    with pytest.raises(NotInLanguage, match=r"because of `linear`: `linear\.weight` is read several times"):
        write_source(shared)


def test_documentation_and_constraints_stand_in_the_source() -> None:
    bounds = [Bound("params", "<=", 20000.0, None), Bound("latency_ms", "<", 0.5, "sm_90")]
    text = write_source(lower("norm"), ["A norm.", "", "More."], bounds).text
    assert text.startswith("## A norm.\n##\n## More.\nblueprint norm() {\n")
    assert re.findall(r"constraint .*", text) == [
        "constraint params <= 20000",
        'constraint latency_ms < 0.5 on "sm_90"',
    ]


def graph_with(ir: BlueprintIR, names: dict[str, str]) -> BlueprintIR:
    """`ir` with other names of nodes."""

    def value(one: Value) -> Value:
        return Value(names.get(one.node, one.node), one.index)

    nodes = [
        node.replace(
            name=names.get(node.name, node.name),
            operands=tuple(None if one is None else value(one) for one in node.operands),
        )
        for node in ir.nodes
    ]
    return ir.replace(
        nodes=nodes,
        outputs=[(name, value(one)) for name, one in ir.outputs],
        updates=[(names.get(name, name), value(one)) for name, one in ir.updates],
    )
