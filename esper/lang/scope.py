"""The one scope of a blueprint: what each name is bound to, where, and whether it was ever read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

from esper.errors import Span
from esper.lang.ast import Name
from esper.lang.diagnostics import Note
from esper.lang.errors import AlreadyBound, UnknownName
from esper.lang.names import did_you_mean
from esper.lang.values import POISON, AnyValue

Place = tuple[int, int]
"""Line and column, from 1, of a name in the source of a blueprint."""


def place_of(name: Name) -> Place:
    """Where `name` is written."""
    return name.span.line, name.span.column


class What(Enum):
    """What a name was bound as; the value reads in a message."""

    PARAMETER = "a parameter"
    LET = "a static value"
    INDEX = "the index of a `repeat`"
    SIZE = "a size"
    INPUT = "an input"
    TENSOR = "a tensor"
    DAMAGED = "damaged"

    @property
    def may_be_rebound(self) -> bool:
        return self in (What.INPUT, What.TENSOR, What.DAMAGED)


@dataclass(slots=True)
class Bound:
    value: AnyValue
    what: What
    span: Span
    is_read: bool = False


@dataclass(slots=True)
class Scope:
    """Names to what they are bound to, in the order of binding."""

    names: dict[str, Bound] = field(default_factory=dict)
    ended: list[tuple[str, Bound]] = field(default_factory=list)
    """What blocks bound for themselves, kept to say what was never read."""
    declared: dict[str, Span] = field(default_factory=dict)
    """All that the blueprint binds anywhere, to say of a name that is not bound yet where it will be."""
    asked: set[str] = field(default_factory=set)
    """Names that were read before they were bound."""
    found: dict[Place, tuple[AnyValue, ...]] = field(default_factory=dict)
    """What was first bound to the name at each place, and the results of each call by its name's place."""

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[tuple[str, Bound]]:
        return iter(self.names.items())

    def bind(self, name: Name, value: AnyValue, what: What) -> None:
        """Binds `name`. Raises `AlreadyBound` unless both are tensors."""
        before = self.names.get(name.text)
        is_damaged = before is not None and before.what is What.DAMAGED
        if before is not None and not is_damaged and not (before.what.may_be_rebound and what.may_be_rebound):
            notes = (Note("bound here", before.span),)
            raise AlreadyBound(name=name.text, what=before.what.value, span=name.span, notes=notes)
        is_read = name.text in self.asked or (before is not None and before.is_read)
        self.note(name, (value,))
        self.names[name.text] = Bound(value, what, name.span if before is None else before.span, is_read)

    def note(self, name: Name, values: tuple[AnyValue, ...]) -> None:
        """Keeps what `name` stood for where it is written; of a repeated statement, the first time."""
        self.found.setdefault(place_of(name), values)

    def mark_read(self, names: Iterable[Name]) -> None:
        """Counts `names` as read, without their values: what is not elaborated uses them all the same."""
        for name in names:
            if name.text in self.names:
                self.names[name.text].is_read = True

    def damage(self, names: frozenset[str], span: Span) -> None:
        """Binds names whose statements could not be read, so that their uses are no errors."""
        for name in sorted(names - self.names.keys()):
            self.names[name] = Bound(POISON, What.DAMAGED, span, is_read=True)

    @contextmanager
    def block(self) -> Iterator[None]:
        """Inside, static values are bound for the block alone; tensors are the blueprint's."""
        before = set(self.names)
        try:
            yield
        finally:
            for name in [name for name in self.names if name not in before]:
                if self.names[name].what in (What.LET, What.INDEX):
                    self.ended.append((name, self.names.pop(name)))

    def refuse_later(self, name: Name) -> None:
        """Raises `UnknownName` if `name` is not bound where it stands, but elsewhere in the blueprint."""
        place = self.declared.get(name.text)
        if place is None:
            return
        is_later = (place.line, place.column) > (name.span.line, name.span.column)
        self.asked.add(name.text)
        where = "it is bound further down" if is_later else "it is bound in a block, and there alone"
        raise UnknownName(
            name=name.text, suggestion=where, span=name.span, notes=(Note("bound here", place),)
        )

    def read(self, name: Name) -> AnyValue:
        """The value of `name`. Raises `UnknownName` with the closest name that is bound."""
        bound = self.names.get(name.text)
        if bound is None:
            self.refuse_later(name)
            raise UnknownName(name=name.text, suggestion=did_you_mean(name.text, self.names), span=name.span)
        bound.is_read = True
        return bound.value
