"""All that is known of one version of a document: made once, asked many times.

A version is parsed, elaborated and lexed at most once; every answer is a function of that.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from lark import Token

from esper.editors.callees import Callee, named_callee
from esper.editors.names import Names, Occurrence, Role, block_at
from esper.lang import Insight, Source, inspect_source
from esper.lang.ast import Blueprint, Name, Program
from esper.lang.diagnostics import Report
from esper.lang.parse import grammar
from esper.lang.scope import Place
from esper.lang.source import MAX_BYTES, scan
from esper.lang.units import Unit


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a check found in a source, with its names and tokens."""

    insight: Insight

    @classmethod
    def of(cls, source: Source) -> Analysis:
        return cls(inspect_source(source))

    @property
    def source(self) -> Source:
        return self.insight.source

    @property
    def unit(self) -> Unit:
        return self.insight.unit

    @property
    def program(self) -> Program:
        return self.unit.program

    @cached_property
    def names(self) -> Names:
        return Names(self.program)

    @cached_property
    def tokens(self) -> list[Token]:
        """All tokens but comments, also of a source with mistakes; none of one that is too large."""
        if len(self.source.text) > MAX_BYTES:
            return []
        text, _ = scan(self.source, Report(self.source.file))
        return list(grammar().lex(text))

    def place(self, offset: int) -> Place:
        return self.source.position(offset)

    def blueprint_at(self, place: Place) -> Blueprint | None:
        """The blueprint around `place`; what follows one, up to the next, counts as its own."""
        before = [b for b in self.program.blueprints if (b.span.line, b.span.column) <= place]
        return before[-1] if before else None

    @cached_property
    def _ends(self) -> list[int]:
        return [token.end_pos or 0 for token in self.tokens]

    def first_ending_after(self, offset: int) -> int:
        """The index of the first token that ends behind `offset`."""
        return bisect_right(self._ends, offset)

    def word_at(self, offset: int) -> int | None:
        """The index of the name or keyword that covers `offset` or ends there."""
        first = self.first_ending_after(offset - 1)
        for index in range(first, min(first + 2, len(self.tokens))):
            token = self.tokens[index]
            assert token.start_pos is not None
            if token.start_pos <= offset and str(token).isidentifier():
                return index
        return None

    def name_at(self, offset: int) -> Occurrence | None:
        """The name at `offset`. In a statement that could not be read, any name counts as read or called."""
        place = self.place(offset)
        found = self.names.at(place)
        blueprint, index = self.blueprint_at(place), self.word_at(offset)
        if found is not None or blueprint is None or blueprint.damaged is None or index is None:
            return found
        token = self.tokens[index]
        if token.type != "NAME":
            return None
        is_called = index + 1 < len(self.tokens) and self.tokens[index + 1].type == "LPAR"
        role = Role.CALL if is_called else Role.READ
        assert token.start_pos is not None and token.end_pos is not None
        name = Name(self.source.span(token.start_pos, token.end_pos), str(token))
        return Occurrence(name, role, blueprint, block_at(blueprint, place))

    def callee_at(self, use: Occurrence) -> Callee | None:
        """What the call calls that `use` belongs to."""
        if use.call is None:
            return None
        return named_callee(self.unit, use.blueprint, use.call.function.text)

    def texts_at(self, name: Occurrence) -> tuple[str, ...]:
        """The type or value of a binding, the results of a call; empty where they are not known."""
        found = self.insight.texts.get(name.place, ())
        return found if all(found) else ()

    def means_binding(self, use: Occurrence) -> Occurrence | None:
        """The binding that `use` means; None where it means something else or nothing.

        A call means an `op` parameter, or a `let` that holds an operator, before it means an operator.
        """
        if use.role not in (Role.BINDING, Role.READ, Role.VALUE, Role.CALL, Role.TYPE):
            return None
        binding = self.names.binding_of(use)
        if use.role is not Role.CALL or binding is None:
            return binding
        is_other = named_callee(self.unit, None, use.name.text) is not None
        return None if is_other and not self._holds_operator(binding) else binding

    def _holds_operator(self, binding: Occurrence) -> bool:
        texts = self.insight.texts.get(binding.place, ())
        return bool(texts) and named_callee(self.unit, None, texts[0]) is not None
