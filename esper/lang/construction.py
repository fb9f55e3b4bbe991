"""The graph under construction, and what the call of an operator adds to it.

The parameters, buffers and random offset of a call come from its entry and are named after the call's node.

A check leaves some sizes and numbers open, and says of them only what no value can change: an operator that
a symbol stops where it needs a number gives poison, and where only some of the values of a symbol come up
(`doubted`), a mismatch that some of them mend is no error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePath

from esper.errors import EsperError, Span
from esper.ir.build import Builder
from esper.ir.dims import Dim, Size, size_symbols
from esper.ir.errors import NumbersNeeded, SizesUnproved, TypeRuleViolated
from esper.ir.graph import Value
from esper.ir.operator import OPERATORS, REQUIRED, AttrValue, Creation, Input, Operator, Role
from esper.ir.types import DType, TensorType
from esper.lang.diagnostics import Report
from esper.lang.errors import Undecided
from esper.lang.inequality import bounds
from esper.lang.sizes_at_run_time import ensured, with_ensured_sizes
from esper.lang.source import Source
from esper.lang.undecided import trials
from esper.lang.values import POISON, Poison, Static, Unknown

MAX_LINE = 100  # characters of a source line that an error at run time shows
MAX_WORDS = 40  # characters of an operand's source that an error shows
MAX_ELEMENTS = 2**40
"""Of one weight: its bytes and the arithmetic on it then stay far from 64 bits."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What a call gives to an operator.

    tensors: by the names of inputs; others: those of a variadic input after its first. open: attributes whose
    numbers only a check lacks. places: of operands in the source, by the names of inputs, for messages.
    """

    tensors: Mapping[str, Value | float]
    others: Sequence[Value | float]
    attributes: Mapping[str, AttrValue]
    open: Mapping[str, Dim | Unknown]
    places: Mapping[str, Span]


@dataclass(slots=True)
class Graph:
    """The graph under construction.

    report, sources: for what is to be said of sizes that only a run can compare, and in which words.
    later: size symbols that get their numbers before lowering, when a blueprint is only checked.
    doubted: those of them of which only some values come up where statements are being taken.
    may_be_left_out: whether, for some of the values, the statements are not taken at all.
    is_open: whether something was left to the numbers of these symbols.
    dtype: of the weights of a call without floating operands. draws: how many nodes draw random numbers.
    """

    build: Builder
    report: Report
    sources: Mapping[str, Source]
    later: frozenset[str] = frozenset()
    doubted: frozenset[str] = frozenset()
    may_be_left_out: bool = False
    is_open: bool = False
    updates: dict[str, Value] = field(default_factory=dict)
    prefix: str = ""
    dtype: DType = DType.F32
    draws: int = 0
    _instances: dict[str, int] = field(default_factory=dict)

    @property
    def settled(self) -> frozenset[str]:
        """The symbols of which every value counts: what they tell apart is an error at once."""
        return self.later - self.doubted

    @contextmanager
    def doubting(self, symbols: Iterable[str] | None = None) -> Iterator[None]:
        """Inside, only some values of `symbols` come up; None for a block that may be left out."""
        before = self.doubted, self.may_be_left_out
        self.doubted |= self.later if symbols is None else frozenset(symbols)
        self.may_be_left_out |= symbols is None
        try:
            yield
        finally:
            self.doubted, self.may_be_left_out = before

    def op(
        self, name: str, *operands: Value | float, span: Span, places: Sequence[Span] = ()
    ) -> Value | Poison:
        """Adds a node without parameters. Raises what the builder raises.

        places: of the operands in the source, for messages.
        """
        slots = [slot.name for slot in OPERATORS[name].inputs]
        named = dict(zip(slots, places, strict=False))
        found = self._add(name, list(operands), self.build.fresh(self.prefix + name), span, {}, named)
        return found if isinstance(found, Poison) else found[0]

    def _add(
        self,
        op: str,
        operands: list[Value | float | None],
        name: str,
        span: Span,
        attrs: Mapping[str, AttrValue],
        places: Mapping[str, Span],
    ) -> tuple[Value, ...] | Poison:
        """Adds a node, and before it the checks of sizes that cannot be compared yet."""
        try:
            try:
                return self.build.ops(op, *operands, name=name, span=span, **attrs)
            except SizesUnproved as error:
                operands = with_ensured_sizes(
                    self.build,
                    op,
                    operands,
                    attrs,
                    error,
                    self.later,
                    self.doubted,
                    self.report,
                    self._place(span),
                )
            return self.build.ops(op, *operands, name=name, span=span, **attrs)
        except NumbersNeeded as error:
            self.leave_open(Unknown(error.symbols), f"`{error.attribute}`")
            return POISON
        except TypeRuleViolated as error:
            if not isinstance(error, SizesUnproved) and self._doubts(operands, attrs):
                return POISON
            raise self._in_words(error, places) from None

    def _doubts(self, operands: Sequence[Value | float | None], attrs: Mapping[str, AttrValue]) -> bool:
        """Whether a node reads sizes of which only some values come up."""
        sizes: list[Size] = []
        for operand in operands:
            sizes += self.build.type(operand).shape if isinstance(operand, Value) else ()
        for value in attrs.values():
            sizes += [
                item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Dim)
            ]
        return any(size_symbols(size) & self.doubted for size in sizes)

    def ensured(self, value: Value, type: TensorType, span: Span) -> Value:
        """`value`, checked when it runs if its sizes are not those of `type`."""
        return ensured(self.build, value, type, self._place(span), span)

    def _place(self, span: Span) -> str:
        """The line of the source, for an error at run time."""
        source = self.sources.get(span.file)
        line = source.lines[span.line - 1].strip() if source is not None else ""
        place = f"{PurePath(span.file).name}:{span.line}: `{line[:MAX_LINE]}`"
        return place if place.isprintable() else ascii(place)[1:-1]

    def _in_words(self, error: TypeRuleViolated, places: Mapping[str, Span]) -> TypeRuleViolated:
        """`error` with the source of the operands in place of the names that their operator has for them."""

        def spelled(name: re.Match[str]) -> str:
            words = self._words(places[name[1]]) if name[1] in places else ""
            return f"`{words}`" if words else name[0]

        reason = re.sub(r"`(\w+)`", spelled, str(error.details["reason"]))
        return type(error)(span=error.span, **{**error.details, "reason": reason})

    def _words(self, span: Span) -> str:
        """What stands at `span`, in one line and shortened; empty where there is no source."""
        source = self.sources.get(span.file)
        if source is None:
            return ""
        lines = source.lines[span.line - 1 : span.end_line]
        if not lines:
            return ""
        lines[-1] = lines[-1][: span.end_column - 1]
        lines[0] = lines[0][span.column - 1 :]
        text = " ".join(" ".join(lines).split())
        if "`" in text or not text.isprintable():
            return ""
        return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 1]}…"

    @contextmanager
    def instance(self, blueprint: str) -> Iterator[None]:
        """Inside, nodes are named after one call of `blueprint`: `mlp.linear`, then `mlp_2.linear`."""
        outer = self.prefix
        stem = outer + blueprint
        count = self._instances[stem] = self._instances.get(stem, 0) + 1
        self.prefix = f"{stem}." if count == 1 else f"{stem}_{count}."
        try:
            yield
        finally:
            self.prefix = outer

    def leave_open(self, value: Static, what: str = "this value", span: Span | None = None) -> None:
        """Leaves a number to lowering, which a check may. Raises `Undecided` if lowering lacks it, too."""
        symbols = value.symbols if isinstance(value, Unknown) else frozenset[str]()
        if isinstance(value, Dim):
            symbols = size_symbols(value)
        late = symbols - self.later
        if late:
            sizes = ", ".join(f"`{symbol}`" for symbol in sorted(late))
            raise Undecided(what=what, sizes=sizes, span=span)
        self.is_open = True

    def note_size(self, size: Size) -> None:
        """Notes that a size is left open if it may turn out to be below 1."""
        if isinstance(size, Dim) and size_symbols(size) & self.later and bounds(size)[0] < 1:
            self.is_open = True

    def call(self, operator: Operator, given: Operands, span: Span) -> tuple[Value, ...] | Poison:
        """Adds the node of a call with its parameters and buffers; returns its results.

        Of numbers that a check leaves open, several are tried: poison, unless the types of the results are
        the same for all that the operator takes. Raises what it says of every number alike.
        """
        if not given.open:
            return self._call(operator, given, given.attributes, span)
        outcomes: dict[tuple[TensorType, ...], list[Mapping[str, AttrValue]]] = {}
        refusals: dict[str, EsperError] = {}
        for tried in trials(operator, given.open):
            attributes: Mapping[str, AttrValue] = {**given.attributes, **tried}
            aside = self._aside(given, span)
            try:
                found = aside._call(operator, given, attributes, span)
            except EsperError as error:
                refusals[str(error)] = error
                continue
            if isinstance(found, Poison):
                return POISON
            outcomes.setdefault(tuple(map(aside.build.type, found)), []).append(attributes)
        if not outcomes and len(refusals) == 1:
            raise next(iter(refusals.values()))
        (attributes, *others), *different = [*outcomes.values()] or [[{}]]
        return self._call(operator, given, attributes, span) if others and not different else POISON

    def _aside(self, given: Operands, span: Span) -> Graph:
        """A graph of nothing but the operands, to try a call in."""
        tensors = [value for value in (*given.tensors.values(), *given.others) if isinstance(value, Value)]
        nodes = {value.node: self.build.node(value.node) for value in tensors}
        build = Builder(self.build.name, nodes.values())
        return Graph(build, Report(span.file), self.sources, self.later, self.doubted, dtype=self.dtype)

    def _call(
        self, operator: Operator, given: Operands, attributes: Mapping[str, AttrValue], span: Span
    ) -> tuple[Value, ...] | Poison:
        name = self.build.fresh(self.prefix + operator.name)
        complete = {a.name: attributes.get(a.name, a.default) for a in operator.attributes}
        values = {key: value for key, value in complete.items() if value is not REQUIRED}
        draws = operator.draws(values)
        if draws:
            values["offset"] = self.draws
            self.draws += 1
        types: dict[str, TensorType] = {
            key: self.build.type(tensor) for key, tensor in given.tensors.items() if isinstance(tensor, Value)
        }
        dtype = next((type.dtype for type in types.values() if type.dtype.is_floating), self.dtype)
        operands: list[Value | float | None] = []
        for slot in operator.inputs:
            operand: Value | float | None
            if slot.role is Role.TENSOR:
                operand = given.tensors.get(slot.name)
            elif slot.role is Role.SEED:
                operand = self.build.seed() if draws else None
            else:
                try:
                    operand = self._create(operator, slot, name, Creation(types, values), dtype, span)
                except TypeRuleViolated as error:
                    raise self._in_words(error, given.places) from None
                if operand is not None:
                    types[slot.name] = self.build.type(operand)
            operands.append(operand)
            if slot.variadic:
                operands.extend(given.others)
        stored = {a.name: values[a.name] for a in operator.attributes if a.stored and a.name in values}
        results = self._add(operator.name, operands, name, span, stored, given.places)
        if isinstance(results, Poison):
            return POISON
        for value in results:
            for size in self.build.type(value).shape:
                self.note_size(size)
        for result, position in operator.updates.items():
            buffer = operands[position]
            assert isinstance(buffer, Value)
            self.updates[buffer.node] = results[result]
        return results

    def _create(
        self, operator: Operator, slot: Input, node: str, creation: Creation, dtype: DType, span: Span
    ) -> Value | None:
        name = f"{node}.{slot.name}"
        if slot.when is not None and not creation.arguments[slot.when]:
            return None
        assert slot.shape is not None, f"{name} has no shape rule"
        try:
            shape = slot.shape(creation)
        except IndexError:
            given = ", ".join(f"`{key}` is {type}" for key, type in creation.types.items())
            raise TypeRuleViolated(operator=operator.name, reason=f"{given}: too few axes") from None
        type = TensorType(dtype, shape)
        if any(isinstance(size, int) and size < 1 for size in shape):
            reason = f"`{slot.name}` would be {type}, and a size is at least 1"
            raise TypeRuleViolated(operator=operator.name, reason=reason)
        elements = type.elements
        if isinstance(elements, int) and elements > MAX_ELEMENTS:
            reason = f"`{slot.name}` would be {type}, more than {MAX_ELEMENTS} elements"
            raise TypeRuleViolated(operator=operator.name, reason=reason)
        if slot.role is Role.BUFFER:
            return self.build.buffer(name, type.with_dtype(DType.F32), slot.init, span=span)
        init = slot.init
        chosen = creation.arguments.get("init")
        is_last = slot.name == "weight" or (slot.name == "bias" and chosen == "zeros")
        if isinstance(chosen, str) and chosen and is_last:
            init = chosen
        fan_in = slot.fan_in(creation) if slot.fan_in is not None else 1
        return self.build.param(name, type, init=init, fan_in=fan_in, span=span)
