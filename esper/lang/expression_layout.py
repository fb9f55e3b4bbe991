"""How statements and expressions are laid out: on one line if they fit, else broken where reading is easiest.

A pipeline breaks before each `|>`, a chain of operators after them (a line cannot start with `-`), calls,
lists and choices after each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esper.errors import Span
from esper.lang.ast import (
    Argument,
    Binary,
    Binding,
    Call,
    Choice,
    Constraint,
    Expression,
    Input,
    Integer,
    Let,
    Name,
    Output,
    Pipeline,
    Precision,
    Real,
    Repeat,
    Require,
    Sizes,
    Spread,
    Statement,
    Text,
    Truth,
    Unary,
)
from esper.lang.source import Source

WIDTH = 100
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Layout:
    """Spells the parts of one source."""

    source: Source

    def fits(self, text: str) -> bool:
        return len(text) <= WIDTH

    def statement(self, statement: Statement, indent: int) -> list[str]:
        """The lines of a statement without a block, `indent` columns in."""
        match statement:
            case Require(condition=condition, reason=reason):
                return self._after("require ", condition, f": {self.text(reason)}", indent)
            case Let(name=name, value=value):
                return self._after(f"let {name.text} = ", value, "", indent)
            case Input(name=name, type=declared):
                return [f"input {name.text}: {declared.dtype.text}{self.flat(declared.shape)}"]
            case Binding(names=names, value=value):
                return self._after(f"{', '.join(name.text for name in names)} = ", value, "", indent)
            case Output(name=None, value=value):
                return self._after("output ", value, "", indent)
            case Output(name=Name(text=name), value=value):
                return self._after(f"output {name} = ", value, "", indent)
            case Precision(dtype=dtype):
                return [f"precision {dtype.text}"]
            case Constraint(quantity=quantity, comparison=comparison, bound=bound, target=target):
                on = "" if target is None else f" on {self.text(target)}"
                return [f"constraint {quantity.text} {comparison} {self.flat(bound)}{on}"]
            case _:
                raise AssertionError(f"{type(statement).__name__} has a block")

    def repeat(self, statement: Repeat) -> list[str]:
        """The line that opens a `repeat`."""
        index = "" if statement.index is None else f" as {statement.index.text}"
        return [f"repeat {self.flat(statement.count)}{index} {{"]

    def flat(self, expression: Expression | Spread) -> str:
        """`expression` on one line."""
        text = self._flat(expression)
        return f"({text})" if self._is_grouped(expression) else text

    def text(self, literal: Text | Name | Integer | Real | Truth) -> str:
        """A literal as the source spells it, without parentheses around it."""
        if isinstance(literal, Name):
            return literal.text
        spelled = self._slice(literal.span)
        while spelled.startswith("("):
            spelled = spelled[1:-1].strip()
        return spelled

    def _after(self, lead: str, expression: Expression, tail: str, indent: int) -> list[str]:
        flat = f"{lead}{self.flat(expression)}{tail}"
        if indent + len(flat) <= WIDTH:
            return [flat]
        lines = self._broken(expression, indent, len(lead))
        return [lead + lines[0], *lines[1:-1], lines[-1] + tail] if len(lines) > 1 else [flat]

    def _flat(self, expression: Expression | Spread) -> str:
        match expression:
            case Name(text=text):
                return text
            case Spread(name=name):
                return f"...{name.text}"
            case Integer() | Real() | Text() | Truth():
                return self.text(expression)
            case Sizes(items=items):
                return f"[{', '.join(map(self.flat, items))}]"
            case Unary(operator=operator, operand=operand):
                return f"{operator}{' ' if operator == 'not' else ''}{self.flat(operand)}"
            case Binary():
                first, steps = self._spine(expression)
                return self.flat(first) + "".join(f" {s.operator} {self.flat(s.right)}" for s in steps)
            case Call(function=function, arguments=arguments):
                return f"{function.text}({', '.join(map(self._argument, arguments))})"
            case Pipeline(source=source, steps=steps):
                return " |> ".join([self.flat(source), *map(self.flat, steps)])
            case Choice(name=name, branches=branches):
                listed = ", ".join(f"{b.name.text} => {self.flat(b.value)}" for b in branches)
                return f"choice {name.text} {{ {listed} }}"

    def _argument(self, argument: Argument) -> str:
        value = self.flat(argument.value)
        return value if argument.name is None else f"{argument.name.text}={value}"

    def _broken(self, expression: Expression, indent: int, lead: int = 0) -> list[str]:
        """Lines of `expression`, the first without indentation, the others relative to `indent`."""
        inner = indent + len(INDENT)
        match expression:
            case _ if self._is_grouped(expression):
                return [f"({self._flat(expression)})"]
            case Pipeline(source=source, steps=steps):
                lines = self._fitted(source, indent, lead)
                for step in steps:
                    first, *rest = self._fitted(step, inner, len("|> "))
                    lines += [f"{INDENT}|> {first}", *(INDENT + line for line in rest)]
                return lines
            case Call(function=function, arguments=arguments) if arguments:
                spelled = [self._spread_out(argument, inner) for argument in arguments]
                return [f"{function.text}(", *_listed(spelled), ")"]
            case Sizes(items=items) if items:
                return ["[", *_listed([[self.flat(item)] for item in items]), "]"]
            case Choice(name=name, branches=branches):
                spelled = []
                for branch in branches:
                    start = f"{branch.name.text} => "
                    first, *rest = self._fitted(branch.value, inner, len(start))
                    spelled.append([start + first, *rest])
                return [f"choice {name.text} {{", *_listed(spelled), "}"]
            case Binary():
                return self._chain(expression, indent, lead)
            case _:
                return [self.flat(expression)]

    def _spread_out(self, argument: Argument, indent: int) -> list[str]:
        start = "" if argument.name is None else f"{argument.name.text}="
        first, *rest = self._fitted(argument.value, indent, len(start))
        return [start + first, *rest]

    def _fitted(self, expression: Expression, indent: int, lead: int) -> list[str]:
        """One line if that fits after `indent` and `lead` columns, with a comma behind; else broken."""
        flat = self.flat(expression)
        return [flat] if indent + lead + len(flat) < WIDTH else self._broken(expression, indent, lead)

    def _chain(self, expression: Binary, indent: int, lead: int) -> list[str]:
        """As many operands on each line as fit, the operator at the end of the line before."""
        first, steps = self._spine(expression)
        lines, current, room = [], self.flat(first), WIDTH - indent - lead
        for step in steps:
            operand = self.flat(step.right)
            if len(current) + len(step.operator) + len(operand) + 2 > room:
                lines.append(f"{current} {step.operator}")
                current, room = INDENT + operand, WIDTH - indent
            else:
                current = f"{current} {step.operator} {operand}"
        return [*lines, current]

    def _spine(self, expression: Binary) -> tuple[Expression, list[Binary]]:
        """The first operand of a chain without parentheses, and its operators from the inside out."""
        chain = [expression]
        while isinstance(chain[-1].left, Binary) and not self._is_grouped(chain[-1].left):
            chain.append(chain[-1].left)
        return chain[-1].left, chain[::-1]

    def _is_grouped(self, expression: Expression | Spread) -> bool:
        """Whether the source has parentheses around `expression`, which its span takes in."""
        match expression:
            case Binary(left=part) | Pipeline(source=part) if _begins(part.span, expression.span):
                return False
            case _:
                return self._slice(expression.span).startswith("(")

    def _slice(self, span: Span) -> str:
        start = self.source.offset(span.line, span.column)
        return self.source.text[start : self.source.offset(span.end_line, span.end_column)]


def _begins(part: Span, whole: Span) -> bool:
    return (part.line, part.column) == (whole.line, whole.column)


def _listed(parts: Sequence[Sequence[str]]) -> list[str]:
    """Parts one level in, a comma after each."""
    return [INDENT + line for part in parts for line in (*part[:-1], part[-1] + ",")]
