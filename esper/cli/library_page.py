"""`python -m esper.cli.library_page -o docs/library.md`: the library of blueprints as a page.

Everything on it stands in the sources or is counted in what they lower to; `make docs` runs this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from esper.errors import Span
from esper.generated import generator_command
from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.ir.types import TensorType
from esper.lang import library, lower, size_values
from esper.lang.ast import Input, Parameter, Range, Spread
from esper.lang.diagnostics import Report
from esper.lang.library import LibraryEntry, Loaded, load
from esper.lang.lower import check_unit
from esper.lang.parameters import all_parameters
from esper.urza.traffic import flops

HEAD = """# The library

The blueprints that come with Esper, from their sources in `blueprints/`. This page is generated: `make docs`
writes it. `esperc templates NAME` shows a blueprint on the command line, `esper.compile("NAME")` compiles it,
and `import NAME` makes it callable in another one.

`...S` stands for any number of axes, whose sizes are `S.0`, `S.1` and so on; types are shown for two of them.
Parameters and operations are those of the defaults. Operations are counted for one forward evaluation at the
sizes beside them, by the costs of the operators: a multiplication with its addition is two.
"""

_REST = re.compile(r"(?<=[\[ ])(\w+)\.0, \1\.1(?=[,\]])")
"""The two axes that a `...S` stands for unless told otherwise, as they are printed."""


@dataclass(frozen=True)
class Entry:
    """One blueprint: as it is written, with symbols for sizes, and lowered with its defaults."""

    entry: LibraryEntry
    found: Loaded

    @property
    def name(self) -> str:
        return self.entry.name

    @cached_property
    def symbolic(self) -> BlueprintIR:
        (elaborated,) = check_unit(self.found.unit, Report(self.found.source.file))
        assert elaborated.ir is not None
        return elaborated.ir

    @cached_property
    def ir(self) -> BlueprintIR:
        return lower(self.name)

    @cached_property
    def sizes(self) -> dict[str, int]:
        return size_values(self.ir)

    @property
    def weights(self) -> int:
        return evaluate_size(self.ir.parameters, self.sizes)

    @property
    def flops(self) -> int:
        return flops(self.ir, self.sizes)

    @property
    def input_types(self) -> list[str]:
        return [f"{given.name.text}: {self.written(given.type.span)}" for given in self._inputs]

    @property
    def output_types(self) -> list[str]:
        types = [(name, self._spelled(self.symbolic.type(value))) for name, value in self.symbolic.outputs]
        return [type if len(types) == 1 else f"{name}: {type}" for name, type in types]

    @property
    def _inputs(self) -> list[Input]:
        return [statement for statement in self.found.blueprint.body if isinstance(statement, Input)]

    def _spelled(self, type: TensorType) -> str:
        """`type` with the names of the source: a size as the inputs have it, and `...S` for its axes."""
        text = _REST.sub(r"...\1", str(type))
        for given, node in zip(self._inputs, self.symbolic.inputs, strict=True):
            for written, size in zip(given.type.shape.items, node.type.shape, strict=False):
                if isinstance(written, Spread):
                    break
                text = text.replace(str(size), self.written(written.span))
        return text

    def written(self, span: Span) -> str:
        """The source at `span`."""
        source = self.found.source
        start, end = source.offset(span.line, span.column), source.offset(span.end_line, span.end_column)
        return source.text[start:end]


def _maps(entry: Entry) -> bool:
    return _spread_at(entry) == 2


def _features(entry: Entry) -> bool:
    return _spread_at(entry) == 1


def _sequences(entry: Entry) -> bool:
    return _spread_at(entry) is None


def _several(entry: Entry) -> bool:
    return len(entry.symbolic.inputs) > 1 or len(entry.symbolic.outputs) > 1


def _spread_at(entry: Entry) -> int | None:
    """Which axis of the input a `...` stands for, if there is one."""
    shape = entry.symbolic.inputs[0].type.shape
    return next((axis for axis, size in enumerate(shape) if str(size).endswith(".0")), None)


FAMILIES: Sequence[tuple[str, str, Callable[[Entry], bool]]] = (
    ("Several tensors", "Several inputs or outputs, to be called in other blueprints.", _several),
    ("Maps", "Maps [N, channels, ...S] with any number of spatial axes.", _maps),
    ("Sequences", "Sequences [N, T, features], or [N, channels, T].", _sequences),
    ("Features", "Tensors of any rank whose last axis holds the features.", _features),
)
"""The families, by what a blueprint takes: title, description, which belong; the first that fits counts."""


def page() -> str:
    """The page, in Markdown."""
    families: dict[str, list[Entry]] = {title: [] for title, _, _ in reversed(FAMILIES)}
    for found in library():
        entry = Entry(found, load(found.name))
        families[next(title for title, _, belongs in FAMILIES if belongs(entry))].append(entry)
    descriptions = {title: text for title, text, _ in FAMILIES}
    lines = [HEAD]
    for title, entries in families.items():
        lines += [f"## {title}", "", descriptions[title], ""]
        lines += ["| blueprint | what it is | parameters | operations |", "| --- | --- | ---: | ---: |"]
        for entry in entries:
            counts = f"{entry.weights:,} | {_scaled(entry.flops)}"
            lines.append(f"| [`{entry.name}`](#{entry.name}) | {entry.entry.summary} | {counts} |")
        lines.append("")
    lines += ["## Each of them", ""]
    for entry in sorted((e for entries in families.values() for e in entries), key=lambda e: e.name):
        lines += [*_section(entry), ""]
    return "\n".join(lines[:-1]) + "\n"


def _section(entry: Entry) -> Iterator[str]:
    parameters = all_parameters(entry.found.blueprint)
    yield f"### `{entry.name}`"
    yield ""
    yield f"`{entry.name}({', '.join(map(_signature(entry), parameters))})`"
    yield ""
    yield from entry.entry.signature.doc.split("\n")
    yield ""
    yield "| parameter | kind | default | one of | what it is |"
    yield "| --- | --- | --- | --- | --- |"
    for parameter in parameters:
        cells = [parameter.name.text, parameter.kind.text, _default(entry, parameter)]
        cells += [_domain(entry, parameter)]
        coded = " | ".join(f"`{cell}`" if cell else "" for cell in cells)
        yield f"| {coded} | {' '.join(parameter.doc.split())} |"
    yield ""
    yield f"- takes {', '.join(f'`{type}`' for type in entry.input_types)}"
    yield f"- returns {', '.join(f'`{type}`' for type in entry.output_types)}"
    sizes = ", ".join(f"`{type}`" for type in _at(entry))
    yield f"- {entry.weights:,} parameters; {entry.flops:,} operations for {sizes}"


def _signature(entry: Entry) -> Callable[[Parameter], str]:
    return lambda parameter: " = ".join(filter(None, (parameter.name.text, _default(entry, parameter))))


def _default(entry: Entry, parameter: Parameter) -> str:
    return "" if parameter.default is None else entry.written(parameter.default.span)


def _domain(entry: Entry, parameter: Parameter) -> str:
    match parameter.domain:
        case None:
            return ""
        case Range(span=span):
            return entry.written(span).removeprefix("in ")
        case domain:
            return ", ".join(entry.written(choice.span) for choice in domain.choices)


def _at(entry: Entry) -> list[str]:
    """The inputs' types at the sizes of the count."""
    types = (node.type for node in entry.ir.inputs)
    return [f"{type.dtype}{list(type.concrete_shape(entry.sizes))}" for type in types]


def _scaled(count: int) -> str:
    """Operations in a unit that leaves three digits."""
    for unit, scale in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return str(count)


main = generator_command(page, "the page of the library")

if __name__ == "__main__":
    main()
