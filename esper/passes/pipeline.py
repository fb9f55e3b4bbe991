"""Pipelines as text: `expand,autodiff{wrt=[x, w]},dce` is three passes, the second with an option set.

A pass is a frozen dataclass and its fields are its options, so what may stand in the braces, and how it is
read, follows from the fields' types; there is no other list of options.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from esper.ir.types import DType
from esper.passes.errors import BadOption, MalformedPipeline, OptionNowhere, UnknownOption, UnknownPass
from esper.passes.law import PASSES, Pass

_PASS = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\{([^{}]*)\}\s*)?(?:,|$)", re.ASCII)
_OPTION = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(\[[^\[\]]*\]|[^\[\],\s][^\[\],]*?)\s*(?:,|$)", re.ASCII)
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Option:
    """A field of a pass that text can set; `kind` and `value`, its default, are text."""

    name: str
    kind: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} ({self.kind}; {self.value} unless set)"


def parse_pipeline(text: str) -> list[Pass]:
    """The passes that `text` names, in order; none for an empty text.

    Raises `MalformedPipeline`, `UnknownPass`, `UnknownOption` and `BadOption`.
    """
    passes = []
    for name, braced in _matches(_PASS, text, "a pass, as in `dce` or `autodiff{wrt=[x]}`"):
        entry = PASSES.get(name)
        if entry is None:
            raise UnknownPass(name=name, passes=", ".join(PASSES))
        passes.append(_with_options(entry, _given(braced or "")))
    return passes


def pipeline_text(passes: Iterable[Pass]) -> str:
    """The text that `parse_pipeline` reads back as `passes`: each option that differs from its default."""
    return ",".join(map(_pass_text, passes))


def options(entry: Pass) -> tuple[Option, ...]:
    """What text can set of `entry`: its fields of types that text can say, in order."""
    return tuple(
        Option(name, " or ".join(map(_kind, kinds)), _print(getattr(entry, name)))
        for name, kinds in _kinds(entry).items()
    )


def set_everywhere(passes: Iterable[Pass], name: str, value: bool) -> list[Pass]:
    """`passes` with the option `name` set wherever there is one. Raises `OptionNowhere`."""
    passes = list(passes)
    if not any(name in _kinds(entry) for entry in passes):
        able = [other for other, entry in PASSES.items() if name in _kinds(entry)]
        raise OptionNowhere(
            option=name, pipeline=pipeline_text(passes), passes=", ".join(able) if able else None
        )
    return [_replaced(entry, {name: value}) if name in _kinds(entry) else entry for entry in passes]


def summary(entry: Pass) -> str:
    """What the pass does, in one line: its module's first, `name: what it does`, without the name."""
    first = (sys.modules[type(entry).__module__].__doc__ or "").strip().partition("\n")[0]
    return first.removeprefix(f"{entry.name}: ")


def _matches(pattern: re.Pattern[str], text: str, expected: str) -> Iterator[tuple[str, str]]:
    """Both groups of one match after another; the last may end in a comma."""
    place = 0
    while text[place:].strip():
        found = pattern.match(text, place)
        if found is None:
            raise MalformedPipeline(found=text[place:].strip()[:40], expected=expected)
        yield found[1], found[2]
        place = found.end()


def _given(text: str) -> dict[str, str]:
    """The texts of the options between braces."""
    found: dict[str, str] = {}
    for name, value in _matches(_OPTION, text, "options, as in `wrt=[x, y], fast_math=true`"):
        if name in found:
            raise MalformedPipeline(found=f"{name}={value}", expected="each option once")
        found[name] = value
    return found


def _with_options(entry: Pass, given: Mapping[str, str]) -> Pass:
    known = _kinds(entry)
    listed = "; ".join(map(str, options(entry))) or "none"
    values = {}
    for name, text in given.items():
        if name not in known:
            raise UnknownOption(name=entry.name, option=name, options=listed)
        try:
            values[name] = _read(known[name], text)
        except ValueError:
            expected = " or ".join(map(_kind, known[name]))
            raise BadOption(name=entry.name, option=name, found=text, expected=expected) from None
    return _replaced(entry, values) if values else entry


def _replaced(entry: Pass, values: Mapping[str, Any]) -> Pass:
    return cast(Pass, replace(cast(Any, entry), **values))


def _pass_text(entry: Pass) -> str:
    default = PASSES.get(entry.name)
    changed = [
        f"{name}={_print(getattr(entry, name))}"
        for name in _kinds(entry)
        if default is None or getattr(entry, name) != getattr(default, name)
    ]
    return f"{entry.name}{{{', '.join(changed)}}}" if changed else entry.name


_READ: dict[Any, tuple[str, Callable[[str], Any]]] = {
    bool: ("true or false", lambda text: bool(("false", "true").index(text))),
    int: ("an integer", int),
    float: ("a number", float),
    DType: (", ".join(map(str, DType)), DType),
    str: ("text", str),
}


def _kinds(entry: Pass) -> dict[str, tuple[Any, ...]]:
    """The types that each option may have, by its name."""
    hints = get_type_hints(type(entry))
    found = {
        field.name: get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        for field in fields(cast(Any, entry))
        if (hint := hints[field.name]) is not None
    }
    return {
        name: kinds
        for name, kinds in found.items()
        if all(kind is NoneType or kind in _READ or _item(kind) in _READ for kind in kinds)
    }


def _item(kind: Any) -> Any:
    """The type of the items of a tuple of any length, else None."""
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is tuple and arguments[1:] == (...,) else None


def _kind(kind: Any) -> str:
    if kind is NoneType:
        return _NONE
    return _READ[kind][0] if kind in _READ else f"a list [a, b] of {_READ[_item(kind)][0]}"


def _read(kinds: Iterable[Any], text: str) -> Any:
    """`text` as the first of `kinds` that it can be. Raises `ValueError` where it can be none."""
    for kind in kinds:
        if kind is NoneType and text == _NONE:
            return None
        if kind in _READ and not text.startswith("["):
            return _READ[kind][1](text)
        if _item(kind) is not None and text.startswith("["):
            items = text.strip("[]").split(",")
            return tuple(_READ[_item(kind)][1](item.strip()) for item in items if item.strip())
    raise ValueError(text)


def _print(value: Any) -> str:
    if value is None:
        return _NONE
    if isinstance(value, tuple):
        return f"[{', '.join(map(_print, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
