"""What a name is: its type or value as elaborated, its documentation, the signature of what it calls."""

from __future__ import annotations

from dataclasses import dataclass

from esper.editors.analysis import Analysis
from esper.editors.callees import (
    DTYPES,
    Argument,
    Callee,
    blueprint_callee,
    kind_text,
    named_callee,
    text_of,
)
from esper.editors.names import Occurrence, Role, import_at
from esper.editors.vocabulary import KEYWORDS, QUANTITIES, Keyword
from esper.errors import Span
from esper.lang.ast import Import, Name, Parameter
from esper.lang.parameters import KINDS
from esper.lang.scope import What


@dataclass(frozen=True, slots=True)
class Hover:
    """Markdown about what stands at `span`."""

    span: Span
    markdown: str


def hover(analysis: Analysis, offset: int) -> Hover | None:
    """What to show of the character at `offset`; None where nothing is known of it."""
    name = analysis.name_at(offset)
    if name is not None:
        markdown = _of_name(analysis, name)
        return Hover(name.name.span, markdown) if markdown else None
    statement = import_at(analysis.program, analysis.place(offset))
    if statement is not None:
        markdown = _imported(analysis, statement)
        return Hover(statement.source.span, markdown) if markdown else None
    index = analysis.word_at(offset)
    keyword = KEYWORDS.get(str(analysis.tokens[index])) if index is not None else None
    if index is None or keyword is None:
        return None
    start, end = analysis.tokens[index].start_pos, analysis.tokens[index].end_pos
    assert start is not None and end is not None
    return Hover(analysis.source.span(start, end), keyword_text(keyword))


def _of_name(analysis: Analysis, name: Occurrence) -> str:
    word = name.name.text
    binding = analysis.means_binding(name)
    if binding is not None:
        return _binding(analysis, name, binding)
    match name.role:
        case Role.CALL | Role.READ | Role.BLUEPRINT | Role.IMPORT:
            callee = named_callee(analysis.unit, name.blueprint, word)
            if callee is None:
                return f"{code(word)}\nan element type" if word in DTYPES else ""
            texts = analysis.texts_at(name) if name.role is Role.CALL else ()
            return callee_text(callee, texts)
        case Role.ARGUMENT | Role.VALUE:
            return _argument(analysis, name)
        case Role.KIND:
            return f"{code(word)}\n{KINDS[word]}" if word in KINDS else ""
        case Role.TYPE:
            return f"{code(word)}\nan element type" if word in DTYPES else ""
        case Role.QUANTITY:
            return f"{code(word)}\n{QUANTITIES[word]}" if word in QUANTITIES else ""
        case Role.BRANCH:
            return f"{code(f'{word} => …')}\na branch of the choice"
        case Role.OUTPUT:
            return f"{code(f'output {word}')}\nan output"
        case Role.SCALE:
            return f"{code(word)}\na search draws the values evenly by magnitude"
        case _:
            return ""


def _binding(analysis: Analysis, name: Occurrence, binding: Occurrence) -> str:
    word = binding.name.text
    text = ", ".join(analysis.texts_at(binding))
    if isinstance(binding.node, Parameter):
        return _parameter(analysis, binding.node, name)
    assert binding.what is not None
    lead = {What.LET: "let ", What.INPUT: "input "}.get(binding.what, "")
    between = " = " if binding.what in (What.LET, What.SIZE, What.INDEX) else ": "
    shown = f"{lead}{word}{between}{text}" if text and text != word else f"{lead}{word}"
    callee = analysis.callee_at(name) if name.role is Role.CALL else None
    called = callee_text(callee, analysis.texts_at(name)) if callee is not None else ""
    return "\n\n".join(filter(None, [f"{code(shown)}\n{binding.what.value}", called]))


def _parameter(analysis: Analysis, parameter: Parameter, name: Occurrence) -> str:
    kind = parameter.kind.text
    if kind == "choice":
        branches = ", ".join(f"`{branch.name.text}`" for branch in _branches(analysis, parameter))
        return f"{code(f'{parameter.name.text}: choice')}\nchooses a branch: {branches}"
    parts = [f"{code(text_of(analysis.source, parameter))}\n{kind_text(kind)}", parameter.doc]
    if name.role is Role.CALL:
        results = analysis.texts_at(name)
        parts.append(f"here: `{', '.join(results)}`" if results else "")
    return "\n\n".join(part for part in parts if part)


def _branches(analysis: Analysis, parameter: Parameter) -> list[Occurrence]:
    span = parameter.domain.span if parameter.domain is not None else parameter.span
    inside = (span.line, span.column), (span.end_line, span.end_column)
    return [n for n in analysis.names if n.role is Role.BRANCH and inside[0] <= n.place < inside[1]]


def _argument(analysis: Analysis, name: Occurrence) -> str:
    callee = analysis.callee_at(name)
    argument = callee.argument(name.argument) if callee is not None else None
    if callee is None or argument is None:
        return ""
    text = argument_text(argument)
    if name.role is Role.VALUE and name.name.text in argument.values:
        return f"{code(name.name.text)}\na value of {text}"
    called = named_callee(analysis.unit, name.blueprint, name.name.text) if name.role is Role.VALUE else None
    return callee_text(called) if called is not None else f"{text}\n\nof `{callee.name}`"


def _imported(analysis: Analysis, statement: Import) -> str:
    """The blueprints that `statement` makes callable."""
    if isinstance(statement.source, Name):
        callee = named_callee(analysis.unit, None, statement.source.text)
        return callee_text(callee) if callee is not None else ""
    foreign = [d for d in analysis.unit.callable.values() if d.unit is not analysis.unit]
    wanted = statement.source.value.rpartition("/")[2]
    found = [d for d in foreign if d.unit.source.file.rpartition("/")[2] == wanted]
    lines = [f"- `{c.signature}` {c.summary}".rstrip() for c in map(blueprint_callee, found)]
    return "\n".join(["makes callable:", *lines]) if lines else "makes no blueprint callable"


def code(text: str) -> str:
    """A line of source as Markdown."""
    return f"```esp\n{text}\n```"


def keyword_text(keyword: Keyword) -> str:
    return f"{keyword.doc}\n\n{code(keyword.example)}"


def argument_text(argument: Argument) -> str:
    """An argument on one line: its name, kind, default, values and documentation."""
    default = f" = {argument.default}" if argument.default is not None else ""
    values = f", one of {', '.join(argument.values)}" if 0 < len(argument.values) <= 12 else ""
    doc = f": {argument.doc}" if argument.doc else ""
    return f"`{argument.name}: {argument.kind}{default}`{values}{doc}"


def callee_text(callee: Callee, results: tuple[str, ...] = ()) -> str:
    """The signature, the types of these results, the documentation and the arguments."""
    parts = [code(callee.signature)]
    if results:
        parts.append(f"here: `{'`, `'.join(results)}`")
    if callee.doc:
        parts.append(callee.doc)
    if callee.arguments:
        parts.append("\n".join(f"- {argument_text(argument)}" for argument in callee.arguments))
    return "\n\n".join(parts)
