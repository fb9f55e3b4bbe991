"""One point of a space, taken through the statements of its blueprint, which gives its `Wiring`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from esper.ir.canonical import RESULT_BITS
from esper.lang import Bound, ParameterValue
from esper.lang.ast import If, Repeat, Statement
from esper.lang.scope import What
from esper.lang.single import Simple
from esper.lang.statements import MAX_REPEATS
from esper.tezzeret.costs.elaboration import Elaboration, Named
from esper.tezzeret.costs.errors import Unforeseen
from esper.tezzeret.costs.wiring import Operands, Piece, Wiring

MAX_NODES = 100_000
"""Of one graph, so that nested repeats end in bounded time."""


@dataclass(frozen=True, slots=True)
class Elaborated:
    """The wiring of one point, and the constraints that the blueprint states there."""

    wiring: Wiring
    constraints: tuple[Bound, ...]


def elaborated(elaboration: Elaboration, values: Mapping[str, ParameterValue]) -> Elaborated:
    """As `lower_loaded`. Raises `Unforeseen` for all that it refuses, and says nothing of why."""
    return _Taken(elaboration, values).elaborated()


class _Taken:
    """One point. names: what each name stands for. values: of the names that are tensors."""

    def __init__(self, elaboration: Elaboration, values: Mapping[str, ParameterValue]) -> None:
        self.elaboration = elaboration
        self.given = values
        self.names: dict[str, Named] = {}
        self.values: dict[str, int] = {}
        self.pieces: list[Piece] = []
        self.fills: list[tuple[int, ...]] = []
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
            named = elaboration.parameter(index, self.given, self.names)
            if named is None:
                raise Unforeseen("a parameter that is refused")
            self.names[parameter.name.text] = named
        self._take_all(elaboration.body)
        if not self.outputs or not self.inputs:
            raise Unforeseen("a graph without ends")
        wiring = Wiring(
            self.pieces, self.fills, self.operands, self.inputs, [*self.outputs.values()], self.updates
        )
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
        done, reads = self.elaboration.done(statement, self.names)
        deed = done.deed
        pieces, operands, values, names = self.pieces, self.operands, self.values, self.names
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
        self.fills += done.fills
        for own in deed.operands:
            if own:
                own = tuple(
                    [
                        None if value is None else value + shift if value >= 0 else around[-1 - value]
                        for value in own
                    ]
                )
            operands.append(own)
        for name, named, value in done.bound:
            if name in names and (value is None or name not in values):
                raise Unforeseen("a name that is bound already")
            names[name] = named
            if value is not None:
                values[name] = value + shift if value >= 0 else cast(int, around[-1 - value])
        if deed.is_inside:
            return
        self.inputs += [(shift >> RESULT_BITS) + position for position in deed.inputs]
        for name, value in deed.outputs:
            if name in self.outputs:
                raise Unforeseen("an output that is there already")
            self.outputs[name] = value + shift if value >= 0 else cast(int, around[-1 - value])
        for buffer, value in deed.updates:
            self.updates[(shift >> RESULT_BITS) + buffer] = (
                value + shift if value >= 0 else cast(int, around[-1 - value])
            )
        self.constraints += deed.constraints

    def _seed(self) -> int:
        """The graph's one seed."""
        if self.seed is None:
            self.seed = len(self.pieces) << RESULT_BITS
            self.pieces.append(self.elaboration.seed)
            self.fills.append(())
            self.operands.append(())
        return self.seed

    def _block(self, statements: Sequence[Statement], index: tuple[str, Named] | None = None) -> None:
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
                index = statement.index.text, (self.elaboration.number(What.INDEX, turn), ())
            self._block(statement.body, index)
            if len(self.pieces) > MAX_NODES:
                raise Unforeseen("a graph that is too large")

    def _if(self, statement: If) -> None:
        condition = self.elaboration.static(statement.condition, self.names)
        if not isinstance(condition, bool):
            raise Unforeseen("a condition that is refused")
        self._block(statement.body if condition else statement.otherwise)
