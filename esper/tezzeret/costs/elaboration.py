"""From values of parameters to a `Wiring`, doing anew only what depends on what changed.

Each statement's effect is kept under what it reads: the static values, and the types of tensors. Names stand
for numbered values and types while a point is taken through the statements, so that asking whether a
statement met the same before is one look-up. Sizes stand beside these numbers: a statement is elaborated once
for all of them, with holes in their places, and again only where sizes decide what it does. Blocks are
entered: a `repeat` of many turns is many known statements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from esper.errors import EsperError
from esper.ir.canonical import RESULT_BITS
from esper.ir.dims import Dim, Size
from esper.ir.graph import Node, Value, frozen_attrs
from esper.ir.types import DType, TensorType
from esper.lang import Bound, ParameterValue
from esper.lang.ast import Expression, Parameter, names_in, names_of
from esper.lang.domains import Domain
from esper.lang.library import Loaded
from esper.lang.parameters import all_parameters
from esper.lang.scope import What
from esper.lang.settings import Settings
from esper.lang.single import (
    Effect,
    Given,
    Simple,
    Single,
    choices_in,
    in_steps,
    reads_of,
    stand_in,
)
from esper.lang.values import Static, Unknown
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.holes import (
    WRITTEN_OUT,
    Apart,
    filled,
    filled_type,
    has_holes,
    hole,
    holes_of,
    is_counted,
    pattern,
    sizes_in,
    skeleton,
    standing,
)
from esper.tezzeret.costs.wiring import Operands, Piece, Pieces

Named = tuple[int, tuple[int, ...]]
"""What a name stands for: a numbered value or type, and what fills its holes."""

Names = Mapping[str, Named]

Met = tuple[Named | None, ...]
"""What names stand for that a statement reads."""


@dataclass(frozen=True, slots=True)
class Deed:
    """An effect in pieces. operands: values of its own, or -1, -2, … for the first, second, … name that the
    statement reads; None for absent ones; the seed is one more name. bound: with the number of what is bound,
    for tensors the value, and the sizes that fill its holes. updates: by position of the buffer. holes: of
    each piece, which of the statement's they are. apart: for which sizes it holds. is_inside: whether it is
    without inputs, outputs, updates and constraints."""

    pieces: tuple[Piece, ...]
    operands: tuple[Operands, ...]
    inputs: tuple[int, ...]
    bound: tuple[tuple[str, int, int | None, tuple[Size, ...]], ...]
    outputs: tuple[tuple[str, int], ...]
    updates: tuple[tuple[int, int], ...]
    constraints: tuple[Bound, ...]
    draws: int
    reads_seed: bool
    holes: tuple[tuple[int, ...], ...]
    apart: Apart
    is_inside: bool

    def done(self, values: tuple[int, ...]) -> Done | None:
        """The deed with `values` in the holes; None where these sizes may make the statement do else."""
        try:
            if not self.apart.holds(values):
                return None
            bound = []
            for name, number, value, sizes in self.bound:
                found = tuple([filled(size, values) for size in sizes])
                bound.append((name, (number, cast(tuple[int, ...], found)), value))
        except (EsperError, ArithmeticError):
            return None
        fills = tuple([tuple([values[index] for index in own]) for own in self.holes])
        if not all(map(Piece.takes, self.pieces, fills)):
            return None
        return Done(self, fills, tuple(bound))


@dataclass(frozen=True, slots=True)
class Done:
    """A deed at sizes. fills: of each piece. bound: names with what they stand for, and tensors' values."""

    deed: Deed
    fills: tuple[tuple[int, ...], ...]
    bound: tuple[tuple[str, Named, int | None], ...]


@dataclass(slots=True)
class Known:
    """One simple statement. reads: by the branches that its `choice` expressions take. general: the deeds
    that hold for many sizes, by what is read but for these, and by which of them are equal."""

    statement: Simple
    choices: tuple[str, ...]
    reads: dict[Met, tuple[str, ...]] = field(default_factory=dict)
    done: dict[Met, Done | None] = field(default_factory=dict)
    general: dict[tuple[int | None, ...], Deed | None] = field(default_factory=dict)


class Elaboration:
    """Of one blueprint under one set of settings."""

    def __init__(self, loaded: Loaded, settings: Settings, table: Pieces) -> None:
        self.table = table
        self.blueprint = loaded.blueprint
        self.body = in_steps(loaded.blueprint.body)
        self.single = Single(loaded, settings)
        self.numbers: dict[object, int] = {}
        self.givens: list[Given] = []
        self.known: dict[int, Known] = {}
        self.expressions: dict[int, tuple[tuple[str, ...], dict[Met, Static | None]]] = {}
        self.parameters = [(p, names_of(p)) for p in all_parameters(self.blueprint)]
        self.names = frozenset(p.name.text for p, _ in self.parameters)
        self.values: dict[tuple[object, ...], Named | None] = {}
        self.domains: dict[tuple[object, ...], Domain | None] = {}
        self.seed = table.piece("seed", frozen_attrs({}), (), (TensorType(DType.I64),))

    def number(self, what: What, value: TensorType | Static) -> int:
        """Of a name's value; of tensors, of the type."""
        key = type(value), str(value) if isinstance(value, float) else value  # 0.0 is not -0.0
        found = self.numbers.get(key)
        if found is None:
            found = self.numbers[key] = len(self.givens)
            self.givens.append(Given(what, value))
        return found

    def parameter(self, index: int, values: Mapping[str, ParameterValue], names: Names) -> Named | None:
        """What parameter number `index` stands for; None where it is refused."""
        parameter, reads = self.parameters[index]
        given = values.get(parameter.name.text)
        met = tuple([names.get(name) for name in reads])
        key = index, type(given), given, met
        if key not in self.values:
            found = self._parameter(parameter, values, self.given(reads, names), (index, met))
            if found is None:
                self.values[key] = None
            elif parameter.kind.text == "dim" and isinstance(found, int) and found > WRITTEN_OUT:
                self.values[key] = self.number(What.PARAMETER, hole(0)), (found,)
            else:
                self.values[key] = self.number(What.PARAMETER, found), ()
        return self.values[key]

    def _parameter(
        self,
        parameter: Parameter,
        values: Mapping[str, ParameterValue],
        names: Mapping[str, Given],
        place: tuple[object, ...],
    ) -> Static | None:
        """Of integers that are listed in the domain, which is made once, no more is asked."""
        given = values.get(parameter.name.text)
        listed = self.domains.get(place)
        is_number = type(given) is int and parameter.kind.text in ("dim", "int")
        if is_number and isinstance(listed, tuple) and given in listed:
            return given
        found = self.single.parameter(parameter, values, names)
        if found is not None and place not in self.domains:  # its default is in order, then
            self.domains[place] = self.single.domain(parameter, names)
        return found

    def static(self, expression: Expression, names: Names) -> Static | None:
        """The value of a static expression; None where there is an error."""
        entry = self.expressions.get(id(expression))
        if entry is None:
            reads = tuple(dict.fromkeys(name.text for name in names_in(expression)))
            entry = self.expressions[id(expression)] = reads, {}
        reads, found = entry
        met = tuple([names.get(name) for name in reads])
        if met not in found:
            found[met] = self.single.value(expression, self.given(reads, names))
        return found[met]

    def done(self, statement: Simple, names: Names) -> tuple[Done, tuple[str, ...]]:
        """What `statement` does, and the names that it reads. Raises `Unforeseen` where there is an error."""
        known = self.known.get(id(statement))
        if known is None:
            known = self.known[id(statement)] = Known(statement, choices_in(statement))
        taken = tuple([names.get(name) for name in known.choices])
        reads = known.reads.get(taken)
        if reads is None:
            chosen = {
                name: str(self.givens[named[0]].value)
                for name, named in zip(known.choices, taken, strict=True)
                if named is not None
            }
            reads = known.reads[taken] = reads_of(statement, chosen)
        met = tuple([names.get(name) for name in reads])
        if taken:
            met = *taken, *met
        if met not in known.done:
            known.done[met] = self._done(known, reads, taken, names)
        done = known.done[met]
        if done is None:
            raise Unforeseen("a statement that is refused")
        return done, reads

    def _done(self, known: Known, reads: Sequence[str], taken: Met, names: Names) -> Done | None:
        found = {name: names[name] for name in reads if name in names}
        codes, values = pattern([value for _, own in found.values() for value in own])
        if values:
            numbers = [named and named[0] for named in (*taken, *map(names.get, reads))]
            key = *numbers, *codes
            if key not in known.general:
                known.general[key] = self._general(known.statement, reads, found, codes, len(values))
            deed = known.general[key]
            done = None if deed is None else deed.done(values)
            if done is not None:
                return done
        effect = self.single.effect(known.statement, self.given(reads, names))
        deed = None if effect is None else self._deed(effect, reads)
        return None if deed is None else deed.done(())

    def _general(
        self, statement: Simple, reads: Sequence[str], names: Names, codes: Sequence[int], count: int
    ) -> Deed | None:
        """The deed for all sizes that these codes stand for; None where it takes the sizes to tell."""
        sizes = iter(standing(codes))
        given = {
            name: self._given(number, [next(sizes) for _ in own]) for name, (number, own) in names.items()
        }
        symbols = {str(size): size for size in map(hole, range(count))}
        effect = self.single.effect(statement, given, symbols)
        return None if effect is None else self._deed(effect, reads)

    def given(self, reads: Sequence[str], names: Names) -> dict[str, Given]:
        return {name: self._given(*names[name]) for name in reads if name in names}

    def _given(self, number: int, by: Sequence[Size]) -> Given:
        """Number `number` with the holes filled."""
        given = self.givens[number]
        if not by:
            return given
        value = given.value
        if isinstance(value, TensorType):
            return Given(given.what, filled_type(value, by))
        assert isinstance(value, Dim)
        return Given(given.what, filled(value, by))

    def _deed(self, effect: Effect, reads: Sequence[str]) -> Deed | None:
        """None where holes are in what is no size."""
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

        pieces, holes, operands = [], [], []
        for node in nodes:
            types = tuple([None if value is None else type_of(value) for value in node.operands])
            if has_holes(inner for _, body in node.bodies for inner in body.nodes):
                return None
            piece, chosen = self.table.general(node.op, node.attrs, types, node.types)
            pieces.append(piece)
            holes.append(chosen)
            operands.append(tuple(None if value is None else code(value) for value in node.operands))
        bound: list[tuple[str, int, int | None, tuple[Size, ...]]] = []
        for name, what, value in effect.bound:
            if isinstance(value, Value):
                type, sizes = skeleton(type_of(value))
                bound.append((name, self.number(what, type), code(value), sizes))
            elif isinstance(value, Dim) and is_counted(value):
                bound.append((name, self.number(what, hole(0)), None, (value,)))
            elif isinstance(value, Unknown) or any(map(holes_of, _sizes_of(value))):
                return None
            else:
                bound.append((name, self.number(what, value), None, ()))
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
            tuple(holes),
            Apart.of(
                size
                for name, types in effect.types.items()
                for size in sizes_in(nodes[own[name]].attrs if name in own else {}, types)
            ),
            not (effect.outputs or effect.updates or effect.constraints or "input" in {n.op for n in nodes}),
        )


def _sizes_of(value: Static) -> Iterator[Dim]:
    return (item for item in (value if isinstance(value, tuple) else (value,)) if isinstance(item, Dim))
