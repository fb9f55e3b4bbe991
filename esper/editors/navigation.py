"""Where a name comes from: its binding, its blueprint, the file of an import."""

from __future__ import annotations

from pathlib import Path

from esper.editors.analysis import Analysis
from esper.editors.names import Role, import_at
from esper.errors import Span
from esper.lang.ast import Import, Name


def definition(analysis: Analysis, offset: int) -> Span | None:
    """The place that the name or path at `offset` leads to, in this file or another; None if there is none.

    An operator has no source in the language. The span may lie in a file that the unit did not read: the
    top of one whose import was refused.
    """
    name = analysis.name_at(offset)
    if name is None or name.role is Role.IMPORT:
        statement = import_at(analysis.program, analysis.place(offset))
        return None if statement is None else _imported(analysis, statement)
    binding = analysis.means_binding(name)
    if binding is not None:
        return binding.name.span
    if name.role is Role.BLUEPRINT:
        return name.name.span
    if name.role in (Role.CALL, Role.READ) and name.name.text in analysis.unit.callable:
        return analysis.unit.callable[name.name.text].blueprint.name.span
    if name.role in (Role.ARGUMENT, Role.VALUE):
        callee = analysis.callee_at(name)
        argument = callee.argument(name.argument) if callee is not None else None
        return argument.span if argument is not None else None
    return None


def _imported(analysis: Analysis, statement: Import) -> Span | None:
    if isinstance(statement.source, Name):
        found = analysis.unit.callable.get(statement.source.text)
        return found.blueprint.name.span if found is not None else None
    path = Path(analysis.source.file).parent / statement.source.value
    return Span(str(path), 1, 1, 1, 1) if "\0" not in str(path) and path.is_file() else None
