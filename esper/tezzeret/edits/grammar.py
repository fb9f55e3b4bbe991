"""Edits as they are written: a kind, a colon, and what it changes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue
from esper.lang.names import closest
from esper.tezzeret.constraints import parse_constraint
from esper.tezzeret.edits.errors import MalformedEdit
from esper.tezzeret.edits.kinds import Add, Constrain, Remove, Replace, Rewire
from esper.tezzeret.edits.resize import Resize

FORMS = {
    "add": "add:[NAME=]CALL after VALUE",
    "remove": "remove:NODE",
    "replace": "replace:NODE=CALL",
    "rewire": "rewire:NODE.OPERAND=VALUE",
    "resize": "resize:NODE[.ARGUMENT]=SIZE",
    "constrain": "constrain:params<=20000",
}


class Edit(Protocol):
    """A change of a graph. `str(edit)` is how it is written."""

    def apply(self, ir: BlueprintIR) -> BlueprintIR:
        """`ir` changed, and verified. Raises an `EsperError` that begins with the edit where it cannot be."""


_NAME = r"[A-Za-z_]\w*(?:\.\w+)*"
_PATTERNS = {
    kind: re.compile(pattern, re.ASCII)
    for kind, pattern in {
        "add": rf"(?:({_NAME})\s*=\s*)?([A-Za-z_]\w*\s*(?:\([^\n]*\))?)\s+after\s+(\S+)",
        "remove": rf"%?({_NAME})",
        "replace": rf"%?({_NAME})\s*=\s*([^\n]+)",
        "rewire": rf"%?({_NAME}?)(?:\.(\d{{1,4}}))?\s*=\s*(\S+)",
        "resize": rf"%?({_NAME})\s*=\s*(\d{{1,9}})",
        "constrain": r"([^\n]+)",
    }.items()
}


def parse_edit(text: str, sizes: Mapping[str, SizeValue] | None = None) -> Edit:
    """The edit that `text` writes. sizes: at which a constraint is checked, as in `quantities`.

    Raises `MalformedEdit`, and what `parse_constraint` raises.
    """
    kind, _, rest = text.strip().partition(":")
    pattern = _PATTERNS.get(kind.strip())
    if pattern is None:
        meant = closest(kind, FORMS)
        forms = f"write `{FORMS[meant]}`" if meant else f"edits are {', '.join(FORMS.values())}"
        raise MalformedEdit(text=text, forms=forms)
    found = pattern.fullmatch(rest.strip())
    if found is None:
        raise MalformedEdit(text=text, forms=f"write `{FORMS[kind.strip()]}`")
    return _MAKE[kind.strip()](found, sizes or {})


def _add(found: re.Match[str], _: Mapping[str, SizeValue]) -> Edit:
    return Add(found[2].strip(), found[3], found[1])


def _remove(found: re.Match[str], _: Mapping[str, SizeValue]) -> Edit:
    return Remove(found[1])


def _replace(found: re.Match[str], _: Mapping[str, SizeValue]) -> Edit:
    return Replace(found[1], found[2].strip())


def _rewire(found: re.Match[str], _: Mapping[str, SizeValue]) -> Edit:
    node, dot, last = found[1].rpartition(".")
    if found[2] is None and dot and last.isdigit():
        return Rewire(node, int(last), found[3])
    return Rewire(found[1], None if found[2] is None else int(found[2]), found[3])


def _resize(found: re.Match[str], _: Mapping[str, SizeValue]) -> Edit:
    return Resize(found[1], None, int(found[2]))


def _constrain(found: re.Match[str], sizes: Mapping[str, SizeValue]) -> Edit:
    return Constrain(parse_constraint(found[1]), sizes)


_MAKE: dict[str, Callable[[re.Match[str], Mapping[str, SizeValue]], Edit]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "rewire": _rewire,
    "resize": _resize,
    "constrain": _constrain,
}
