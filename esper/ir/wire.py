"""The JSON form: what goes over the wire and into artifacts. Reading it rejects anything not in the table.

Sizes and types stand as text in our own syntax; attributes take the kind that the operator's entry declares.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError

from esper.errors import Span
from esper.ir.dims import Dim
from esper.ir.errors import InvalidNode, MalformedIR, UnknownIROperator, UnsupportedSchema
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, Attribute, AttrValue, Kind
from esper.ir.text import MAX_TEXT, coerce, parse_size, parse_type
from esper.ir.types import DType
from esper.ir.verify import verify

SCHEMA_VERSION = 1


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _form(value: Any) -> str:
    return "body" if isinstance(value, dict | _WireGraph) else "literal"


_Literal = Annotated[bool | int | float | str | list[int | str], Tag("literal")]
_Body = Annotated["_WireGraph", Tag("body")]


class _WireNode(_Strict):
    name: str
    op: str
    operands: list[tuple[str, int] | None]
    attrs: dict[str, Annotated[_Literal | _Body, Discriminator(_form)]]
    types: list[str]
    span: tuple[str, int, int, int, int] | None = None


class _WireResult(_Strict):
    name: str
    value: tuple[str, int]


class _WireGraph(_Strict):
    name: str
    nodes: list[_WireNode]
    outputs: list[_WireResult]
    updates: list[_WireResult]


class _WireIR(_WireGraph):
    schema_version: int


def to_json(ir: BlueprintIR) -> str:
    """One line of JSON with sorted keys; `from_json` reads it back to an equal graph."""
    document = {"schema_version": SCHEMA_VERSION, **_graph_to_wire(ir)}
    return json.dumps(document, sort_keys=True, allow_nan=False)


def from_json(text: str) -> BlueprintIR:
    """Parses and verifies. Raises `MalformedIR`, `UnsupportedSchema`, or what the verifier raises."""
    if len(text) > MAX_TEXT:
        raise MalformedIR(where="IR JSON", reason=f"{len(text)} characters are more than {MAX_TEXT}")
    try:
        raw = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unrepeated)
    except (ValueError, RecursionError) as error:
        raise MalformedIR(where="IR JSON", reason=str(error)) from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and version != SCHEMA_VERSION:
        raise UnsupportedSchema(found=version, expected=SCHEMA_VERSION)
    try:
        wire = _WireIR.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "document"
        raise MalformedIR(where=f"IR JSON at {where}", reason=first["msg"]) from None
    ir = _graph_from_wire(wire)
    verify(ir)
    return ir


def _graph_to_wire(ir: BlueprintIR) -> dict[str, Any]:
    return {
        "name": ir.name,
        "nodes": [_node_to_wire(node) for node in ir.nodes],
        "outputs": [{"name": name, "value": [value.node, value.index]} for name, value in ir.outputs],
        "updates": [{"name": name, "value": [value.node, value.index]} for name, value in ir.updates],
    }


def _graph_from_wire(wire: _WireGraph) -> BlueprintIR:
    return BlueprintIR(
        wire.name,
        tuple(_node_from_wire(node) for node in wire.nodes),
        tuple((result.name, Value(*result.value)) for result in wire.outputs),
        tuple((result.name, Value(*result.value)) for result in wire.updates),
    )


def _node_to_wire(node: Node) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "name": node.name,
        "op": node.op,
        "operands": [None if operand is None else [operand.node, operand.index] for operand in node.operands],
        "attrs": {name: _attr_to_wire(value) for name, value in node.attrs.items()},
        "types": [str(type) for type in node.types],
    }
    if node.span is not None:
        span = node.span
        wire["span"] = [span.file, span.line, span.column, span.end_line, span.end_column]
    return wire


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises `ValueError` for a key that stands twice: readers differ on which counts."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key `{next(key for key in keys if keys.count(key) > 1)}` is given twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"`{name}` is not JSON")


def _attr_to_wire(value: AttrValue) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    if isinstance(value, tuple):
        return [_attr_to_wire(item) for item in value]
    if isinstance(value, BlueprintIR):
        return _graph_to_wire(value)
    return str(value) if isinstance(value, Dim | DType) else value


def _node_from_wire(wire: _WireNode) -> Node:
    entry = OPERATORS.get(wire.op)
    if entry is None:
        raise UnknownIROperator(node=wire.name, operator=wire.op)
    return Node(
        wire.name,
        wire.op,
        tuple(None if operand is None else Value(*operand) for operand in wire.operands),
        frozen_attrs(
            {
                attribute.name: _attr_from_wire(attribute, wire.attrs[attribute.name], wire.name)
                for attribute in entry.attributes
                if attribute.name in wire.attrs
            }
            | {name: str(value) for name, value in wire.attrs.items() if entry.attribute(name) is None}
        ),
        tuple(parse_type(type) for type in wire.types),
        None if wire.span is None else Span(*wire.span),
    )


def _attr_from_wire(attribute: Attribute, value: Any, node: str) -> AttrValue:
    try:
        match attribute.kind:
            case Kind.DIM if isinstance(value, str):
                return parse_size(value)
            case Kind.DIMS if isinstance(value, list):
                return tuple(parse_size(item) if isinstance(item, str) else item for item in value)
            case Kind.DTYPE:
                return DType(value)
            case Kind.FLOAT if value in ("inf", "-inf"):
                return float(value)
            case Kind.GRAPH if isinstance(value, _WireGraph):
                return _graph_from_wire(value)
    except ValueError as error:
        raise InvalidNode(node=node, reason=f"attribute `{attribute.name}`: {error}") from None
    if isinstance(value, list | _WireGraph):
        raise InvalidNode(node=node, reason=f"attribute `{attribute.name}` is not a {attribute.kind.value}")
    return coerce(attribute, value)
