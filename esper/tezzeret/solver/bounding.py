"""Bounds from below on the figures of a whole box of points.

A box gives each parameter some values of its domain. Its points are elaborated at once: each name stands for
all static values, or types, that it may have, and a statement is taken for each combination of what it reads.
What a statement adds to a figure is at least the least over its combinations, and a graph has at least the
sum; which combinations go together is forgotten, so the bound may be lower than any point's figure, never
higher. It counts what no pass can save: weights, and the products that the outputs depend on, forward alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.types import TensorType
from esper.lang import ParameterValue, size_values
from esper.lang.ast import Expression, If, Repeat, Statement, names_in, names_of
from esper.lang.lower import settings_of
from esper.lang.parameters import all_parameters
from esper.lang.scope import What
from esper.lang.single import Effect, Given, Simple, Single, choices_in, in_steps, reads_of
from esper.lang.values import Static
from esper.passes import run_passes
from esper.tezzeret.costs.figures import work_of
from esper.tezzeret.evaluator import Evaluator
from esper.tezzeret.solver.least import NONE_FITS, Least, of_work
from esper.tezzeret.solver.validate import PRODUCING

MAX_COMBINATIONS = 5_000
"""Of what one statement reads; with more, nothing is proven."""
MAX_TURNS = 1_000
MAX_DEEDS = 8_000
"""Statements taken for all boxes together, each some tenths of a millisecond; with more nothing is proven."""

Box = Mapping[str, tuple[ParameterValue, ...]]


@dataclass(frozen=True, slots=True)
class Deed:
    """What one statement does. least: adds, its products counted as if the outputs depended on them. bound:
    names, the numbers of what they then stand for, and whether that is a tensor."""

    least: Least
    bound: tuple[tuple[str, int, bool], ...]
    is_output: bool


class TooMany(Exception):
    """More combinations of what statements read than are gone through: nothing is known of the box."""


class Bounding:
    """Bounds of one blueprint's boxes; what a statement does is remembered from box to box."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.blueprint = evaluator.loaded.blueprint
        self.body = in_steps(self.blueprint.body)
        self.parameters = [(one, names_of(one)) for one in all_parameters(self.blueprint)]
        self.single = Single(evaluator.loaded, settings_of({}, evaluator.sizes, evaluator.precision))
        self.numbers: dict[object, int] = {}
        self.givens: list[Given] = []
        self.deeds: dict[object, Deed | None] = {}
        self.values: dict[object, int | None] = {}
        self.products: dict[object, Least] = {}

    def least(self, box: Box) -> Least:
        """Raises `TooMany`."""
        return _Run(self, box).least()

    def number(self, what: What, value: TensorType | Static) -> int:
        """Of what a name may stand for; of tensors, of the type."""
        key = type(value), str(value) if isinstance(value, float) else value  # 0.0 is not -0.0
        if key not in self.numbers:
            self.numbers[key] = len(self.givens)
            self.givens.append(Given(what, value))
        return self.numbers[key]

    def parameter(
        self, index: int, values: Mapping[str, ParameterValue], names: Mapping[str, int]
    ) -> int | None:
        """The number of the value of parameter number `index`; None where it is refused."""
        parameter, _ = self.parameters[index]
        given = values.get(parameter.name.text)
        key = index, type(given), given, tuple(names.items())
        if key not in self.values:
            found = self.single.parameter(parameter, values, self._given(names))
            self.values[key] = None if found is None else self.number(What.PARAMETER, found)
        return self.values[key]

    def static(self, expression: Expression, names: Mapping[str, int]) -> Static | None:
        """None where there is an error."""
        return self.single.value(expression, self._given(names))

    def deed(self, statement: Simple, names: Mapping[str, int]) -> Deed | None:
        """None where the blueprint refuses it. Raises `TooMany`."""
        key = id(statement), tuple(names.items())
        if key not in self.deeds:
            if len(self.deeds) >= MAX_DEEDS:
                raise TooMany
            effect = self.single.effect(statement, self._given(names))
            self.deeds[key] = None if effect is None else self._deed(effect)
        return self.deeds[key]

    def _given(self, names: Mapping[str, int]) -> dict[str, Given]:
        return {name: self.givens[number] for name, number in names.items()}

    def _deed(self, effect: Effect) -> Deed:
        least = Least()
        for node in effect.nodes:
            operands = tuple(
                None if value is None else effect.types[value.node][value.index] for value in node.operands
            )
            sizes = self._sizes((*operands, *node.types))
            if node.op == "param":
                type = node.type
                least += Least(evaluate_size(type.elements, sizes), evaluate_size(type.bytes, sizes))
            elif operands:
                least += self._product(node, operands, sizes)
        bound = tuple(
            (name, self.number(what, effect.types[value.node][value.index]), True)
            if isinstance(value, Value)
            else (name, self.number(what, value), False)
            for name, what, value in effect.bound
        )
        return Deed(least, bound, bool(effect.outputs))

    def _sizes(self, types: Sequence[TensorType | None]) -> Mapping[str, int]:
        known = [type for type in types if type is not None]
        nodes = tuple(Node(f"x{n}", "input", (), frozen_attrs({}), (type,)) for n, type in enumerate(known))
        stems = {name.partition(".")[0] for type in known for name in type.symbols}
        sizes = {name: value for name, value in self.evaluator.sizes.items() if name in stems}
        return size_values(BlueprintIR("part", nodes, ()), sizes)

    def _product(self, node: Node, types: Sequence[TensorType | None], sizes: Mapping[str, int]) -> Least:
        """The products that the operator stands for, which no pass saves."""
        key = node.op, str(dict(node.attrs)), tuple(types)
        if key not in self.products:
            inputs = [
                Node(f"x{n}", "input", (), frozen_attrs({}), (type,))
                for n, type in enumerate(types)
                if type is not None
            ]
            operands = tuple(None if type is None else Value(f"x{n}") for n, type in enumerate(types))
            made = Node("made", node.op, operands, node.attrs, node.types)
            ir = run_passes(BlueprintIR("part", (*inputs, made), (("result", made.result()),)))
            works = [work_of(ir, one, sizes) for one in ir.nodes if one.op in PRODUCING]
            self.products[key] = sum((of_work(work) for work in works if work is not None), Least())
        return self.products[key]


@dataclass(slots=True)
class _Taken:
    """A statement that is taken at every point of the box. reads: the names' only makers, by number."""

    least: Least
    reads: frozenset[int] = frozenset()
    is_output: bool = False


@dataclass(slots=True)
class _Run:
    """One box. names: all numbers that each may stand for. makers: of each tensor, who may have made it."""

    bounding: Bounding
    box: Box
    names: dict[str, frozenset[int]] = field(default_factory=dict)
    tensors: set[str] = field(default_factory=set)
    makers: dict[str, frozenset[int]] = field(default_factory=dict)
    taken: list[_Taken] = field(default_factory=list)
    is_sure: bool = True
    """Whether the block at hand is entered at every point of the box."""

    def least(self) -> Least:
        bounding = self.bounding
        fixed = self.bounding.evaluator.fixed
        for index, (parameter, reads) in enumerate(bounding.parameters):
            name = parameter.name.text
            given: list[Mapping[str, ParameterValue]] = [{}]
            if name in self.box:
                given = [{name: value} for value in self.box[name]]
            elif name in fixed:
                given = [{name: fixed[name]}]
            found = {
                bounding.parameter(index, values, names)
                for values in given
                for names in self._combinations(reads)
            }
            if name in self.box:  # where it does not matter it has its default
                found |= {bounding.parameter(index, {}, names) for names in self._combinations(reads)}
            self.names[name] = frozenset(number for number in found if number is not None)
            if not self.names[name]:
                return NONE_FITS
        total = self._block(bounding.body)
        return total if total == NONE_FITS else total.weights + self._live_products()

    def _block(self, statements: Sequence[Statement]) -> Least:
        total = Least()
        for statement in statements:
            if isinstance(statement, Repeat):
                total += self._repeat(statement)
            elif isinstance(statement, If):
                total += self._if(statement)
            else:
                total += self._take(statement)
        return total

    def _take(self, statement: Simple) -> Least:
        choices = choices_in(statement)
        least: Least | None = None
        bound: dict[str, set[int]] = {}
        tensors: set[str] = set()
        read: list[frozenset[str]] = []
        is_output = True
        for taken in self._combinations(choices):
            chosen = {name: str(self.bounding.givens[number].value) for name, number in taken.items()}
            reads = reads_of(statement, chosen)
            for names in self._combinations([name for name in reads if name in self.names]):
                deed = self.bounding.deed(statement, {**names, **taken})
                if deed is None:
                    continue  # no point has these together, or the blueprint refuses it
                least = deed.least if least is None else least.least(deed.least)
                is_output &= deed.is_output
                read.append(frozenset(reads))
                for name, number, is_tensor in deed.bound:
                    bound.setdefault(name, set()).add(number)
                    if is_tensor:
                        tensors.add(name)
        if least is None:
            return NONE_FITS
        always = frozenset.intersection(*read)
        sole = [self.makers[name] for name in always if len(self.makers.get(name, ())) == 1]
        reads_surely = frozenset(maker for makers in sole for maker in makers)
        number = len(self.taken)
        self.taken.append(
            _Taken(least if self.is_sure else Least(), reads_surely if self.is_sure else frozenset(),
                   is_output and self.is_sure)
        )  # fmt: skip
        for name, numbers in bound.items():
            self.names[name] = frozenset(numbers)
            if name in tensors:
                self.tensors.add(name)
                self.makers[name] = frozenset({number})
        return least

    def _repeat(self, statement: Repeat) -> Least:
        counts = [count for count in self._values(statement.count) if type(count) is int]
        if not counts:
            return NONE_FITS
        total, least = Least(), min(counts)
        if max(counts) > MAX_TURNS:
            raise TooMany
        was_sure = self.is_sure
        for turn in range(max(counts)):
            names, makers = dict(self.names), dict(self.makers)
            if statement.index is not None:
                number = self.bounding.number(What.INDEX, turn)
                self.names[statement.index.text] = frozenset({number})
            self.is_sure = was_sure and turn < least
            cost = self._block(statement.body)
            self._leave(names)
            if turn < least:
                total += cost
            elif cost == NONE_FITS:  # no point has as many turns
                self.names, self.makers = names, makers
                break
            else:
                self._join(names, makers)
        self.is_sure = was_sure
        return total

    def _if(self, statement: If) -> Least:
        found = {value for value in self._values(statement.condition) if isinstance(value, bool)}
        if not found:
            return NONE_FITS
        names, makers, was_sure = dict(self.names), dict(self.makers), self.is_sure
        if len(found) == 1:
            total = self._block(statement.body if True in found else statement.otherwise)
            self._leave(names)
            return total
        self.is_sure = False
        one = self._block(statement.body)
        self._leave(names)
        after, by = self.names, self.makers
        self.names, self.makers = dict(names), dict(makers)
        other = self._block(statement.otherwise)
        self._leave(names)
        self.is_sure = was_sure
        if other == NONE_FITS:
            self.names, self.makers = after, by
        elif one != NONE_FITS:
            self._join(after, by)
        return one.least(other)

    def _leave(self, before: Mapping[str, object]) -> None:
        """Static names of a block end with it."""
        for name in [name for name in self.names if name not in before and name not in self.tensors]:
            del self.names[name]

    def _join(self, names: Mapping[str, frozenset[int]], makers: Mapping[str, frozenset[int]]) -> None:
        """What names stand for if the last block may have been left out."""
        for name, numbers in names.items():
            self.names[name] = self.names.get(name, frozenset()) | numbers
        for name, those in makers.items():
            self.makers[name] = self.makers.get(name, frozenset()) | those

    def _values(self, expression: Expression) -> Iterable[object]:
        reads = dict.fromkeys(name.text for name in names_in(expression))
        for names in self._combinations([name for name in reads if name in self.names]):
            yield self.bounding.static(expression, names)

    def _combinations(self, names: Sequence[str]) -> Iterable[dict[str, int]]:
        known = [name for name in names if name in self.names]
        if math.prod(len(self.names[name]) for name in known) > MAX_COMBINATIONS:
            raise TooMany
        for numbers in itertools.product(*(sorted(self.names[name]) for name in known)):
            yield dict(zip(known, numbers, strict=True))

    def _live_products(self) -> Least:
        """Those that an output depends on at every point."""
        live = {number for number, one in enumerate(self.taken) if one.is_output}
        pending = list(live)
        while pending:
            for maker in self.taken[pending.pop()].reads - live:
                live.add(maker)
                pending.append(maker)
        return sum((self.taken[number].least.products for number in live), Least())
