"""From values of parameters to a `Wiring`, doing anew only what depends on what changed.

Each statement's effect is kept under what it reads: the static values, and the types of tensors. Names stand
for numbered values and types while a point is taken through the statements, so that asking whether a
statement met the same before is one look-up. Blocks are entered: a `repeat` of many turns is many known
statements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from esper.ir.canonical import RESULT_BITS
from esper.ir.graph import Node, Value, frozen_attrs
from esper.ir.types import DType, TensorType
from esper.lang import Bound, ParameterValue
from esper.lang.ast import Expression, If, Parameter, Range, Repeat, Statement, names_in
from esper.lang.library import Loaded
from esper.lang.parameters import all_parameters
from esper.lang.scope import What
from esper.lang.settings import Settings
from esper.lang.single import Effect, Given, Simple, Single, choices_in, reads_of, stand_in, steps_of
from esper.lang.statements import MAX_REPEATS
from esper.lang.values import Static
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.wiring import Operands, Piece, Pieces, Wiring

MAX_NODES = 100_000
"""Of one graph, so that nested repeats end in bounded time."""


@dataclass(frozen=True, slots=True)
class Deed:
    """An effect in pieces. operands: values of its own, or -1, -2, … for the first, second, … name that the
    statement reads; None for absent ones; the seed is one more name. bound: with the number of what is bound,
    and for tensors the value. updates: by position of the buffer."""

    pieces: tuple[Piece, ...]
    operands: tuple[Operands, ...]
    inputs: tuple[int, ...]
    bound: tuple[tuple[str, int, int | None], ...]
    outputs: tuple[tuple[str, int], ...]
    updates: tuple[tuple[int, int], ...]
    constraints: tuple[Bound, ...]
    draws: int
    reads_seed: bool


@dataclass(slots=True)
class Known:
    """One simple statement. reads: by the branches that its `choice` expressions take."""

    statement: Simple
    choices: tuple[str, ...]
    reads: dict[tuple[int | None, ...], tuple[str, ...]] = field(default_factory=dict)
    deeds: dict[tuple[int | None, ...], Deed | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Elaborated:
    """The wiring of one point, and the constraints that the blueprint states there."""

    wiring: Wiring
    constraints: tuple[Bound, ...]


class Elaboration:
    """Of one blueprint under one set of settings."""

    def __init__(self, loaded: Loaded, settings: Settings, table: Pieces) -> None:
        self.table = table
        self.blueprint = loaded.blueprint
        self.body = _in_steps(loaded.blueprint.body)
        self.single = Single(loaded, settings)
        self.numbers: dict[object, int] = {}
        self.givens: list[Given] = []
        self.known: dict[int, Known] = {}
        self.expressions: dict[int, tuple[tuple[str, ...], dict[tuple[int | None, ...], Static | None]]] = {}
        self.parameters = [(p, _names_of(p)) for p in all_parameters(self.blueprint)]
        self.names = frozenset(p.name.text for p, _ in self.parameters)
        self.values: dict[tuple[object, ...], int | None] = {}
        self.seed = table.piece("seed", frozen_attrs({}), (), (TensorType(DType.I64),))

    def at(self, values: Mapping[str, ParameterValue]) -> Elaborated:
        """As `lower_loaded`. Raises `Unforeseen` for all that it refuses, and says nothing of why."""
        return _Run(self, values).elaborated()

    def number(self, what: What, value: TensorType | Static) -> int:
        """Of a name's value; of tensors, of the type."""
        key = type(value), str(value) if isinstance(value, float) else value  # 0.0 is not -0.0
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.givens)
            self.givens.append(Given(what, value))
        return found

    def parameter(
        self, index: int, values: Mapping[str, ParameterValue], names: Mapping[str, int]
    ) -> int | None:
        """The number of the value of parameter number `index`; None where it is refused."""
        parameter, reads = self.parameters[index]
        given = values.get(parameter.name.text)
        key = index, type(given), given, *[names.get(name) for name in reads]
        if key not in self.values:
            found = self.single.parameter(parameter, values, self.given(reads, names))
            self.values[key] = None if found is None else self.number(What.PARAMETER, found)
        return self.values[key]

    def static(self, expression: Expression, names: Mapping[str, int]) -> Static | None:
        """The value of a static expression; None where there is an error."""
        entry = self.expressions.get(id(expression))
        if entry is None:
            reads = tuple(dict.fromkeys(name.text for name in names_in(expression)))
            entry = self.expressions[id(expression)] = reads, {}
        reads, found = entry
        key = tuple([names.get(name) for name in reads])
        if key not in found:
            found[key] = self.single.value(expression, self.given(reads, names))
        return found[key]

    def deed(self, statement: Simple, names: Mapping[str, int]) -> tuple[Deed, tuple[str, ...]]:
        """What `statement` does, and the names that it reads. Raises `Unforeseen` where there is an error."""
        known = self.known.get(id(statement))
        if known is None:
            known = self.known[id(statement)] = Known(statement, choices_in(statement))
        taken = tuple([names.get(name) for name in known.choices])
        reads = known.reads.get(taken)
        if reads is None:
            chosen = {
                name: str(self.givens[number].value)
                for name, number in zip(known.choices, taken, strict=True)
                if number is not None
            }
            reads = known.reads[taken] = reads_of(statement, chosen)
        key = (
            (*taken, *[names.get(name) for name in reads])
            if taken
            else tuple([names.get(name) for name in reads])
        )
        if key not in known.deeds:
            effect = self.single.effect(statement, self.given(reads, names))
            known.deeds[key] = None if effect is None else self._deed(effect, reads)
        deed = known.deeds[key]
        if deed is None:
            raise Unforeseen("a statement that is refused")
        return deed, reads

    def given(self, reads: Sequence[str], names: Mapping[str, int]) -> dict[str, Given]:
        return {name: self.givens[names[name]] for name in reads if name in names}

    def _deed(self, effect: Effect, reads: Sequence[str]) -> Deed:
        own: dict[str, int] = {}
        others = {stand_in(name): -1 - index for index, name in enumerate(reads)}
        nodes: list[Node] = []
        for node in effect.nodes:
            if node.op == "seed":
                others[node.name] = -1 - len(reads)
            else:
                own[node.name] = len(nodes)
                nodes.append(node)

        def code(value: Value) -> int:
            return (
                others[value.node] if value.node in others else own[value.node] << RESULT_BITS | value.index
            )

        def type_of(value: Value) -> TensorType:
            return effect.types[value.node][value.index]

        pieces, operands = [], []
        for node in nodes:
            types = tuple([None if value is None else type_of(value) for value in node.operands])
            pieces.append(self.table.piece(node.op, node.attrs, types, node.types))
            operands.append(tuple(None if value is None else code(value) for value in node.operands))
        bound: list[tuple[str, int, int | None]] = []
        for name, what, value in effect.bound:
            if isinstance(value, Value):
                bound.append((name, self.number(what, type_of(value)), code(value)))
            else:
                bound.append((name, self.number(what, value), None))
        return Deed(
            tuple(pieces),
            tuple(operands),
            tuple(index for index, node in enumerate(nodes) if node.op == "input"),
            tuple(bound),
            tuple((name, code(value)) for name, value in effect.outputs),
            tuple((own[name], code(value)) for name, value in effect.updates),
            effect.constraints,
            effect.draws,
            len(nodes) < len(effect.nodes),
        )


def _in_steps(statements: Sequence[Statement]) -> tuple[Statement, ...]:
    """`statements` with pipelines taken apart, in blocks, too."""
    found: list[Statement] = []
    for statement in statements:
        match statement:
            case Repeat(body=body):
                found.append(replace(statement, body=_in_steps(body)))
            case If(body=body, otherwise=otherwise):
                found.append(replace(statement, body=_in_steps(body), otherwise=_in_steps(otherwise)))
            case _:
                found += steps_of(statement)
    return tuple(found)


def _names_of(parameter: Parameter) -> tuple[str, ...]:
    """What its default and its domain read."""
    domain = parameter.domain
    written: list[Expression | None] = [parameter.default]
    if isinstance(domain, Range):
        written += [domain.low, domain.high, domain.step]
    elif domain is not None:
        written += domain.choices
    found = (name.text for expression in written if expression is not None for name in names_in(expression))
    return tuple(dict.fromkeys(found))


class _Run:
    """One point. names: what each name stands for, by number. values: of the names that are tensors."""

    def __init__(self, elaboration: Elaboration, values: Mapping[str, ParameterValue]) -> None:
        self.elaboration = elaboration
        self.given = values
        self.names: dict[str, int] = {}
        self.values: dict[str, int] = {}
        self.pieces: list[Piece] = []
        self.operands: list[Operands] = []
        self.inputs: list[int] = []
        self.outputs: dict[str, int] = {}
        self.updates: dict[int, int] = {}
        self.constraints: list[Bound] = []
        self.draws = 0
        self.seed: int | None = None

    def elaborated(self) -> Elaborated:
        elaboration = self.elaboration
        if not self.given.keys() <= elaboration.names:
            raise Unforeseen("a parameter that there is not")
        for index, (parameter, _) in enumerate(elaboration.parameters):
            number = elaboration.parameter(index, self.given, self.names)
            if number is None:
                raise Unforeseen("a parameter that is refused")
            self.names[parameter.name.text] = number
        self._take_all(elaboration.body)
        if not self.outputs or not self.inputs:
            raise Unforeseen("a graph without ends")
        wiring = Wiring(self.pieces, self.operands, self.inputs, [*self.outputs.values()], self.updates)
        return Elaborated(wiring, tuple(self.constraints))

    def _take_all(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            if isinstance(statement, Repeat):
                self._repeat(statement)
            elif isinstance(statement, If):
                self._if(statement)
            else:
                self._take(statement)

    def _take(self, statement: Simple) -> None:
        deed, reads = self.elaboration.deed(statement, self.names)
        pieces, operands, values = self.pieces, self.operands, self.values
        shift = len(pieces) << RESULT_BITS
        around = [values.get(name) for name in reads]
        if deed.reads_seed:
            around.append(self._seed())
            shift = len(pieces) << RESULT_BITS
        if deed.draws:
            offset = self.draws
            self.draws += deed.draws
            moved = self.elaboration.table.moved
            pieces += [p if p.offset is None else moved(p, p.offset + offset) for p in deed.pieces]
        else:
            pieces += deed.pieces
        for own in deed.operands:
            operands.append(
                tuple(
                    [
                        None if value is None else value + shift if value >= 0 else around[-1 - value]
                        for value in own
                    ]
                )
            )

        def placed(value: int) -> int:
            if value >= 0:
                return value + shift
            found = around[-1 - value]
            assert found is not None
            return found

        self.inputs += [(shift >> RESULT_BITS) + position for position in deed.inputs]
        for name, number, value in deed.bound:
            if name in self.names and (value is None or name not in values):
                raise Unforeseen("a name that is bound already")
            self.names[name] = number
            if value is not None:
                values[name] = placed(value)
        for name, value in deed.outputs:
            if name in self.outputs:
                raise Unforeseen("an output that is there already")
            self.outputs[name] = placed(value)
        for buffer, value in deed.updates:
            self.updates[(shift >> RESULT_BITS) + buffer] = placed(value)
        self.constraints += deed.constraints

    def _seed(self) -> int:
        """The graph's one seed."""
        if self.seed is None:
            self.seed = len(self.pieces) << RESULT_BITS
            self.pieces.append(self.elaboration.seed)
            self.operands.append(())
        return self.seed

    def _block(self, statements: Sequence[Statement], index: tuple[str, int] | None = None) -> None:
        before = set(self.names)
        if index is not None:
            if index[0] in self.names:
                raise Unforeseen("a name that is bound already")
            self.names[index[0]] = index[1]
        self._take_all(statements)
        for name in [name for name in self.names if name not in before and name not in self.values]:
            del self.names[name]

    def _repeat(self, statement: Repeat) -> None:
        count = self.elaboration.static(statement.count, self.names)
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MAX_REPEATS:
            raise Unforeseen("a number of repetitions that is refused")
        for turn in range(count):
            index = None
            if statement.index is not None:
                index = statement.index.text, self.elaboration.number(What.INDEX, turn)
            self._block(statement.body, index)
            if len(self.pieces) > MAX_NODES:
                raise Unforeseen("a graph that is too large")

    def _if(self, statement: If) -> None:
        condition = self.elaboration.static(statement.condition, self.names)
        if not isinstance(condition, bool):
            raise Unforeseen("a condition that is refused")
        self._block(statement.body if condition else statement.otherwise)
