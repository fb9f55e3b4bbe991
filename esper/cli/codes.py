"""Every code of an error or a warning, and what is known of it, read from the sources.

Importing all kinds of errors would load torch; parsing the few files that declare them takes milliseconds.
Codes of the language have pages in `esper/lang/explanations`; any other is told by its class.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter

import esper
from esper.errors import EsperError
from esper.resources import explanations

WIDTH = 80
MAX_SUGGESTED = 3

_CODE = re.compile(r"[EW]\d{4}")
_DECLARED = re.compile(r'^    code = "[EW]\d{4}"$', re.MULTILINE)
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class UnknownCode(EsperError):
    """No error and no warning has the code that was asked for."""

    code = "E0984"
    message = "there is no code `{code}`"
    help = "the closest are {closest}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """One code explained; `text` is plain, at most 80 columns wide, with the title in its first line."""

    code: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A class of errors as its source declares it; message and help are format templates."""

    code: str
    name: str
    message: str
    help: str
    doc: str


def explanation(code: str) -> Explanation:
    """What `code` means: its page, else what its class says. Raises `UnknownCode`."""
    pages = explanations()
    if code in pages:
        return _from_page(code, pages[code].read_text(encoding="utf-8"))
    declared = declarations()
    if code not in declared:
        raise UnknownCode(code=code, closest=", ".join(_closest(code, {*pages, *declared})))
    return _from_class(declared[code])


def declarations() -> dict[str, Declared]:
    """The classes of errors that bear a code, by code."""
    return {kind.code: kind for kind in sorted(_declared(), key=lambda kind: kind.code)}


def _closest(code: str, known: Iterable[str]) -> list[str]:
    """The known codes whose numbers are nearest; E202 is E0202 without its zero."""

    digits = code.lstrip("EW")
    if len(digits) < 4 and digits.startswith("0"):  # the start of one
        begun = sorted(candidate for candidate in known if candidate.startswith(code))
        if begun:
            return begun[:MAX_SUGGESTED]

    def distance(candidate: str) -> tuple[int, bool, str]:
        return abs(int(candidate[1:]) - int(digits)), candidate[0] != code[0], candidate

    return sorted(known, key=distance)[:MAX_SUGGESTED]


def _declared() -> Iterator[Declared]:
    for path in Path(esper.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if _DECLARED.search(source):
            for statement in ast.parse(source).body:
                if isinstance(statement, ast.ClassDef):
                    texts = dict(_texts(statement))
                    if _CODE.fullmatch(texts.get("code", "")):
                        yield Declared(
                            texts["code"],
                            statement.name,
                            texts.get("message", EsperError.message),
                            texts.get("help", EsperError.help),
                            ast.get_docstring(statement) or "",
                        )


def _texts(kind: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """The attributes of a class that are texts."""
    for statement in kind.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            target, value = statement.targets[0], statement.value.value
            if isinstance(target, ast.Name) and isinstance(value, str):
                yield target.id, value


def _from_page(code: str, page: str) -> Explanation:
    """A page of Markdown as plain text: fenced blocks are indented instead."""
    lines = page.rstrip("\n").split("\n")
    title = lines[0].removeprefix(f"# {code}: ")
    shown = [f"{code}: {title}"]
    is_code = False
    for line in lines[1:]:
        if line.startswith("```"):
            is_code = not is_code
        else:
            shown.append(f"    {line}".rstrip() if is_code else line)
    return Explanation(code, title, "\n".join(shown) + "\n")


def _from_class(kind: Declared) -> Explanation:
    title = _WORDS.sub(" ", kind.name).lower()
    paragraphs = [f"{kind.code}: {title}"]
    if kind.doc:
        paragraphs += [_wrapped(" ".join(part.split())) for part in kind.doc.split("\n\n")]
    told = _wrapped(f"{kind.code}: {_spelled(kind.message)}", "    ")
    way_out = _spelled(kind.help)
    paragraphs.append(told + (f"\n{_wrapped(f'help: {way_out}', '      ')}" if way_out else ""))
    if "{" in paragraphs[-1]:
        paragraphs.append("In place of the words in braces stands what was found.")
    return Explanation(kind.code, title, "\n\n".join(paragraphs) + "\n")


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _spelled(template: str) -> str:
    """A format template without what only `str.format` reads: conversions, formats, doubled braces."""
    parts = Formatter().parse(template)
    return "".join(text + ("" if field is None else f"{{{field}}}") for text, field, _, _ in parts)
