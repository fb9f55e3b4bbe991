"""Sources to start from, and small changes to their tokens, for a search of texts that break a law."""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

from esper.ir.operator import OPERATORS
from esper.lang.keywords import KEYWORDS
from esper.lang.parse import grammar

ROOT = Path(__file__).resolve().parent.parent.parent
MARK = "\n# esperc "
SIGNS = (
    "==",
    "!=",
    "<=",
    ">=",
    "<",
    ">",
    "//",
    "/",
    "%",
    "@",
    "\n",
    " ",
    "# why\n",
    "## documents\n",
    '"why"',
)
NUMBERS = ("0", "1", "2", "0.5", "1e999", "9223372036854775807", "9223372036854775808", "1000000000")
STRAYS = ("é", "\0", "\ufeff", "\r\n", "|", "!", '"', "\\", ";", ".", "&")

PIECE = re.compile(r'"[^"\n]*"|[A-Za-z_]\w*|[0-9.]+|#[^\n]*|\s+|\|>|[=<>!*/]{2}|.')


@cache
def seeds() -> tuple[str, ...]:
    """The library's sources and those of the diagnostics' fixtures."""
    library = sorted((ROOT / "blueprints").glob("*.esp"))
    fixtures = sorted((ROOT / "tests" / "diagnostics").rglob("*.esp"))
    return tuple(path.read_text(encoding="utf-8").partition(MARK)[0] for path in (*library, *fixtures))


@cache
def vocabulary() -> tuple[str, ...]:
    """Every fixed word and sign of the grammar, the operators, odd numbers, and what no token can be."""
    fixed = [terminal.pattern.value for terminal in grammar().terminals if terminal.pattern.type == "str"]
    names = [name for name, entry in OPERATORS.items() if entry.in_language]
    return (*fixed, *SIGNS, *names, *NUMBERS, *STRAYS)


def mutated(text: str, generator: random.Random) -> str:
    """`text` with one to three changes; half of them leave the syntax as it was more often than not."""
    for _ in range(generator.choice((1, 1, 2, 3))):
        text = generator.choice((_renamed, _renamed, _renamed, _lines_moved, _run_changed))(text, generator)
    return text


def _renamed(text: str, generator: random.Random) -> str:
    """One token in the place of another of its kind: a name, a number, a sign."""
    pieces = PIECE.findall(text)
    places = [index for index, piece in enumerate(pieces) if not piece.isspace()]
    if not places:
        return text
    place = generator.choice(places)
    known = vocabulary() if generator.random() < 0.5 else [pieces[index] for index in places]
    same = [piece for piece in known if _kind(piece) == _kind(pieces[place])]
    pieces[place] = generator.choice(same or known)
    return "".join(pieces)


def _kind(piece: str) -> str:
    first = piece[:1]
    if piece.upper() in KEYWORDS:
        return piece
    return "name" if first.isalpha() or first == "_" else "number" if first.isdigit() else "sign"


def _lines_moved(text: str, generator: random.Random) -> str:
    """A few lines removed, doubled, moved, or taken from a seed."""
    lines = text.splitlines(keepends=True)
    other = generator.choice((lines, generator.choice(seeds()).splitlines(keepends=True)))
    start, place = generator.randint(0, len(other)), generator.randint(0, len(lines))
    run = other[start : start + generator.choice((1, 1, 2, 4))]
    lines[place : place + generator.choice((0, 0, 1, 2))] = run
    return "".join(lines)


def _run_changed(text: str, generator: random.Random) -> str:
    """A run of tokens removed, doubled, or replaced by one token or by a run of a seed's."""
    pieces = PIECE.findall(text)
    start = generator.randint(0, len(pieces))
    end = start + generator.choice((0, 1, 1, 2, 3, 8, 30))
    run = pieces[start:end]
    other = PIECE.findall(generator.choice(seeds()))
    place = generator.randint(0, len(other))
    copied = other[place : place + generator.choice((1, 5, 20, 60))]
    pieces[start:end] = generator.choice(([], run + run, [generator.choice(vocabulary())], copied))
    return "".join(pieces)
