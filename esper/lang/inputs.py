"""The types of a blueprint's inputs: as declared, with names for sizes, or as a caller's tensor has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esper.errors import EsperError, Span
from esper.ir.dims import Dim, Size, symbol
from esper.ir.types import MAX_RANK, DType, TensorType
from esper.lang.ast import Blueprint, Input, Name, Spread, TensorTypeExpr, subexpressions
from esper.lang.calls import element_type
from esper.lang.diagnostics import Report
from esper.lang.errors import ArgumentShape, BadShape, SeveralSpreads, SizeLikeParameter, UnknownName
from esper.lang.evaluate import Evaluator
from esper.lang.names import closest
from esper.lang.parameters import all_parameters
from esper.lang.scope import Scope, What
from esper.lang.sizes_at_run_time import can_be_equal, tell_apart
from esper.lang.values import Poison, describe, is_size, shown

DEFAULT_RANK = 2


@dataclass(slots=True)
class InputTypes:
    """Reads the declared types of one blueprint's inputs and binds the sizes in them.

    ranks: how many axes each `...S` stands for (else 2). precision: replaces f32.
    sizes: the size symbols so far, in order.
    """

    blueprint: Blueprint
    scope: Scope
    evaluator: Evaluator
    report: Report
    ranks: Mapping[str, int]
    precision: DType | None
    sizes: list[str] = field(default_factory=list)

    def declared(self, expression: TensorTypeExpr) -> TensorType | None:
        """The type that an input declares; fresh names in it become size symbols. None after an error."""
        dtype = self._dtype(expression)
        shape: list[Size] = []
        is_whole = True
        has_spread = False
        for item in expression.shape.items:
            if isinstance(item, Spread):
                if has_spread:
                    self.report.add(SeveralSpreads(), item.span)
                has_spread = True
                shape.extend(self._remaining_axes(item))
            elif isinstance(item, Name) and item.text not in self.scope:
                shape.append(self._fresh_size(item))
            else:
                parts = [part for part in subexpressions(item) if isinstance(part, Name)]
                unbound = [name for name in parts if name.text not in self.scope]
                if unbound and not self.blueprint.damaged:
                    self.report.add(unknown_size(unbound[0].text, self.scope), unbound[0].span)
                    is_whole = False
                    continue
                size = self.evaluator.static(item, "a size")
                if isinstance(size, int | Dim) and is_size(size) and not (isinstance(size, int) and size < 1):
                    shape.append(size)
                    continue
                is_whole = False
                if not isinstance(size, Poison):
                    reason = f"{describe(size)} as a size, expected an integer of at least 1"
                    self.report.add(BadShape(reason=reason, suggestion="", span=item.span))
        if len(shape) > MAX_RANK:
            reason = f"{len(shape)} axes are more than {MAX_RANK}"
            self.report.add(BadShape(reason=reason, suggestion="", span=expression.span))
            is_whole = False
        return TensorType(dtype, tuple(shape)) if dtype is not None and is_whole else None

    def given(self, statement: Input, found: TensorType, place: Span) -> TensorType:
        """Binds the sizes that `found`, the type of the caller's tensor, gives to the names of the input.

        Returns the type that the input then has, which differs from `found` in sizes that only a run can
        compare. Raises `ArgumentShape` where it cannot be of the declared type.
        """
        declared = statement.type
        items = declared.shape.items
        spread = next((index for index, item in enumerate(items) if isinstance(item, Spread)), None)
        fixed = len(items) - (spread is not None)
        dtype = self._dtype(declared)
        if dtype is not None and dtype is not found.dtype:
            raise self._misfit(statement, found, f"elements of {dtype}")
        if found.rank < fixed or (spread is None and found.rank != fixed):
            least = "at least " if spread is not None else ""
            raise self._misfit(statement, found, f"{least}{fixed} axes")
        axis = 0
        shape = list(found.shape)
        for item in items:
            if isinstance(item, Spread):
                rest = found.shape[axis : axis + found.rank - fixed]
                axis += found.rank - fixed
                if item.name.text not in self.scope:
                    self.scope.bind(item.name, rest, What.SIZE)
                elif isinstance(value := self.scope.read(item.name), tuple):
                    expected = f"the axes of `...{item.name.text}` as before"
                    if len(value) != len(rest):
                        raise self._misfit(statement, found, expected)
                    for index, known in enumerate(value, start=axis - len(rest)):
                        shape[index] = self._same(statement, found, index, known, expected, place)
                continue
            if isinstance(item, Name) and item.text not in self.scope:
                self.scope.bind(item, found.shape[axis], What.SIZE)
            else:
                size = self.evaluator.static(item, "a size")
                if isinstance(size, int | Dim):
                    expected = f"{shown(size)} on axis {axis}"
                    shape[axis] = self._same(statement, found, axis, size, expected, place)
            axis += 1
        return found.with_shape(tuple(shape))

    def _same(
        self, statement: Input, found: TensorType, axis: int, size: Size, expected: str, place: Span
    ) -> Size:
        """`size`, which `found` has on `axis` or may turn out to have. Raises `ArgumentShape`."""
        graph = self.evaluator.graph
        if found.shape[axis] != size:
            if not can_be_equal(found.shape[axis], size, frozenset() if graph is None else graph.settled):
                raise self._misfit(statement, found, expected)
            where = f"`{statement.name.text}` of `{self.blueprint.name.text}`"
            tell_apart(
                found.shape[axis],
                size,
                where,
                place,
                self.report,
                frozenset() if graph is None else graph.later,
            )
        return size

    def _misfit(self, statement: Input, found: TensorType, expected: str) -> EsperError:
        return ArgumentShape(
            name=statement.name.text,
            blueprint=self.blueprint.name.text,
            found=found,
            expected=expected,
            suggestion="",
        )

    def _dtype(self, expression: TensorTypeExpr) -> DType | None:
        name = expression.dtype
        is_spelled = name.text in DType._value2member_map_
        if not is_spelled and name.text in self.scope and isinstance(self.scope.read(name), Poison):
            return None
        try:
            dtype = element_type(name, self.scope)
        except EsperError as error:
            self.report.add(error)
            return None
        return self.precision if dtype is DType.F32 and self.precision is not None else dtype

    def _fresh_size(self, name: Name) -> Size:
        parameters = [p.name.text for p in self.blueprint.parameters if len(p.name.text) > 2]
        is_guessable = len(name.text) > 2 and self.blueprint.damaged is None
        similar = closest(name.text, parameters) if is_guessable else None
        if similar is not None:
            self.report.add(SizeLikeParameter(name=name.text, parameter=similar, span=name.span))
        size = symbol(name.text)
        self.sizes.append(name.text)
        self.scope.bind(name, size, What.SIZE)
        return size

    def _remaining_axes(self, spread: Spread) -> tuple[Size, ...]:
        name = spread.name
        if name.text in self.scope:
            value = self.scope.read(name)
            if isinstance(value, tuple):
                return value
            if isinstance(value, Poison):
                return ()
            reason = f"`...` before {describe(value)}, expected a fresh name for the remaining axes"
            self.report.add(BadShape(reason=reason, suggestion="", span=spread.span))
            return ()
        rank = self.ranks.get(name.text, DEFAULT_RANK)
        axes = tuple(symbol(f"{name.text}.{axis}") for axis in range(rank))
        self.sizes.append(name.text)
        self.scope.bind(name, axes, What.SIZE)
        return axes


def unknown_size(name: str, scope: Scope) -> UnknownName:
    """The error for an unbound name in an expression for a size, which could not be told from the size."""
    near = closest(name, (known for known, _ in scope)) if len(name) > 2 else None
    bind = f"a name alone binds a size; make it a parameter, `{name}: dim`, or bind it on an axis before"
    return UnknownName(name=name, suggestion=f"did you mean `{near}`?" if near else bind)


def sizes_from(blueprint: Blueprint, types: Mapping[str, TensorType]) -> dict[str, Size]:
    """The `dim` parameters that stand alone on an axis of an input, as the given tensors have them."""
    dims = {p.name.text for p in all_parameters(blueprint) if p.kind.text == "dim"}
    found: dict[str, Size] = {}
    for statement in blueprint.body:
        if not isinstance(statement, Input) or statement.name.text not in types:
            continue
        axes = list(types[statement.name.text].shape)
        items = list(statement.type.shape.items)
        while items and axes and not isinstance(items[0], Spread):
            _note(items.pop(0), axes.pop(0), dims, found)
        while items and axes and not isinstance(items[-1], Spread):
            _note(items.pop(), axes.pop(), dims, found)
    return found


def _note(item: object, size: Size, dims: set[str], found: dict[str, Size]) -> None:
    if isinstance(item, Name) and item.text in dims:
        found.setdefault(item.text, size)
