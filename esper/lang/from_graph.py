"""A blueprint's source from its graph: each node as a call, in the graph's order, so that weights, their
names and random numbers come out as they were.

A value that the next node alone reads stands before it in a pipe; others get names. What is written is
lowered again and compared: a graph that the language cannot say is refused with the node that stands out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from esper.errors import EsperError
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, REQUIRED, AttrValue, Leaf, Role
from esper.ir.rewrite import needed_by
from esper.ir.types import DType
from esper.lang.call_arguments import call_arguments, strange_weight
from esper.lang.diagnostics import BlueprintRejected
from esper.lang.format import format_source
from esper.lang.library import Loaded, reject
from esper.lang.lower import lower_loaded
from esper.lang.settings import PRECISIONS
from esper.lang.source import Source
from esper.lang.spelling import AxisAlone, Sizes, Unspelled, argument, free_name, is_name
from esper.lang.statements import Bound
from esper.lang.units import source_unit

_FILE = "<written>"
_VALUE = "h"
"""What a tensor is called whose node has no name but an operator's."""

_STATE = ("param", "buffer")
_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "matmul": "@"}


class NotInLanguage(EsperError):
    """A graph of a file, or one after edits or passes, may be one that no source lowers to."""

    code = "E1065"
    message = "`{blueprint}` cannot be written as a blueprint's source, because of `{node}`: {reason}"
    help = (
        "write it as a graph, to a file that ends in .ir or .json: commands read it as they read a blueprint"
    )


@dataclass(frozen=True, slots=True)
class Written:
    """text: the source. ir: the graph that it lowers to. renamed: inputs, outputs, weights and statistics
    that have other names there, by their names in the graph that was written."""

    text: str
    ir: BlueprintIR
    renamed: Mapping[str, str]


def write_source(ir: BlueprintIR, doc: Sequence[str] = (), constraints: Iterable[Bound] = ()) -> Written:
    """A source that lowers to a graph equal to `ir`: of its canonical hash where `ir` came from a source.

    Elsewhere the two are equal but for this: each use of a number is a constant of its own, and the offsets
    of random nodes are counted anew in their order.
    doc: the lines of its documentation. constraints: that it states. Raises `NotInLanguage`.
    """
    apart: list[str] = []
    while True:
        try:
            text = _Writer(ir, Sizes(ir, _names(ir), apart)).source(doc, constraints)
            break
        except AxisAlone as error:
            apart.append(error.stem)
    try:
        unit, report = source_unit(Source(_FILE, text))
        reject(report, unit.sources)
        lowered = lower_loaded(Loaded(unit.program.blueprints[0], unit), {}, {})[0]
    except BlueprintRejected as error:
        first = error.diagnostics[0]
        line = text.split("\n")[first.span.line - 1].strip()
        raise NotInLanguage(blueprint=ir.name, node=line, reason=first.message) from None
    return Written(text, lowered, _renamed(ir, lowered))


def in_source_form(ir: BlueprintIR) -> BlueprintIR:
    """`ir` as a source says it: see `write_source`. Equal to it where it came from one."""
    constants = {node.name: node for node in ir.of("constant")}
    nodes: list[Node] = []
    draws = 0
    for node in _live(ir):
        if node.name in constants:
            continue
        operands: list[Value | None] = []
        for index, value in enumerate(node.operands):
            if value is not None and value.node in constants:
                own = constants[value.node].replace(name=f"{node.name}.constant_{index}")
                nodes.append(own)
                value = own.result()
            operands.append(value)
        attrs = node.attrs
        if OPERATORS[node.op].draws(attrs):
            attrs = frozen_attrs({**attrs, "offset": draws})
            draws += 1
        nodes.append(node.replace(operands=tuple(operands), attrs=attrs))
    return ir.replace(nodes=nodes)


@dataclass(slots=True)
class _Chain:
    """A value that is not bound yet: what `steps` make of `source`, a name, a call or an infix expression."""

    value: Value
    source: str
    steps: list[tuple[str, list[str]]] = field(default_factory=list)
    is_infix: bool = False

    @property
    def is_call(self) -> bool:
        """Whether it is spelled as one call, which can stand inside an expression."""
        return len(self.steps) == (1 if is_name(self.source) else 0) and not self.is_infix

    def __str__(self) -> str:
        if len(self.steps) == 1 and is_name(self.source):
            ((op, arguments),) = self.steps
            return f"{op}({', '.join([self.source, *arguments])})"
        return " |> ".join([self.source, *(f"{op}({', '.join(arguments)})" for op, arguments in self.steps)])


class _Writer:
    def __init__(self, ir: BlueprintIR, sizes: Sizes) -> None:
        self.ir = ir
        self.sizes = sizes
        self.reads = Counter(_read(ir))
        self.names = {Value(name): spelled for name, spelled in _input_names(ir).items()}
        self.kept = {*self.names.values(), *sizes.names}
        self.held: dict[str, Value] = {}
        self.lines: list[str] = []
        self.chain: _Chain | None = None
        self.precision = self._precision()

    def source(self, doc: Sequence[str], constraints: Iterable[Bound]) -> str:
        """The text in the one layout. Raises `NotInLanguage` and `AxisAlone`."""
        precision = self.precision
        inputs = [f"input {self.names[node.result()]}: {self._declared(node)}" for node in self.ir.inputs]
        self._require_updates()
        for node in _computed(self.ir):
            try:
                self._take(node)
            except Unspelled as error:
                raise self._refusal(node, str(error)) from None
        outputs = self._outputs()
        stated = [_constraint(bound) for bound in constraints]
        head = [*([f"precision {precision.value}"] if precision else []), *stated]
        body = [*head, *([""] if head else []), *inputs, "", *self.lines, *outputs]
        title = free_name(self.ir.name, ())
        lines = [*(f"## {line}".rstrip() for line in doc), f"blueprint {title}() {{", *body, "}"]
        return format_source(Source(_FILE, "\n".join(lines) + "\n"))

    def _refusal(self, node: Node, reason: str) -> NotInLanguage:
        return NotInLanguage(blueprint=self.ir.name, node=node.name, reason=reason)

    def _declared(self, node: Node) -> str:
        try:
            return self.sizes.declared(node.type)
        except Unspelled as error:
            raise self._refusal(node, str(error)) from None

    def _precision(self) -> DType | None:
        """Of weights that no operand gives a dtype: a statement does, and f32 inputs would follow it."""
        for node in _live(self.ir):
            dtype = _weights_dtype(self.ir, node)
            if dtype is None or dtype is DType.F32:
                continue
            f32 = [one.name for one in self.ir.inputs if one.type.dtype is DType.F32]
            if dtype not in PRECISIONS.values() or f32:
                raise self._refusal(node, f"its weights are {dtype}, and no operand is")
            return dtype
        return None

    def _require_updates(self) -> None:
        """Raises `NotInLanguage` unless statistics are updated by what reads them, as a call does."""
        expected: dict[str, Value] = {}
        for node in _live(self.ir):
            for result, position in OPERATORS[node.op].updates.items():
                buffer = node.operands[position]
                if buffer is not None:
                    expected[buffer.node] = node.result(result)
        found = dict(self.ir.updates)
        for name in {**expected, **found}:
            if found.get(name) != expected.get(name):
                raise self._refusal(self.ir.node(name), "it is not updated by the operator that reads it")

    def _take(self, node: Node) -> None:
        """Adds `node` to the chain before it, or begins one. Raises `Unspelled` and `AxisAlone`."""
        entry = OPERATORS[node.op]
        if not entry.in_language:
            raise Unspelled(f"`{node.op}` is an operator of graphs alone")
        tensors = [value for i, value in enumerate(node.operands) if entry.input_of(i).role is Role.TENSOR]
        before, is_infix = self.chain, self._is_infix(node)
        if before is not None and self.reads[before.value] > 1:
            before = None
        is_piped = before is not None and tensors[:1] == [before.value] and not (is_infix or before.is_infix)
        is_piped &= not any(one.variadic for one in entry.inputs)
        is_inside = before is not None and before.is_call and is_infix and before.value in tensors
        if not is_piped and not is_inside:
            self._flush()
        operands = self._operands(node, tensors)
        for value in tensors:
            if value is not None:
                self.reads[value] -= 1
        if is_infix:
            source = f" {_INFIX[node.op]} ".join(text for _, text in operands)
            self.chain = _Chain(node.result(), source, is_infix=True)
        else:
            arguments = [text if name is None else f"{name}={text}" for name, text in operands]
            arguments += self._attributes(node, all(name is None for name, _ in operands))
            if is_piped and before is not None:
                before.steps.append((node.op, arguments[1:]))
                before.value = node.result()
            elif len(operands) == 1 and operands[0][0] is None and is_name(operands[0][1]):
                self.chain = _Chain(node.result(), arguments[0], [(node.op, arguments[1:])])
            else:
                self.chain = _Chain(node.result(), f"{node.op}({', '.join(arguments)})")
        last = max((i for i in range(len(node.types)) if self.reads[node.result(i)]), default=0)
        if last:
            self._flush(last + 1)

    def _operands(self, node: Node, tensors: Sequence[Value | None]) -> list[tuple[str | None, str]]:
        """The tensors as arguments: a name where one before is left out, and the text."""
        entry = OPERATORS[node.op]
        makes_weights = any(one.role in (Role.PARAM, Role.BUFFER) for one in entry.inputs)
        takes_numbers = not makes_weights and sum(one.role is Role.TENSOR for one in entry.inputs) > 1
        dtypes = (self.ir.type(v).dtype for v in tensors if v is not None and self._constant(v) is None)
        dtype = next((dtype for dtype in dtypes if dtype is not DType.BOOL), DType.F32)
        found: list[tuple[str | None, str]] = []
        is_named = False
        for index, value in enumerate(tensors):
            if value is None:
                is_named = True
                continue
            constant = self._constant(value)
            if constant is None:
                text = self._tensor(value)
            elif takes_numbers and constant.type.dtype is dtype:
                text = argument(constant.attrs["value"], "value", self.sizes, ())
            else:
                raise Unspelled(f"`{constant.name}` is a number of type {constant.type.dtype}")
            found.append((entry.input_of(index).name if is_named else None, text))
        return found

    def _tensor(self, value: Value) -> str:
        if self.chain is not None and value == self.chain.value:
            return str(self.chain)
        if value in self.names:
            return self.names[value]
        leaf = self.ir.node(value.node)
        raise Unspelled(f"it reads the {leaf.op} `{leaf.name}`, and a call makes weights of its own")

    def _constant(self, value: Value) -> Node | None:
        node = self.ir.node(value.node)
        return node if node.op == "constant" else None

    def _is_infix(self, node: Node) -> bool:
        if node.op not in _INFIX or any(
            not _same(node.attrs[one.name], one.default)
            for one in OPERATORS[node.op].attributes
            if one.default is not REQUIRED
        ):
            return False
        return any(value is not None and self._constant(value) is None for value in node.operands)

    def _attributes(self, node: Node, is_positional: bool) -> list[str]:
        """The arguments after the tensors; the first ones without names while each has to be given."""
        entry = OPERATORS[node.op]
        arguments = call_arguments(self.ir, node)
        if arguments is None:
            raise Unspelled("no call makes such weights")
        strange = strange_weight(self.ir, node, arguments, self.precision or DType.F32)
        if strange is not None:
            raise Unspelled(strange)
        is_positional &= not any(one.variadic for one in entry.inputs)
        tensors = [
            i for i, value in enumerate(node.operands) if value and entry.input_of(i).role is Role.TENSOR
        ]
        is_positional &= len(tensors) == sum(one.role is Role.TENSOR for one in entry.inputs)
        texts: list[str] = []
        for one in entry.attributes:
            if entry.random and one.name == "offset":
                continue
            value = arguments[one.name]
            is_positional &= one.default is REQUIRED
            if one.default is REQUIRED or not _same(value, one.default):
                text = argument(value, one.name, self.sizes, (*self.kept, *self.held))
                texts.append(text if is_positional else f"{one.name}={text}")
        return texts

    def _flush(self, count: int = 1) -> None:
        """Binds the chain, if there is one: its first `count` results."""
        if self.chain is None:
            return
        node = self.ir.node(self.chain.value.node)
        names = [self._bind(node, index) for index in range(count)]
        self.lines.append(f"{', '.join(names)} = {self.chain}")
        self.chain = None

    def _bind(self, node: Node, index: int) -> str:
        """The name of result `index` of `node`: the node's own, or one whose value is not read again."""
        value = node.result(index)
        if not self.reads[value]:
            return free_name("_", (*self.kept, *self.held))
        own = node.name.replace(".", "_")
        last = node.name.rpartition(".")[2]
        is_plain = re.sub(r"_[0-9]+$", "", last) in OPERATORS or index or own in self.kept
        if is_plain or not is_name(own):
            live = [name for name, held in self.held.items() if self.reads[held]]
            own = free_name(_VALUE, (*self.kept, *live))
            self.held[own] = value
        else:
            self.kept.add(own)
        self.names[value] = own
        return own

    def _outputs(self) -> list[str]:
        """The statements at the end; a chain that only one output reads stands in it."""
        read = [value for _, value in self.ir.outputs]
        if self.chain is not None and (self.reads[self.chain.value] > 1 or self.chain.value not in read):
            self._flush()
        found = []
        names = _output_names(self.ir)
        for name, value in self.ir.outputs:
            if self._constant(value) is not None:
                raise self._refusal(self.ir.node(value.node), "it is an output, and no tensor")
            is_chain = self.chain is not None and value == self.chain.value
            text = str(self.chain) if is_chain else self._output(value)
            found.append(f"output {text}" if names[name] == "result" else f"output {names[name]} = {text}")
        return found

    def _output(self, value: Value) -> str:
        try:
            return self._tensor(value)
        except Unspelled as error:
            raise self._refusal(self.ir.node(value.node), f"as an output {error}") from None


def _live(ir: BlueprintIR) -> list[Node]:
    """The nodes that count: inputs, and what results need."""
    needed = needed_by(ir, [value.node for value in ir.results])
    return [node for node in ir.nodes if node.op == "input" or node.name in needed]


def _read(ir: BlueprintIR) -> Iterable[Value]:
    """Each value as often as a source would read it."""
    for node in _live(ir):
        entry = OPERATORS[node.op]
        for index, value in enumerate(node.operands):
            if value is not None and entry.input_of(index).role is Role.TENSOR:
                yield value
    yield from (value for _, value in ir.outputs)


def _names(ir: BlueprintIR) -> list[str]:
    return [*_input_names(ir).values()]


def _input_names(ir: BlueprintIR) -> dict[str, str]:
    found: dict[str, str] = {}
    for node in ir.inputs:
        found[node.name] = free_name(node.name, found.values())
    return found


def _output_names(ir: BlueprintIR) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, _ in ir.outputs:
        found[name] = free_name(name, found.values())
    return found


def _weights_dtype(ir: BlueprintIR, node: Node) -> DType | None:
    """Of the weights of a node none of whose tensors is floating; None where there are none such."""
    entry = OPERATORS[node.op]
    given = [(entry.input_of(i).role, value) for i, value in enumerate(node.operands) if value is not None]
    if any(role is Role.TENSOR and ir.type(value).dtype.is_floating for role, value in given):
        return None
    return next((ir.type(value).dtype for role, value in given if role is Role.PARAM), None)


def _constraint(bound: Bound) -> str:
    on = "" if bound.target is None else f' on "{bound.target}"'
    limit = int(bound.limit) if bound.limit == int(bound.limit) else bound.limit
    return f"constraint {bound.quantity} {bound.comparison} {limit}{on}"


def _same(value: AttrValue, default: AttrValue) -> bool:
    return type(value) is type(default) and repr(value) == repr(default)


def _renamed(before: BlueprintIR, after: BlueprintIR) -> dict[str, str]:
    """Names of what a caller sees that differ. Raises `NotInLanguage` where the graphs do."""
    one, other = in_source_form(before), in_source_form(after)
    pairs = [_computed(ir) for ir in (one, other)]
    names: dict[str, str] = {}
    for node, twin in zip(*pairs, strict=False):
        if (node.op, node.types) != (twin.op, twin.types):
            break
        for value, same in zip(node.operands, twin.operands, strict=False):
            if value is not None and same is not None and one.node(value.node).op in _STATE:
                names[value.node] = same.node
    if one.hash != other.hash:
        raise NotInLanguage(
            blueprint=before.name, node=_differing(*pairs), reason="its call makes another node"
        )
    names |= {node.name: twin.name for node, twin in zip(before.inputs, after.inputs, strict=True)}
    names |= {name: twin for (name, _), (twin, _) in zip(before.outputs, after.outputs, strict=True)}
    return {name: twin for name, twin in names.items() if name != twin}


def _computed(ir: BlueprintIR) -> list[Node]:
    return [node for node in _live(ir) if not isinstance(OPERATORS[node.op].lowering, Leaf)]


def _differing(before: Sequence[Node], after: Sequence[Node]) -> str:
    """The first node that is not as its twin."""
    for node, twin in zip(before, after, strict=False):
        if (node.op, node.types, dict(node.attrs)) != (twin.op, twin.types, dict(twin.attrs)):
            return node.name
    return before[-1].name if before else "an output"
