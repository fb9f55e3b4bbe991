"""Documents that are nearly valid: bytes changed, values replaced, attributes and types out of range.

Whatever is read ends in a graph or in an error of the ranges E03xx and E05xx, and soon; never in an exception
of Python's own, which would name neither node nor rule.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esper.errors import EsperError
from esper.ir import OPERATORS, BlueprintIR
from esper.testing import blueprint_irs
from esper.testing.strategies import sampled_operators

SECONDS = 2.0  # of processor time for one document of a few nodes
PIECES = (*'"{}[],:%#()-0Ne.\né', "", "//", "9" * 30, "nan", "NaN", "null", "\\u0000", "\\ud800")
HOSTILE_SIZES = ("0", "1", "3", "7", "N", "2*N + 1", "N//2", "N*N", "4611686018427387904")
HOSTILE: dict[str, tuple[Any, ...]] = {
    "bool": (True, False, 0, "x"),
    "int": (0, -1, 1, 2, 7, 2**31, 2**62, 2**63, -(2**63), 1.5, "N", True, [1]),
    "float": (0, 0.0, -1.0, 1e308, 5e-324, "inf", "-inf", "nan", 2**62, [0.5]),
    "string": ("", "x", "../x", "__import__('os')", "\x00", "a" * 5000, 1),
    "dtype": ("f32", "i64", "bool", "f8", "", 1),
    "dim": ("0", 0, -1, "N", "-N", "M*M", "N//0", "N//7 - 9", 2**62, "9**9**9", True),
    "dims": (
        [],
        [0],
        [-1],
        [0, 0],
        [1, 0],
        [9],
        [-9],
        [2**62] * 3,
        ["N"],
        ["N", "-1"],
        list(range(13)),
        "N",
        [[1]],
    ),
    "graph": ("", {}, [], 1),
}


def read(text: str) -> None:
    """Reads a document of either form: it must end in a graph or a typed error, and soon."""
    start = time.process_time()
    try:
        ir = BlueprintIR.from_json(text) if text.lstrip().startswith("{") else BlueprintIR.from_text(text)
        assert ir.hash
    except EsperError as error:
        assert error.code.startswith(("E03", "E05")), error
        assert str(error).isascii() and str(error).isprintable() and len(str(error)) < 2000
    assert time.process_time() - start < SECONDS


@st.composite
def edits(draw: st.DrawFn) -> list[tuple[int, int, str]]:
    """Places, in thousandths of a text, how much is cut there, and what is put in its stead."""
    pieces = st.sampled_from(PIECES)
    return draw(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 40), pieces), min_size=1, max_size=4))


def edited(text: str, changes: list[tuple[int, int, str]]) -> str:
    for place, cut, piece in changes:
        start = len(text) * place // 1000
        text = text[:start] + piece + text[start + cut :]
    return text


@given(blueprint_irs(max_nodes=4), edits())
def test_a_text_with_changed_characters_is_read_or_refused(ir: BlueprintIR, changes: Any) -> None:
    read(edited(str(ir), changes))


@given(blueprint_irs(max_nodes=4), edits())
def test_a_json_document_with_changed_characters_is_read_or_refused(ir: BlueprintIR, changes: Any) -> None:
    read(edited(ir.to_json(), changes))


@given(blueprint_irs(max_nodes=4), st.integers(0, 1000))
def test_a_truncated_document_is_read_or_refused(ir: BlueprintIR, thousandths: int) -> None:
    for text in (str(ir), ir.to_json()):
        read(text[: len(text) * thousandths // 1000])


@given(st.binary(max_size=200))
def test_bytes_are_no_graph(data: bytes) -> None:
    with pytest.raises(EsperError):
        BlueprintIR.from_json(data.decode("latin-1"))
    with pytest.raises(EsperError):
        BlueprintIR.from_text(data.decode("latin-1"))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(blueprint_irs(max_nodes=4), st.data())
def test_a_document_with_a_value_replaced_is_read_or_refused(ir: BlueprintIR, data: st.DataObject) -> None:
    document = json.loads(ir.to_json())
    places = list(_places(document))
    parent, key = data.draw(st.sampled_from(places))
    others = st.sampled_from([parent_[key_] for parent_, key_ in places])
    parent[key] = data.draw(st.one_of(JSON, others.map(lambda value: json.loads(json.dumps(value)))))
    read(json.dumps(document))


@given(blueprint_irs(max_nodes=4), st.data())
def test_a_document_with_a_part_removed_or_repeated_is_read_or_refused(
    ir: BlueprintIR, data: st.DataObject
) -> None:
    document = json.loads(ir.to_json())
    parent, key = data.draw(st.sampled_from(list(_places(document))))
    if data.draw(st.booleans()) and isinstance(parent, list):
        parent.insert(0, parent[key])
    else:
        del parent[key]
    read(json.dumps(document))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a document, as what holds it and under which key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


@pytest.mark.parametrize("name", sampled_operators())
@settings(max_examples=25)
@given(data=st.data())
def test_attributes_and_types_out_of_range_are_refused_by_a_rule(name: str, data: st.DataObject) -> None:
    """One attribute, and now and then a leaf's type, replaced by what a rule may not have thought of."""
    ir = data.draw(blueprint_irs(operators=[name], max_nodes=1))
    document = json.loads(ir.to_json())
    node = next(node for node in document["nodes"] if node["op"] == name)
    kinds = {a.name: a.kind.value for a in OPERATORS[name].attributes if a.stored}
    if data.draw(st.booleans()) and kinds:
        attribute = data.draw(st.sampled_from(sorted(kinds)))
        node["attrs"][attribute] = data.draw(st.sampled_from(HOSTILE[kinds[attribute]]))
    leaves = [other for other in document["nodes"] if other["op"] in ("input", "param", "buffer")]
    if data.draw(st.booleans()) and leaves:
        leaf = data.draw(st.sampled_from(leaves))
        sizes = data.draw(st.lists(st.sampled_from(HOSTILE_SIZES), max_size=5))
        dtype = data.draw(st.sampled_from(["f32", "f64", "bf16", "i64", "bool"]))
        leaf["types"] = [f"{dtype}[{', '.join(sizes)}]"]
    if data.draw(st.integers(0, 3)) == 3:
        node["operands"] = data.draw(st.permutations(node["operands"]))
    if data.draw(st.integers(0, 7)) == 7:
        node["operands"] = node["operands"][data.draw(st.integers(0, 2)) :]
    read(json.dumps(document))
