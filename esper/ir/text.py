"""The textual form: `print_ir` and its inverse `parse_ir`, so that `parse_ir(print_ir(ir)) == ir`.

    blueprint scale {
      %x = input() : f32[N, 64]
      %norm.weight = param() {init="ones", fan_in=1, gain=1.0} : f32[64]
      %mul = mul(%x, %norm.weight) : f32[N, 64]
      output y = %mul
    }

A body stands as an attribute's value: `%y = scan(%h, %x) {body=step { ... }, carries=1} : f32[N, 4]`.
Sizes and types have no other parser: `parse_size("(H - 1)//2 + 1")`, `parse_type("f32[N, 64]")`.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from typing import Any, cast

from lark import Lark, Transformer, UnexpectedInput, UnexpectedToken
from lark.exceptions import LarkError

from esper.ir.dims import MAX_COEFFICIENT, Dim, Size, bounded, floor_divide, symbol
from esper.ir.errors import MalformedIR
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, Attribute, AttrValue, Kind
from esper.ir.types import DType, TensorType
from esper.ir.verify import MAX_DEPTH, verify
from esper.resources import grammar_text

MAX_TEXT = 16 * 2**20
MAX_KEPT = 4096  # sizes and types that are kept by their text: a graph repeats few of them often


def print_ir(ir: BlueprintIR) -> str:
    """The textual form of `ir`, without a final newline."""
    return f"blueprint {_print_graph(ir, '')}"


def _print_graph(ir: BlueprintIR, indent: str) -> str:
    inner = f"{indent}  "
    lines = [f"{ir.name} {{"]
    for node in ir.nodes:
        operands = ", ".join("_" if operand is None else str(operand) for operand in node.operands)
        attrs = ", ".join(f"{name}={_print_literal(value, inner)}" for name, value in node.attrs.items())
        types = ", ".join(map(str, node.types))
        described = f"{node.op}({operands}){f' {{{attrs}}}' if attrs else ''} : {types}"
        lines.append(f"{inner}%{node.name} = {described}")
    lines += [f"{inner}output {name} = {value}" for name, value in ir.outputs]
    lines += [f"{inner}update {name} = {value}" for name, value in ir.updates]
    return "\n".join([*lines, f"{indent}}}"])


def parse_ir(text: str) -> BlueprintIR:
    """Parses and verifies. Raises `MalformedIR` for a syntax error, else what the verifier raises."""
    ir = cast(BlueprintIR, _parse(text.removeprefix("\ufeff"), "blueprint"))
    verify(ir)
    return ir


@lru_cache(maxsize=MAX_KEPT)
def parse_size(text: str) -> Size:
    """A size as it is printed. Raises `MalformedIR`."""
    return cast(Size, _parse(text, "size"))


@lru_cache(maxsize=MAX_KEPT)
def parse_type(text: str) -> TensorType:
    """A tensor type as it is printed. Raises `MalformedIR`."""
    return cast(TensorType, _parse(text, "type"))


def coerce(attribute: Attribute | None, value: AttrValue) -> AttrValue:
    """`value` as read, in the attribute's kind where reading left it open: 1 for 1.0, f32 for a dtype."""
    if attribute is None:
        return value
    if attribute.kind is Kind.FLOAT and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < MAX_COEFFICIENT else value
    if attribute.kind is Kind.DTYPE and isinstance(value, Dim) and str(value) in DType._value2member_map_:
        return DType(str(value))
    return value


def _print_literal(value: AttrValue, indent: str) -> str:
    match value:
        case BlueprintIR():
            return _print_graph(value, indent)
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value)
        case tuple():
            return f"[{', '.join(_print_literal(item, indent) for item in value)}]"
        case _:
            return str(value)


@cache
def _parser() -> Lark:
    return Lark(
        grammar_text("ir.lark"),
        parser="lalr",
        start=["blueprint", "size", "type"],
        transformer=_Read(),
        maybe_placeholders=True,
    )


def _parse(text: str, start: str) -> object:
    if len(text) > MAX_TEXT:
        raise MalformedIR(where="IR text", reason=f"{len(text)} characters are more than {MAX_TEXT}")
    try:
        return _parser().parse(text, start=start)
    except UnexpectedInput as error:
        if isinstance(error, UnexpectedToken) and error.token.type == "$END":
            raise MalformedIR(where="IR text", reason=f"it ends before the {start} does") from None
        shown = error.get_context(text, 30).partition("\n")[0].strip()
        raise _at(error.line, error.column, f"unexpected text near `{shown}`") from None
    except LarkError as error:
        raise MalformedIR(where="IR text", reason=str(error).splitlines()[0]) from None


def _at(line: int, column: int, reason: str) -> MalformedIR:
    error = MalformedIR(where=f"line {line}, column {column}", reason=reason)
    error.place = line, column
    return error


@lru_cache(maxsize=MAX_KEPT)
def _sum(left: Size, right: Size) -> Size:
    return bounded(left + right)


@lru_cache(maxsize=MAX_KEPT)
def _product(left: Size, right: Size) -> Size:
    return bounded(left * right)


class _Read(Transformer[Any, Any]):
    """Builds values while parsing, so that no depth of nesting recurses."""

    def integer(self, items: list[Any]) -> Size:
        return bounded(int(items[0]))

    def symbol(self, items: list[Any]) -> Size:
        return symbol(str(items[0]))

    def add(self, items: list[Any]) -> Size:
        return _sum(items[0], items[1])

    def subtract(self, items: list[Any]) -> Size:
        return _sum(items[0], -items[1])

    def multiply(self, items: list[Any]) -> Size:
        return _product(items[0], items[1])

    def floor_divide(self, items: list[Any]) -> Size:
        if items[1] == 0:
            raise MalformedIR(where="IR text", reason="a size is divided by zero")
        return floor_divide(items[0], items[1])

    def negate(self, items: list[Any]) -> Size:
        return cast(Size, -items[0])

    def true(self, items: list[Any]) -> bool:
        return True

    def false(self, items: list[Any]) -> bool:
        return False

    def real(self, items: list[Any]) -> float:
        return float(items[0])

    def negative_real(self, items: list[Any]) -> float:
        return -float(items[0])

    def string(self, items: list[Any]) -> str:
        try:
            return cast(str, json.loads(items[0]))
        except ValueError as error:
            raise MalformedIR(where=f"line {items[0].line}", reason=f"string {items[0]}: {error}") from None

    def items(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(item for item in items if item is not None)

    def type(self, items: list[Any]) -> TensorType:
        if items[0] not in DType._value2member_map_:
            raise MalformedIR(where="IR text", reason=f"`{items[0]}` is not an element type")
        return TensorType(DType(str(items[0])), tuple(size for size in items[1:] if size is not None))

    def written_type(self, items: list[Any]) -> TensorType:
        try:
            return parse_type(str(items[0]))
        except MalformedIR as error:
            if error.place is None:
                raise
            line, column = error.place
            raise _at(
                items[0].line + line - 1,
                column + (items[0].column - 1 if line == 1 else 0),
                error.details["reason"],
            ) from None

    def types(self, items: Any) -> tuple[TensorType, ...]:
        return tuple(items)

    def value(self, items: Any) -> Value:
        return Value(str(items[0])[1:], int(items[1] or 0))

    def absent(self, items: Any) -> None:
        return None

    def results(self, items: Any) -> str:
        return str(items[0])[1:]

    def attribute(self, items: Any) -> tuple[str, Any]:
        return str(items[0]), items[1]

    def attributes(self, items: Any) -> Any:
        return [item for item in items if item is not None]

    def node(self, items: Any) -> Node:
        name, op, *operands, attributes, types = items
        entry = OPERATORS.get(str(op))
        pairs = attributes or []
        if len({key for key, _ in pairs}) != len(pairs):
            raise MalformedIR(where=f"node `{name}`", reason="an attribute is given twice")
        attrs = {key: coerce(entry.attribute(key) if entry else None, value) for key, value in pairs}
        if operands == [None] and not (entry and entry.inputs):
            operands = []
        return Node(name, str(op), tuple(operands), frozen_attrs(attrs), types)

    def output(self, items: Any) -> tuple[str, str, Value]:
        return "output", str(items[0]), Value(str(items[1])[1:], int(items[2] or 0))

    def update(self, items: Any) -> tuple[str, str, Value]:
        return "update", str(items[0]), Value(str(items[1])[1:], int(items[2] or 0))

    def body(self, items: Any) -> BlueprintIR:
        body = self.blueprint(items)
        if body.depth >= MAX_DEPTH:
            reason = f"bodies nest deeper than {MAX_DEPTH}"
            raise MalformedIR(where=f"the body `{body.name}`", reason=reason)
        return body

    def blueprint(self, items: Any) -> BlueprintIR:
        name, *rest = items
        nodes = tuple(item for item in rest if isinstance(item, Node))
        results = [item for item in rest if not isinstance(item, Node)]
        return BlueprintIR(
            str(name),
            nodes,
            tuple((key, value) for kind, key, value in results if kind == "output"),
            tuple((key, value) for kind, key, value in results if kind == "update"),
        )
