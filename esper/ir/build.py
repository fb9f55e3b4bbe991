"""Building graphs: a `Builder` appends nodes, names them, and infers their types by the operators' rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from esper.errors import Span
from esper.ir.dims import Size
from esper.ir.errors import InvalidNode, TypeRuleViolated, UnknownIROperator
from esper.ir.graph import NAME, BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, REQUIRED, Attrs, AttrValue, Operator, Site
from esper.ir.types import DType, TensorType


class Builder:
    """Grows a graph node by node. Operands are values it returned, numbers, or None for an absent one.

    reserved: names that no fresh name may take, for nodes that are still to be appended.
    scope: what names and spans say of nodes that are given none: `matmul` in the scope of the node
        `linear` is called `linear.matmul` and has that node's span.
    """

    def __init__(self, name: str, nodes: Iterable[Node] = (), reserved: Iterable[str] = ()) -> None:
        self.name = name
        self.scope: Node | None = None
        self._nodes: dict[str, Node] = {node.name: node for node in nodes}
        self._reserved = frozenset(reserved)
        self._next: dict[str, int] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._nodes

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())

    def node(self, name: str) -> Node:
        return self._nodes[name]

    def type(self, value: Value) -> TensorType:
        return self._nodes[value.node].types[value.index]

    def fresh(self, stem: str) -> str:
        """`stem`, or `stem_2`, `stem_3`, … if it is taken."""
        if not self._taken(stem) and stem not in self._next:
            return stem
        count = self._next.get(stem, 1) + 1
        while self._taken(f"{stem}_{count}"):
            count += 1
        self._next[stem] = count
        return f"{stem}_{count}"

    def _taken(self, name: str) -> bool:
        return name in self._nodes or name in self._reserved

    def input(self, name: str, type: TensorType, span: Span | None = None) -> Value:
        return self._leaf("input", name, type, {}, span)

    def param(
        self,
        name: str,
        type: TensorType,
        init: str = "zeros",
        fan_in: Size = 1,
        gain: float = 1.0,
        span: Span | None = None,
    ) -> Value:
        """A trainable weight. `init` is one of the initialisers of the `param` entry."""
        return self._leaf("param", name, type, {"init": init, "fan_in": fan_in, "gain": gain}, span)

    def buffer(self, name: str, type: TensorType, init: str = "zeros", span: Span | None = None) -> Value:
        return self._leaf("buffer", name, type, {"init": init}, span)

    def constant(self, value: float, dtype: DType = DType.F32) -> Value:
        """A scalar of type `dtype[]`."""
        attrs = {"value": float(value)}
        return self._leaf("constant", self.fresh("constant"), TensorType(dtype), attrs, None)

    def seed(self) -> Value:
        """The graph's one random seed, an `i64[]` given at run time."""
        for node in self._nodes.values():
            if node.op == "seed":
                return node.result()
        return self._leaf("seed", self.fresh("seed"), TensorType(DType.I64), {}, None)

    def op(
        self,
        op: str,
        *operands: Value | float | None,
        name: str | None = None,
        span: Span | None = None,
        **attrs: AttrValue,
    ) -> Value:
        """Appends a node and returns its first result."""
        return self.ops(op, *operands, name=name, span=span, **attrs)[0]

    def ops(
        self,
        op: str,
        *operands: Value | float | None,
        name: str | None = None,
        span: Span | None = None,
        **attrs: AttrValue,
    ) -> tuple[Value, ...]:
        """Appends a node and returns all its results.

        A number among the operands becomes a constant in the dtype of the first operand that is no boolean.
        Raises `UnknownIROperator`, `InvalidNode` (bad attribute) or `TypeRuleViolated`, with `span`.
        """
        entry = OPERATORS.get(op)
        if entry is None:
            raise UnknownIROperator(node=name or op, operator=op, span=span)
        dtypes = [self.type(operand).dtype for operand in operands if isinstance(operand, Value)]
        dtype = next((dtype for dtype in dtypes if dtype is not DType.BOOL), DType.F32)
        for number in operands:
            if isinstance(number, int | float) and not dtype.holds(number):
                reason = f"{number:g} is no {dtype}: cast the tensor to a floating dtype first"
                raise TypeRuleViolated(operator=op, reason=reason, span=span)
        values = tuple(self.constant(o, dtype) if isinstance(o, int | float) else o for o in operands)
        complete = complete_attrs(entry, attrs, node=name or op)
        types = infer_types(entry, [None if v is None else self.type(v) for v in values], complete, span)
        if name is None:
            name = self.fresh(op if self.scope is None else f"{self.scope.name}.{op}")
        if span is None and self.scope is not None:
            span = self.scope.span
        node = Node(name, op, values, complete, types, span)
        return self.append(node).results

    def append(self, node: Node) -> Node:
        """Appends a node as it is; its name must be free."""
        if node.name in self._nodes:
            raise InvalidNode(node=node.name, reason="the name is taken")
        if not NAME.fullmatch(node.name):
            reason = "a name is letters, digits and `_`, with dots between parts"
            raise InvalidNode(node=node.name, reason=reason)
        self._nodes[node.name] = node
        return node

    def made_by(self, value: Value | None, op: str) -> Node | None:
        """The node that makes `value`, if its operator is `op`."""
        node = None if value is None else self.node(value.node)
        return node if node is not None and node.op == op else None

    def sum_to(self, value: Value, shape: tuple[Size, ...]) -> Value:
        """`value` summed over the axes along which `shape` would be broadcast to its shape."""
        have = self.type(value).shape
        if have == shape:
            return value
        lead = len(have) - len(shape)
        axes = [*range(lead)]
        axes += [lead + axis for axis, size in enumerate(shape) if size == 1 and have[lead + axis] != 1]
        if axes:
            value = self.op("sum", value, axes=tuple(axes), keepdims=False)
        if self.type(value).shape != shape:
            value = self.op("reshape", value, shape=shape)
        return value

    def finish(self, outputs: Mapping[str, Value], updates: Mapping[str, Value] | None = None) -> BlueprintIR:
        """The graph built so far, verified."""
        from esper.ir.verify import verify

        ir = BlueprintIR(self.name, self.nodes, tuple(outputs.items()), tuple((updates or {}).items()))
        verify(ir)
        return ir

    def _leaf(self, op: str, name: str, type: TensorType, attrs: Attrs, span: Span | None) -> Value:
        entry = OPERATORS[op]
        complete = complete_attrs(entry, attrs, node=name)
        return self.append(Node(name, op, (), complete, (type,), span)).result()


def complete_attrs(entry: Operator, given: Attrs, node: str) -> Attrs:
    """`given` in the entry's order, with defaults filled in. Raises `InvalidNode`."""
    stored = [attribute for attribute in entry.attributes if attribute.stored]
    unknown = set(given) - {attribute.name for attribute in stored}
    if unknown:
        raise InvalidNode(node=node, reason=f"`{entry.name}` has no attribute `{min(unknown)}`")
    complete: dict[str, AttrValue] = {}
    for attribute in stored:
        value = given.get(attribute.name, attribute.default)
        if value is REQUIRED:
            raise InvalidNode(node=node, reason=f"`{entry.name}` needs the attribute `{attribute.name}`")
        complete[attribute.name] = value
    return frozen_attrs(complete)


def infer_types(
    entry: Operator, operands: Sequence[TensorType | None], attrs: Attrs, span: Span | None = None
) -> tuple[TensorType, ...]:
    """The result types of one use. Raises `TypeRuleViolated`."""
    assert entry.infer is not None, entry.name
    check_arity(entry, operands, span)
    try:
        found = tuple(entry.infer(Site(entry, tuple(operands), attrs)))
    except TypeRuleViolated as error:
        raise error if error.span or span is None else type(error)(span=span, **error.details) from None
    for result in found:
        if any(isinstance(size, int) and size < 1 for size in result.shape):
            reason = f"the result would be {result}, and a size is at least 1"
            raise TypeRuleViolated(operator=entry.name, reason=reason, span=span)
    return found


def check_arity(entry: Operator, operands: Sequence[object | None], span: Span | None = None) -> None:
    """Raises `TypeRuleViolated` for too few, too many, or missing operands."""
    variadic = bool(entry.inputs) and entry.inputs[-1].variadic
    least = len(entry.inputs)
    if len(operands) < least or (len(operands) > least and not variadic):
        expected = f"{least} or more" if variadic else str(least)
        raise TypeRuleViolated(
            operator=entry.name, reason=f"takes {expected} operands, found {len(operands)}", span=span
        )
    for index, operand in enumerate(operands):
        expected_input = entry.input_of(index)
        if operand is None and not expected_input.optional:
            raise TypeRuleViolated(
                operator=entry.name, reason=f"the operand `{expected_input.name}` is missing", span=span
            )
