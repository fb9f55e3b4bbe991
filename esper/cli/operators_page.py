"""`python -m esper.cli.operators_page -o docs/operators.md`: the operator table as a page.

Everything on it stands in the entries, grouped by the modules that define them; `make docs` runs this.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import esper.ops  # noqa: F401  (fills the operator table)
from esper.generated import generator_command
from esper.ir.operator import (
    FAMILIES,
    OPERATORS,
    REQUIRED,
    Attribute,
    Composite,
    Decompose,
    Input,
    Leaf,
    Operator,
    Outside,
    Pointwise,
    Reduction,
    Role,
    Template,
    View,
)

HEAD = """# Operators

The operators of the IR, from their entries in `esper/ops/`. This page is generated: `make docs` writes it.
Operators marked *source* can be called in a blueprint; the others stand in graphs alone. An operand with `?`
may be left out (`_` in the textual form), one with `…` stands for any number. Sizes follow the type rules,
which say what is wrong where they are broken.
"""

LOWERINGS: dict[type, str] = {
    Leaf: "a leaf",
    Outside: "PyTorch's own operator",
    Decompose: "its definition in other operators, which `decompose` puts in its place; torch runs it whole",
    Composite: "its definition in other operators, which `expand` puts in its place",
}
ROLES = {
    Role.PARAM: "a parameter that elaboration makes",
    Role.BUFFER: "a running statistic that elaboration makes",
    Role.SEED: "the graph's random seed",
}


def page() -> str:
    """The page, in Markdown."""
    families: dict[str, list[Operator]] = {}
    for name, entry in sorted(OPERATORS.items()):
        families.setdefault(FAMILIES[name], []).append(entry)
    lines = [HEAD]
    for module, entries in sorted(families.items(), key=lambda item: _title(item[0])):
        names = ", ".join(f"[`{entry.name}`](#{entry.name})" for entry in entries)
        lines.append(f"- {_title(module)}: {names}")
    for module, entries in sorted(families.items(), key=lambda item: _title(item[0])):
        lines += ["", f"## {_title(module)}", "", _summary(module)]
        for entry in entries:
            lines += ["", *_entry(entry)]
    return "\n".join(lines) + "\n"


def _title(module: str) -> str:
    return module.rpartition(".")[2].replace("_", " ").capitalize()


def _summary(module: str) -> str:
    return (sys.modules[module].__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")


def _entry(entry: Operator) -> Iterator[str]:
    yield f"### `{entry.name}`"
    yield ""
    marks = {" *source*": entry.in_language, " *random*": entry.random}
    yield f"`{_signature(entry)}`{''.join(mark for mark, holds in marks.items() if holds)}"
    yield ""
    yield entry.doc
    yield ""
    if entry.inputs:
        yield f"- operands: {'; '.join(map(_operand, entry.inputs))}"
    yield from _attributes(entry)
    if updates := [
        f"`{entry.inputs[to].name}` with `{entry.results[of]}`" for of, to in entry.updates.items()
    ]:
        yield f"- updates {', '.join(updates)}"
    yield f"- gradient: {_gradient(entry)}"
    yield f"- lowering: {_lowering(entry)}"


def _signature(entry: Operator) -> str:
    operands = ", ".join(f"{i.name}{'…' if i.variadic else '?' if i.optional else ''}" for i in entry.inputs)
    stored = ", ".join(a.name for a in entry.attributes if a.stored)
    results = ", ".join(entry.results) + ("…" if entry.variadic_results else "")
    return f"{entry.name}({operands}){f' {{{stored}}}' if stored else ''} -> {results}"


def _operand(operand: Input) -> str:
    notes = [ROLES[operand.role]] if operand.role in ROLES else []
    notes += [f"unless `{operand.when}` is false"] if operand.when else []
    notes += [operand.doc] if operand.doc else []
    described = f" ({', '.join(notes)})" if notes else ""
    return f"`{operand.name}`{described}"


def _attributes(entry: Operator) -> Iterator[str]:
    if entry.attributes:
        yield "- attributes:"
    for attribute in entry.attributes:
        where = "" if attribute.stored else ", in source only"
        choices = f": {', '.join(attribute.choices)}" if attribute.choices else ""
        kind = f"{attribute.kind.value}{choices}{_default(attribute)}{where}"
        yield f"  - `{attribute.name}` ({kind}): {attribute.doc}"


def _default(attribute: Attribute) -> str:
    if attribute.default is REQUIRED:
        return ", required"
    value = attribute.default
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f", {text} unless given" if text else ", empty unless given"


def _gradient(entry: Operator) -> str:
    if isinstance(entry.lowering, Composite):
        return "that of its definition"
    if entry.vjp is None:
        return f"none: {entry.no_gradient}"
    pair = f"{entry.name}_backward"
    rule = f"the declared pair with `{pair}`" if pair in OPERATORS else "a rule in other operators"
    return f"{rule}, on a node with further results" if entry.residuals else rule


def _lowering(entry: Operator) -> str:
    match entry.lowering:
        case Pointwise(expression):
            return f"pointwise, `{expression}`"
        case Reduction(kind):
            return f"a reduction, {kind}"
        case View(kind):
            return f"a view, {kind}"
        case Template(name):
            return f"the Triton template `kernels/{name}.py`"
        case other:
            return LOWERINGS[type(other)]


main = generator_command(page, "the page of all operators")

if __name__ == "__main__":
    main()
