"""Graphs that nodes own: read and written, hashed, verified and rewritten like the graph around them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.errors import EsperError, Span
from esper.ir import BlueprintIR, Builder, DType, Node, TensorType, Value, symbol, verify
from esper.ir.errors import InvalidGraph, InvalidNode, MalformedIR
from esper.ir.graph import frozen_attrs
from esper.ir.rewrite import map_bodies
from esper.ir.verify import MAX_DEPTH, MAX_NODES
from esper.passes import run_passes
from esper.testing import blueprint_irs
from esper.testing.variants import renamed, reordered

STATE = TensorType(DType.F32, (symbol("N"), 4))
TEXT = """blueprint decaying_sum {
  %start = input() : f32[4]
  %x = input() : f32[T, 4]
  %decay = param() {init="ones", fan_in=1, gain=1.0} : f32[4]
  %scan = scan(%start, %x, %decay) {body=step {
    %h = input() : f32[4]
    %s = input() : f32[4]
    %decay = input() : f32[4]
    %mul = mul(%h, %decay) : f32[4]
    %add = add(%mul, %s) : f32[4]
    output h = %add
    output y = %add
  }, carries=1, sequences=1, reverse=false, along=0, histories=false} : f32[4], f32[T, 4]
  output last = %scan
  output all = %scan#1
}"""


def scans() -> st.SearchStrategy[BlueprintIR]:
    return blueprint_irs(operators=["scan"], max_nodes=3)


def body_of(ir: BlueprintIR) -> BlueprintIR:
    body = ir.of("scan")[0].attrs["body"]
    assert isinstance(body, BlueprintIR)
    return body


def with_body(ir: BlueprintIR, change: Callable[[BlueprintIR], BlueprintIR]) -> BlueprintIR:
    return map_bodies(ir, change)


def test_the_text_reads_as_it_is_printed() -> None:
    assert str(BlueprintIR.from_text(TEXT)) == TEXT


@given(scans())
def test_bodies_read_back_from_text_and_json(ir: BlueprintIR) -> None:
    assert BlueprintIR.from_text(str(ir)) == ir
    assert BlueprintIR.from_json(ir.to_json()) == ir
    assert BlueprintIR.from_networkx(ir.graph) == ir


def test_json_keeps_spans_in_bodies() -> None:
    span = Span("a.esp", 3, 1, 3, 9)
    ir = with_body(
        BlueprintIR.from_text(TEXT),
        lambda body: body.replace(nodes=[node.replace(span=span) for node in body.nodes]),
    )
    assert {node.span for node in body_of(BlueprintIR.from_json(ir.to_json())).nodes} == {span}


@given(scans(), st.integers(0, 10**6))
def test_names_and_order_inside_a_body_do_not_count(ir: BlueprintIR, seed: int) -> None:
    for other in (renamed(ir), reordered(ir, seed)):
        verify(other)
        assert other.hash == ir.hash
    inside = map_bodies(ir, lambda body: reordered(body, seed))
    assert inside.hash == ir.hash
    assert inside.structure == ir.structure


@given(scans(), st.data())
def test_any_change_that_a_body_sees_counts(ir: BlueprintIR, data: st.DataObject) -> None:
    scan = data.draw(st.sampled_from(_needed(ir)))
    body = scan.attrs["body"]
    assert isinstance(body, BlueprintIR)
    live = [node for node in body.nodes if node.op == "input"]
    node = data.draw(st.sampled_from(live))
    retyped = node.replace(types=(node.type.with_shape((*node.type.shape, 7)),))
    other = body.replace(nodes=[retyped if found is node else found for found in body.nodes])
    assert body.replace(outputs=[*body.outputs, ("more", body.inputs[0].result())]).hash != body.hash
    changed = scan.replace(attrs=frozen_attrs({**scan.attrs, "body": other}))
    assert ir.replace(nodes=[changed if found is scan else found for found in ir.nodes]).hash != ir.hash


def _needed(ir: BlueprintIR) -> list[Node]:
    return [node for node in run_passes(ir, "dce").of("scan") if node in ir.nodes] or [ir.of("scan")[-1]]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("mul(%h, %decay)", "mul(%decay, %h)"),
        ("mul(%h, %decay)", "sub(%h, %decay)"),
        ("%add = add(%mul, %s)", "%add = add(%mul, %h)"),
        ("output y = %add", "output y = %mul"),
        ("reverse=false", "reverse=true"),
    ],
)
def test_a_change_inside_a_body_changes_the_hash(before: str, after: str) -> None:
    assert BlueprintIR.from_text(TEXT.replace(before, after)).hash != BlueprintIR.from_text(TEXT).hash


def lengths(*names: str) -> BlueprintIR:
    """Adds the sizes called `names` to a carry, each by a scan of its own."""
    build = Builder("lengths")
    for name in ("N", "M", *names):
        if name not in build:
            build.input(name, TensorType(DType.F32, (symbol(name),)))
    start, x = build.constant(0.0), build.input("x", TensorType(DType.F32, (3,)))
    outputs = {}
    for index, name in enumerate(names):
        step = Builder("step")
        h, s = (step.input(key, TensorType(DType.F32)) for key in "hs")
        size = step.op("size", value=symbol(name), dtype=DType.F32)
        body = step.finish({"h": step.op("add", h, step.op("mul", s, size))})
        outputs[f"y{index}"] = build.op("scan", start, x, body=body, carries=1, sequences=1)
    return build.finish(outputs)


def test_the_sizes_in_a_body_are_those_of_the_graph_around_it() -> None:
    same, other = lengths("N", "N"), lengths("N", "M")
    assert same.hash != other.hash
    assert renamed(other).hash == other.hash
    assert len(run_passes(same, "cse,dce").of("scan")) == 1
    assert len(run_passes(other, "cse,dce").of("scan")) == 2


def test_a_transform_that_changes_nothing_gives_the_graph_itself() -> None:
    ir = BlueprintIR.from_text(TEXT)
    assert map_bodies(ir, lambda body: body) is ir


def test_passes_work_inside_bodies() -> None:
    text = TEXT.replace("add(%mul, %s) : f32[4]", "add(%mul, %s) : f32[4]\n    %dead = exp(%h) : f32[4]")
    text = text.replace("%h, %decay) :", "%h, %one) :").replace(
        "    %mul", "    %one = constant() {value=1.0} : f32[]\n    %mul"
    )
    body = body_of(run_passes(BlueprintIR.from_text(text), "canonicalize,fold,cse,dce"))
    assert [node.op for node in body.nodes] == ["input", "input", "input", "add"]


def document() -> dict[str, Any]:
    return dict(json.loads(BlueprintIR.from_text(TEXT).to_json()))


def edited(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = document()
    change(found["nodes"][3]["attrs"]["body"])
    return found


def attribute(value: object) -> dict[str, Any]:
    found = document()
    found["nodes"][3]["attrs"]["body"] = value
    return found


INPUT = {"name": "more", "op": "input", "operands": [], "attrs": {}, "types": ["f32[4]"]}
PARAM = {**INPUT, "op": "param", "attrs": {"init": "zeros", "fan_in": 1, "gain": 1.0}}
SEED = {**INPUT, "op": "seed", "types": ["i64[]"]}
BUFFER = {**INPUT, "op": "buffer", "attrs": {"init": "zeros"}}
DROPOUT = {
    "name": "dropout",
    "op": "dropout",
    "operands": [["h", 0], ["k", 0]],
    "attrs": {"p": 0.5, "offset": 0},
    "types": ["f32[4]"],
}
UPDATE = {"name": "more", "value": ["h", 0]}

HOSTILE: list[tuple[str, dict[str, Any], str]] = [
    (
        "a cycle",
        edited(lambda b: b["nodes"][3].update(operands=[["add", 0], ["h", 0]])),
        "`mul`: reads `add`",
    ),
    ("dangling", edited(lambda b: b["nodes"][3].update(operands=[["z", 0], ["h", 0]])), "`mul`: reads `z`"),
    ("the outer graph", edited(lambda b: b["nodes"][3].update(operands=[["x", 0], ["h", 0]])), "reads `x`"),
    ("mistyped", edited(lambda b: b["nodes"][4].update(types=["f32[5]"])), "`add`: declares f32[5]"),
    ("unknown operator", edited(lambda b: b["nodes"][4].update(op="eval")), "`eval` is not in the operator"),
    ("unknown attribute", edited(lambda b: b["nodes"][4].update(attrs={"a": 1})), "no attribute `a`"),
    ("too many inputs", edited(lambda b: b["nodes"].append(INPUT)), "`step` has 4 inputs, found 3 operands"),
    ("too few outputs", edited(lambda b: b.update(outputs=[])), "`step`: it has no output"),
    ("a param", edited(lambda b: b["nodes"].append(PARAM)), "node `more`: `param` may not stand in a body"),
    ("a seed", edited(lambda b: b["nodes"].append(SEED)), "`seed` may not stand in a body"),
    ("a buffer", edited(lambda b: b["nodes"].append(BUFFER)), "`buffer` may not stand in a body"),
    (
        "a draw",
        edited(lambda b: b["nodes"].extend([{**SEED, "name": "k", "op": "input"}, DROPOUT])),
        "`dropout` may not stand in a body: draw outside",
    ),
    ("an update", edited(lambda b: b.update(updates=[UPDATE])), "`more`"),
    ("a name", edited(lambda b: b.update(name="a b")), "is not a name"),
    ("a further key", edited(lambda b: b.update(reference="os:system")), "reference"),
    ("a schema version", edited(lambda b: b.update(schema_version=1)), "schema_version"),
    ("a number", attribute(1), "is not a graph"),
    ("a text", attribute("blueprint b { }"), "is not a graph"),
    ("a list", attribute(["step"]), "is not a graph"),
    ("nothing", attribute(None), "attrs.body"),
    ("an empty object", attribute({}), "attrs.body"),
    ("a list of graphs", attribute([document()]), "attrs.body"),
]


@pytest.mark.parametrize(("raw", "expected"), [case[1:] for case in HOSTILE], ids=[c[0] for c in HOSTILE])
def test_a_hostile_or_mistaken_body_is_refused(raw: dict[str, Any], expected: str) -> None:
    with pytest.raises(EsperError) as raised:
        BlueprintIR.from_json(json.dumps(raw))
    assert expected in str(raised.value)
    assert raised.value.code.startswith("E05")
    assert str(raised.value).isascii() and str(raised.value).isprintable()


def test_an_error_in_a_body_names_the_node_that_owns_it_and_the_node_in_it() -> None:
    with pytest.raises(InvalidNode, match="node `scan`: in its `body`, node `add`: declares"):
        BlueprintIR.from_text(TEXT.replace("add(%mul, %s) : f32[4]", "add(%mul, %s) : f32[5]"))


def test_a_body_where_another_attribute_belongs_is_refused() -> None:
    found = document()
    found["nodes"][3]["attrs"]["carries"] = found["nodes"][3]["attrs"]["body"]
    with pytest.raises(InvalidNode, match="attribute `carries` is not a int"):
        BlueprintIR.from_json(json.dumps(found))


def nested(depth: int) -> BlueprintIR:
    """A loop in a loop in a loop, `depth` deep."""
    body = None
    type = TensorType(DType.F32)
    for level in range(depth + 1):
        build = Builder(f"level{level}")
        x = build.input("x", type)
        y = x if body is None else build.op("scan", x, body=body, carries=0, sequences=1)
        body = BlueprintIR(build.name, build.nodes, (("y", y),))
        type = TensorType(DType.F32, (2, *type.shape))
    assert body is not None
    return body


def test_bodies_nest_to_a_limit() -> None:
    deepest = nested(MAX_DEPTH)
    assert deepest.depth == MAX_DEPTH
    assert BlueprintIR.from_text(str(deepest)) == BlueprintIR.from_json(deepest.to_json()) == deepest
    deeper = nested(MAX_DEPTH + 1)
    with pytest.raises(InvalidGraph, match="bodies nest 9 deep, more than 8"):
        verify(deeper)
    with pytest.raises(MalformedIR, match="bodies nest deeper than 8"):
        BlueprintIR.from_text(str(deeper))
    with pytest.raises(EsperError, match="deep"):
        BlueprintIR.from_json(deeper.to_json())


def test_bodies_without_end_are_refused_at_once() -> None:
    deep = 20_000
    text = "blueprint b {\n" + "%x = scan(%x) {body=b {\n" * deep + "}} : f32[]\n" * deep + "}"
    raw: str = '{"schema_version": 1, "nodes": [{"attrs": {"body": ' * deep + "}}]}" * deep
    start = time.process_time()
    for read, source in ((BlueprintIR.from_text, text), (BlueprintIR.from_json, raw)):
        with pytest.raises(MalformedIR):
            read(source)
    assert time.process_time() - start < 20


def test_the_nodes_of_bodies_count_toward_the_limit() -> None:
    ir = BlueprintIR.from_text(TEXT)
    body = body_of(ir)
    half = [
        Node(f"n{index}", "neg", (Value("h"),), frozen_attrs({}), (body.inputs[0].type,))
        for index in range(MAX_NODES // 2)
    ]
    large = body.replace(nodes=[*body.nodes, *half])
    scan = ir.of("scan")[0]
    twice = [
        scan.replace(name=name, attrs=frozen_attrs({**scan.attrs, "body": large}))
        for name in ("scan", "more")
    ]
    both = ir.replace(nodes=[*(node for node in ir.nodes if node is not scan), *twice])
    verify(ir.replace(nodes=[node for node in both.nodes if node.name != "more"]))
    with pytest.raises(InvalidGraph, match=f"nodes are more than {MAX_NODES}"):
        verify(both)
