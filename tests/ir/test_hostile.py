"""Files that try to inject code, exhaust memory, or mean two things: each is an error, and quickly."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

import esper.ops  # noqa: F401  (fills the operator table)
from esper.errors import EsperError
from esper.ir import OPERATORS, BlueprintIR, parse_size, parse_type
from esper.ir.build import Builder
from esper.ir.errors import (
    InvalidNode,
    MalformedIR,
    SizeOverflow,
    TypeRuleViolated,
    UnknownIROperator,
    UnsupportedSchema,
)
from esper.ir.operator import Kind
from esper.ir.types import DType, TensorType

VALIDATED = {
    ("einsum", "equation"),
    ("ensure_shape", "because"),
}  # texts without choices whose form a type rule prescribes
CODE = "__import__('os').system('true')"


def document(**changes: Any) -> dict[str, Any]:
    node = {"name": "x", "op": "input", "operands": [], "attrs": {}, "types": ["f32[N]"]}
    exp = {"name": "e", "op": "exp", "operands": [["x", 0]], "attrs": {}, "types": ["f32[N]"]}
    return {
        "schema_version": 1,
        "name": "b",
        "nodes": [node, exp],
        "outputs": [{"name": "y", "value": ["e", 0]}],
        "updates": [],
    } | changes


def with_node(position: int = 1, **changes: Any) -> dict[str, Any]:
    found = document()
    found["nodes"][position] |= changes
    return found


def read(raw: dict[str, Any]) -> BlueprintIR:
    return BlueprintIR.from_json(json.dumps(raw))


def test_the_document_itself_is_read() -> None:
    assert [node.op for node in read(document()).nodes] == ["input", "exp"]


@pytest.mark.parametrize(
    "raw",
    [
        document(name=CODE),
        document(name=""),
        document(name="b\n"),
        document(name="b;import os"),
        document(name="ｂ"),
        with_node(name=CODE),
        with_node(name="a b"),
        with_node(name=".e"),
        with_node(name="e."),
        with_node(name="../e"),
        with_node(name="\ud800"),
        with_node(name="\x1b[31m"),
        with_node(op=CODE),
        with_node(op="os.system"),
        with_node(types=[f"f32[{CODE}]"]),
        with_node(types=["f32[N]", "f32[N]"]),
        with_node(types=[]),
        with_node(types=["f32[M]"]),
        with_node(types=["f64[N]"]),
        with_node(types=["f32[(lambda: 1)()]"]),
        with_node(types=["complex64[N]"]),
        with_node(types=["f32[N**9999999]"]),
        with_node(types=["f32[9e999]"]),
        with_node(types=["f32[-1]"]),
        with_node(types=["f32[" + "1," * 40 + "1]"]),
        with_node(attrs={"eps": 1.0}),
        with_node(attrs={CODE: 1}),
        with_node(operands=[]),
        with_node(operands=[["x", 0], ["x", 0]]),
        with_node(operands=[["x", 1]]),
        with_node(operands=[["x", -1]]),
        with_node(operands=[["e", 0]]),
        with_node(operands=[["later", 0]]),
        with_node(operands=[[CODE, 0]]),
        with_node(operands=[None]),
        with_node(operands=["x"]),
        with_node(operands=[["x", "0"]]),
        with_node(operands=[["x", 0.0]]),
        with_node(name="x"),
        with_node(reference="os:system"),
        document(outputs=[]),
        document(outputs=[{"name": "y", "value": ["z", 0]}]),
        document(outputs=[{"name": CODE, "value": ["e", 0]}]),
        document(outputs=[{"name": "y", "value": ["e", 0]}, {"name": "y", "value": ["x", 0]}]),
        document(updates=[{"name": "x", "value": ["e", 0]}]),
        document(nodes=None),
        document(extra=1),
        document(schema_version="1"),
        document(schema_version=2),
        document(schema_version=None),
        document(schema_version=True),
    ],
    ids=lambda raw: None,
)
def test_a_hostile_or_mistaken_document_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(EsperError) as raised:
        read(raw)
    assert raised.value.code.startswith(("E05", "E03"))
    assert str(raised.value).isascii() and str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "value",
    ["nan", "1", True, None, [1.0], {"$": 1}, CODE, {"__class__": "x"}, 10**400],
    ids=lambda value: type(value).__name__,
)
def test_a_constant_takes_a_number_only(value: object) -> None:
    node = {"name": "e", "op": "constant", "operands": [], "attrs": {"value": value}, "types": ["f32[]"]}
    with pytest.raises(EsperError):
        read(document(nodes=[node]))


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_json_has_not_is_refused(literal: str) -> None:
    with pytest.raises(MalformedIR, match="is not JSON"):
        BlueprintIR.from_json(
            json.dumps(with_node(attrs={"value": 1})).replace('{"value": 1}', f'{{"value": {literal}}}')
        )


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1", '"x"', "[" * 100_000, '{"a":' * 100_000])
def test_what_is_no_document_is_refused(text: str) -> None:
    with pytest.raises(MalformedIR):
        BlueprintIR.from_json(text)


def test_a_choice_of_strings_is_closed() -> None:
    with pytest.raises(InvalidNode, match="`init`"):
        BlueprintIR.from_text(
            f'blueprint b {{\n%w = param() {{init="{CODE}", fan_in=1, gain=1.0}} : f32[4]\noutput y = %w\n}}'
        )


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(UnknownIROperator, match="node `e`: `eval` is not in the operator table"):
        read(with_node(op="eval"))


def test_another_schema_version_is_named() -> None:
    with pytest.raises(UnsupportedSchema, match="version 2 is not supported"):
        read(document(schema_version=2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blueprint",
        "blueprint b {",
        "blueprint b { }",
        f"blueprint {CODE} {{ }}",
        "blueprint b {\n%x = input() : f32[N]\noutput y = %x\n} trailing",
        "blueprint b {\n%x = input() : f32[N]\n%x = input() : f32[N]\noutput y = %x\n}",
        "blueprint b {\n%y = exp(%x) : f32[N]\n%x = input() : f32[N]\noutput y = %y\n}",
        'blueprint b {\n%x = input() {a="\\q"} : f32[N]\noutput y = %x\n}',
        "blueprint b {\n%c = constant() {value=nan} : f32[]\noutput y = %c\n}",
        "blueprint b {\n%c = constant() {value=1.0, value=2.0} : f32[]\noutput y = %c\n}",
        "blueprint b {\n%c = constant() {value=true} : f32[]\noutput y = %c\n}",
        "blueprint b {\n%c = constant() {value=[1.0]} : f32[]\noutput y = %c\n}",
        "blueprint b {\n%x = input() : f32[N//0]\noutput y = %x\n}",
        "blueprint b {\n%x = input() : f32[N]\noutput y = %x#1\n}",
        "blueprint b {\n%x = input() : f32[N]\noutput y = %x#99999999999999999999\n}",
        "\x00\x01\x02",
        "blueprint b {\n%x = input() : f32[\u2028N]\noutput y = %x\n}",
    ],
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(EsperError) as raised:
        BlueprintIR.from_text(text)
    assert str(raised.value).isascii() and str(raised.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        "N**2",
        "N^2",
        "f(N)",
        "N[0]",
        "N if N else N",
        "lambda: N",
        "10**9",
        "0x10",
        "1_000",
        "1.5",
        "N; M",
        "(N",
        "N)",
        "",
        "9" * 20,
        "--",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(EsperError):
        parse_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "*".join(["9" * 18] * 50_000),
        "*".join(["N"] * 50_000),
        "+".join(f"N{index}" for index in range(50_000)),
        "(" * 5_000 + "N" + "//3 + 1)" * 5_000,
        "N*" * 20 + "N",
        "9223372036854775808",
    ],
    ids=["coefficient", "degree", "terms", "nesting", "power", "integer"],
)
def test_a_size_that_would_explode_is_refused_at_once(text: str) -> None:
    start = time.process_time()
    with pytest.raises(SizeOverflow):
        parse_size(text)
    assert time.process_time() - start < 5


def test_parentheses_may_nest_without_end() -> None:
    assert str(parse_size("(" * 50_000 + "N" + ")" * 50_000)) == "N"


def test_a_type_beyond_the_greatest_rank_is_refused() -> None:
    text = f"blueprint b {{\n%x = input() : f32[{', '.join('1' * 13)}]\noutput y = %x\n}}"
    with pytest.raises(InvalidNode, match="rank 13 is more than 12"):
        BlueprintIR.from_text(text)
    assert parse_type(f"f32[{', '.join('1' * 13)}]").rank == 13


def test_no_operator_takes_a_text_from_a_file_but_one_of_its_choices() -> None:
    texts = [(entry.name, a) for entry in OPERATORS.values() for a in entry.attributes if a.stored]
    open_ended = [(name, a.name) for name, a in texts if a.kind is Kind.STRING and not a.choices]
    assert set(open_ended) <= VALIDATED


@pytest.mark.parametrize("because", ["two\nlines", "\x1b[2J", "left\u202eright", "x" * 1001])
def test_what_an_error_begins_with_is_a_short_printable_line(because: str) -> None:
    build = Builder("b")
    x = build.input("x", TensorType(DType.F32, (2,)))
    with pytest.raises(TypeRuleViolated, match="printable"):
        build.op("ensure_shape", x, shape=(2,), because=because)


def test_references_are_functions_of_torch_and_of_the_operators_own_modules() -> None:
    for entry in OPERATORS.values():
        for path in filter(None, (entry.reference, entry.first_result_reference)):
            assert re.fullmatch(r"(torch(\.\w+)*|esper\.ops\.reference\.\w+):\w+", path), (entry.name, path)
