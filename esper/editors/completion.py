"""What may be written at a place: names in scope, what can be called there, arguments, values, keywords."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from esper.editors.analysis import Analysis
from esper.editors.callees import (
    DTYPES,
    TRUTHS,
    Callee,
    blueprint_callee,
    kind_text,
    named_callee,
    operator_callee,
    text_of,
)
from esper.editors.cursor import Cursor, Slot, cursor_at
from esper.editors.hover import argument_text, callee_text, keyword_text
from esper.editors.names import Occurrence, block_at
from esper.editors.vocabulary import KEYWORDS, QUANTITIES
from esper.ir.operator import OPERATORS
from esper.lang.ast import Parameter
from esper.lang.elsewhere import library_names
from esper.lang.evaluate import language_operators
from esper.lang.parameters import KINDS
from esper.lang.scope import What
from esper.lang.settings import PRECISIONS
from esper.lang.units import library_unit


@dataclass(frozen=True, slots=True)
class Completion:
    """One thing that may be written. sort: argument, value, name, blueprint, operator or keyword.

    text: what is inserted in place of the word that starts at `start`.
    """

    label: str
    sort: str
    start: int
    text: str
    detail: str = ""
    markdown: str = ""


SORTS = ("argument", "value", "name", "blueprint", "operator", "keyword")
"""What comes first in a list comes first here."""

_AFTER_EXPRESSION = ("and", "or", "as", "on", "step", "in", "else")
_IN_EXPRESSION = ("not", "choice", *TRUTHS)


def complete(analysis: Analysis, offset: int) -> list[Completion]:
    """All that may be written at `offset`, the likeliest first; what is written already does not filter."""
    cursor = cursor_at(analysis, offset)
    found: dict[str, Completion] = {}
    for completion in _Completions(analysis, cursor, offset).all():
        found.setdefault(completion.label, completion)
    return sorted(found.values(), key=lambda completion: SORTS.index(completion.sort))


@dataclass(frozen=True, slots=True)
class _Completions:
    analysis: Analysis
    cursor: Cursor
    offset: int

    def all(self) -> Iterator[Completion]:
        match self.cursor.slot:
            case Slot.NOTHING:
                return
            case Slot.FILE:
                yield from self._keywords(("blueprint", "import"))
            case Slot.LIBRARY:
                yield from self._library()
            case Slot.KIND:
                yield from (self._plain(kind, "value", KINDS[kind]) for kind in KINDS if kind != "choice")
            case Slot.AFTER_PARAMETER:
                yield from self._keywords(("in", "step", "and", "or"))
                yield self._plain("log", "keyword", "a search draws the values evenly by magnitude")
            case Slot.STATEMENT:
                yield from self._names(tensors=True)
                yield from self._keywords(k.word for k in KEYWORDS.values() if k.starts_statement)
                yield from self._keywords(_AFTER_EXPRESSION)
                yield from self._keywords(("blueprint",))
            case Slot.EXPRESSION:
                yield from self._expression()
            case Slot.ARGUMENT:
                yield from self._arguments()
                yield from self._expression()
            case Slot.STEP:
                yield from self._callables()
            case Slot.SPREAD:
                yield from (c for c in self._names(tensors=False) if c.detail.startswith("["))
            case Slot.ELEMENT_TYPE:
                yield from (self._plain(dtype, "value", "an element type") for dtype in DTYPES)
                yield from self._names(tensors=False)
            case Slot.PRECISION:
                yield from (self._plain(name, "value", "an element type") for name in PRECISIONS)
            case Slot.QUANTITY:
                yield from (self._plain(name, "value", doc) for name, doc in QUANTITIES.items())

    def _plain(self, label: str, sort: str, detail: str = "", markdown: str = "") -> Completion:
        return Completion(label, sort, self.cursor.start, label, detail, markdown)

    def _keywords(self, words: Iterable[str]) -> Iterator[Completion]:
        for word in words:
            yield self._plain(word, "keyword", KEYWORDS[word].doc, keyword_text(KEYWORDS[word]))

    def _expression(self) -> Iterator[Completion]:
        yield from self._values()
        kind = self.cursor.kind
        yield from self._names(tensors=not kind)
        yield from (self._plain(name, "name", "a parameter") for name in self.cursor.parameters)
        if kind == "op":
            yield from self._operators()
        elif kind == "dtype":
            yield from (self._plain(dtype, "value", "an element type") for dtype in DTYPES)
        elif kind:
            yield from self._keywords(TRUTHS)
        else:
            yield from self._callables()
            yield from self._keywords(_IN_EXPRESSION)

    def _values(self) -> Iterator[Completion]:
        """What the keyword argument may be whose value is being written."""
        callee = self._callee() if self.cursor.argument else None
        argument = callee.argument(self.cursor.argument) if callee is not None else None
        if argument is None:
            return
        for value in argument.values:
            entry = OPERATORS.get(value) if argument.kind == "op" else None
            markdown = callee_text(operator_callee(entry)) if entry is not None else argument_text(argument)
            yield self._plain(value, "value", f"{argument.name} of {self.cursor.callee}", markdown)

    def _callee(self) -> Callee | None:
        blueprint = self.analysis.blueprint_at(self.analysis.place(self.cursor.start))
        return named_callee(self.analysis.unit, blueprint, self.cursor.callee)

    def _arguments(self) -> Iterator[Completion]:
        callee = self._callee()
        for argument in callee.arguments if callee is not None else ():
            name = argument.name.removesuffix("…")
            if name in self.cursor.given or name != argument.name:
                continue
            detail = argument_text(argument).replace("`", "")
            yield Completion(f"{name}=", "argument", self.cursor.start, f"{name}=", detail, argument.doc)

    def _names(self, *, tensors: bool) -> Iterator[Completion]:
        """What is bound where the cursor is; of a statement that cannot be read, names without types."""
        place = self.analysis.place(self.cursor.start)
        blueprint = self.analysis.blueprint_at(place)
        if blueprint is None:
            return
        for binding in self.analysis.names.visible_at(blueprint, place, block_at(blueprint, place)):
            if tensors or binding.what not in (What.TENSOR, What.INPUT):
                yield self._name(binding)
        for name in sorted(blueprint.damaged or ()):
            yield self._plain(name, "name", "bound by a statement with a mistake")

    def _name(self, binding: Occurrence) -> Completion:
        assert binding.what is not None
        text = ", ".join(self.analysis.texts_at(binding))
        if not isinstance(binding.node, Parameter):
            return self._plain(binding.name.text, "name", text or binding.what.value)
        detail = text_of(self.analysis.source, binding.node)
        doc = "\n\n".join(filter(None, [kind_text(binding.node.kind.text), binding.node.doc]))
        return self._plain(binding.name.text, "name", detail, doc)

    def _callables(self) -> Iterator[Completion]:
        here = self.analysis.blueprint_at(self.analysis.place(self.cursor.start))
        if self.cursor.slot is Slot.STEP:
            yield from (
                self._name(binding)
                for parameter in (here.parameters if here is not None else ())
                if parameter.kind.text == "op"
                for binding in [
                    self.analysis.names.at((parameter.name.span.line, parameter.name.span.column))
                ]
                if binding is not None
            )
        for name, definition in self.analysis.unit.callable.items():
            if here is None or definition.blueprint is not here:
                yield self._called(blueprint_callee(definition), name, "blueprint")
        yield from self._operators()

    def _operators(self) -> Iterator[Completion]:
        for name in language_operators():
            yield self._called(operator_callee(OPERATORS[name]), name, "operator")

    def _called(self, callee: Callee, name: str, sort: str) -> Completion:
        return self._plain(name, sort, callee.signature, callee_text(callee))

    def _library(self) -> Iterator[Completion]:
        for name in library_names():
            unit, _ = library_unit(name)
            yield self._called(blueprint_callee(unit.callable[name]), name, "blueprint")
