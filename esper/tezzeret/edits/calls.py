"""A call as a blueprint's source writes it, `linear(64, bias=false)`, as nodes of a graph.

The call is elaborated by the language in a blueprint of its own, whose inputs are the call's operands, so
that defaults, weights, initialisers and errors are the language's. Then its nodes get names in the graph.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from esper.errors import EsperError
from esper.ir.dims import Dim, Size, substitute
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.rewrite import with_operands
from esper.ir.types import DType, TensorType
from esper.lang import BlueprintRejected, Source, lower_loaded
from esper.lang.library import Loaded, reject
from esper.lang.units import source_unit
from esper.tezzeret.edits.errors import ImpossibleEdit

CALL = re.compile(r"(?P<op>[A-Za-z_]\w*)\s*(?:\((?P<arguments>[^{}#\n]*)\))?", re.ASCII)

_WORD = re.compile(
    r"(?P<given>(?P<argument>[A-Za-z_]\w*)\s*=\s*)?(?P<word>%?[A-Za-z_]\w*(?:\.\w+)*)(?![\w.]*\s*[=(])",
    re.ASCII,
)
_MADE_UP = re.compile(r"\b(?:D|operand_)[0-9]+\b")
_FILE = "<edit>"


def called(
    ir: BlueprintIR, call: str, operands: Sequence[Value], stem: str, edit: str
) -> tuple[tuple[Node, ...], Value]:
    """The nodes that `call` on `operands` adds to `ir`, and its result; the node that computes it is `stem`.

    Further operands are names of nodes among the call's arguments. Raises `ImpossibleEdit` with what the
    language says of the call.
    """
    found = CALL.fullmatch(call.strip())
    if found is None:
        way = "write an operator as a blueprint does: `gelu`, `linear(64, bias=false)`"
        raise ImpossibleEdit(edit=edit, reason=f"`{call}` is no call", way=way)
    named = _Operands(ir, operands, found["op"])
    arguments = _WORD.sub(named.replaced, found["arguments"] or "").strip()
    given = ", ".join([*named.words[: len(operands)], *([arguments] if arguments else [])])
    text = named.blueprint(f"{found['op']}({given})")
    try:
        part = _lowered(text, named.dtype)
    except BlueprintRejected as error:
        first = error.diagnostics[0]
        raise ImpossibleEdit(
            edit=edit, reason=named.plain(first.message), way=named.plain(first.help or _WAY)
        ) from None
    except EsperError as error:
        raise ImpossibleEdit(
            edit=edit, reason=named.plain(str(error)), way=named.plain(error.help_text or _WAY)
        ) from None
    return _placed(ir, part, named, stem)


_WAY = "`docs/operators.md` lists the operators and what they take"


class _Operands:
    """The operands of a call: the word that stands for each in the text, and their types in its sizes."""

    def __init__(self, ir: BlueprintIR, operands: Sequence[Value], op: str) -> None:
        self.ir = ir
        self.static = {one.name for one in OPERATORS[op].attributes} if op in OPERATORS else set()
        self.values: dict[Value, str] = {}
        self.sizes: dict[Size, str] = {}
        self.words = [self.word(value) for value in operands]

    @property
    def dtype(self) -> DType:
        dtypes = (self.ir.type(value).dtype for value in self.values)
        return next((dtype for dtype in dtypes if dtype.is_floating), DType.F32)

    def word(self, value: Value) -> str:
        return self.values.setdefault(value, f"operand_{len(self.values)}")

    def replaced(self, found: re.Match[str]) -> str:
        """The text for one word of the call: `act=gelu` is no node called `gelu`, if there is one."""
        name = found["word"].removeprefix("%")
        if name not in self.ir or found["argument"] in self.static:
            return found[0]
        return (found["given"] or "") + self.word(Value(name))

    def blueprint(self, call: str) -> str:
        inputs = "".join(
            f"    input {word}: {self._type(self.ir.type(value))}\n" for value, word in self.values.items()
        )
        return f"blueprint edit() {{\n{inputs}    output {call}\n}}\n"

    def plain(self, text: str) -> str:
        """`text` of the language in the words of the graph."""
        meant = {word: str(size) for size, word in self.sizes.items()}
        meant |= {word: str(value) for value, word in self.values.items()}
        return _MADE_UP.sub(lambda found: meant.get(found[0], found[0]), text)

    def _type(self, type: TensorType) -> str:
        """The type in words; a size that is no number gets a symbol of its own."""
        spelled = [
            str(size) if isinstance(size, int) else self.sizes.setdefault(size, f"D{len(self.sizes)}")
            for size in type.shape
        ]
        return f"{type.dtype}[{', '.join(spelled)}]"


def _lowered(text: str, dtype: DType) -> BlueprintIR:
    unit, report = source_unit(Source(_FILE, text))
    reject(report, unit.sources)
    precision = dtype if dtype in (DType.BF16, DType.F16) else None
    return lower_loaded(Loaded(unit.program.blueprints[0], unit), {}, {}, precision)[0]


def _placed(
    ir: BlueprintIR, part: BlueprintIR, named: _Operands, stem: str
) -> tuple[tuple[Node, ...], Value]:
    """The nodes of `part` but its inputs, under names that `ir` has not, in its sizes and with its seed."""
    values = {word: value for value, word in named.values.items()}
    sizes = {word: size for size, word in named.sizes.items()}
    result = part.outputs[0][1]
    taken = {node.name for node in ir.nodes}
    seeds = ir.of("seed")
    replaced: dict[Value, Value] = {}
    nodes: list[Node] = []
    offset = 1 + max((int(str(node.attrs.get("offset", -1))) for node in ir.nodes), default=-1)
    for node in part.nodes:
        if node.op == "input":
            replaced[node.result()] = values[node.name]
            continue
        if node.op == "seed" and seeds:
            replaced[node.result()] = seeds[0].result()
            continue
        name = node.name
        if name == result.node or name.startswith(f"{result.node}."):
            name = stem + name.removeprefix(result.node)
        name = _fresh(name, taken)
        taken.add(name)
        attrs: dict[str, AttrValue] = {key: _in_sizes(value, sizes) for key, value in node.attrs.items()}
        if OPERATORS[node.op].draws(node.attrs):
            attrs["offset"] = offset
            offset += 1
        placed = with_operands(node, replaced).replace(
            name=name,
            attrs=frozen_attrs(attrs),
            types=tuple(type.substitute(sizes) for type in node.types),
            span=None,
        )
        replaced |= dict(zip(node.results, placed.results, strict=True))
        nodes.append(placed)
    return tuple(nodes), replaced.get(result, result)


def _in_sizes(value: AttrValue, sizes: dict[str, Size]) -> AttrValue:
    if isinstance(value, tuple):
        return tuple(substitute(item, sizes) if isinstance(item, Dim) else item for item in value)
    return substitute(value, sizes) if isinstance(value, Dim) else value


def _fresh(name: str, taken: set[str]) -> str:
    count, found = 1, name
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found
