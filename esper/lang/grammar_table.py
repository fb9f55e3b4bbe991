"""The parser's tables, made ahead of time: `grammar/blueprint.json`, from the grammar beside it.

Lark takes ten times as long to make tables as to read a file with them. It numbers states otherwise in every
process; here they are numbered as they are first reached, so that equal grammars give equal files. Tables of
another grammar, or of another version of Lark, are passed over, and made anew in memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import lark
from lark.grammar import Rule
from lark.lexer import TerminalDef

from esper.lang.tree import TreeBuilder

GRAMMAR, TABLE = "blueprint.lark", "blueprint.json"
_SHIFT, _REDUCE = 0, 1  # Lark's numbers for what a parser does with a token

Actions = dict[str, int | list[int]]
"""What a state does by token: the state to go to, or in brackets the number of the rule that ends here."""


def parser(text: str, table: str) -> lark.Lark:
    """The parser of the grammar `text`, with the tables in the JSON `table` if they are its own."""
    document = json.loads(table)
    if document["of"] != _origin(text):
        return made(text)
    states = [
        {token: (_SHIFT, a) if isinstance(a, int) else (_REDUCE, {"@": a[0]}) for token, a in actions.items()}
        for actions in document["states"]
    ]
    data = document["data"]
    data["parser"]["parser"] = {
        "tokens": {token: token for actions in states for token in actions},
        "states": dict(enumerate(states)),
        "start_states": {"start": 0},
        "end_states": {"start": document["end"]},
    }
    # Lark's own generated parsers are had by this method; its public one unpickles.
    loaded: lark.Lark = lark.Lark._load_from_dict(
        data, dict(enumerate(document["memo"])), transformer=TreeBuilder()
    )
    return loaded


def made(text: str) -> lark.Lark:
    """The parser of the grammar `text`, with tables made of it."""
    return lark.Lark(text, parser="lalr", lexer="basic", maybe_placeholders=False, transformer=TreeBuilder())


def table_of(parser: lark.Lark, text: str) -> str:
    """The tables of the parser of the grammar `text` as JSON, one state a line."""
    data, memo = parser.memo_serialize([TerminalDef, Rule])
    del data["options"]["transformer"]
    states, end = _renumbered(data["parser"].pop("parser"))
    parts = {"of": _origin(text), "data": data, "memo": [memo[index] for index in range(len(memo))]}
    lines = [f"{json.dumps(name)}: {json.dumps(part, sort_keys=True)}" for name, part in parts.items()]
    rows = ",\n".join(json.dumps(actions, sort_keys=True) for actions in states)
    return "{" + ",\n".join([*lines, f'"end": {end}', f'"states": [\n{rows}\n]']) + "}\n"


def _origin(text: str) -> dict[str, str]:
    return {"grammar": hashlib.sha256(text.encode()).hexdigest(), "lark": lark.__version__}


def _renumbered(table: Mapping[str, Any]) -> tuple[list[Actions], int]:
    """The states of a table in the order in which they are reached from the first; the last one's number."""
    names = table["tokens"]
    reached = [table["start_states"]["start"]]
    numbers = {reached[0]: 0}
    states = []
    for state in reached:
        actions: Actions = {}
        for token, (kind, found) in sorted(table["states"][state].items(), key=lambda item: names[item[0]]):
            if kind == _SHIFT and found not in numbers:
                numbers[found] = len(reached)
                reached.append(found)
            actions[names[token]] = numbers[found] if kind == _SHIFT else [found["@"]]
        states.append(actions)
    return states, numbers[table["end_states"]["start"]]
