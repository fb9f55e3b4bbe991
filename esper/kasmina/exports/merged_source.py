"""Several written modules in one Python file: what they share stands there once, what clashes is renamed."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Mapping, Sequence

STANDARD = re.compile(r"(?:from|import) (?:collections|copy|functools|itertools|json|math|pathlib|typing)\b")
FUTURE = "from __future__ import annotations"


class MergedSource:
    """The definitions and imports of several modules."""

    def __init__(self, imports: Iterable[str], reserved: Iterable[str]) -> None:
        """`reserved`: names that the file defines itself."""
        self.parts: list[str] = []
        """Definitions in order."""
        self._imports = set(imports)
        self._reserved = frozenset(reserved)
        self._known: dict[str, str] = {}
        self._added: dict[str, str] = {}

    def add(self, text: str, main: str) -> str:
        """Takes in a module's text; returns the name that its class `main` has in the file."""
        if text in self._added:
            return self._added[text]
        tree = ast.parse(text)
        self._imports |= {
            ast.unparse(node)
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom) and ast.unparse(node) != FUTURE
        }
        defined = {name: lines_of(text, node) for node in statements(tree) for name in _names(node)}
        renamed: dict[str, str] = {}
        while clashes := [name for name in defined if self._clashes(name, defined[name], renamed)]:
            renamed |= {name: self._free(name) for name in clashes}
        for name, source in defined.items():
            own, named = renamed.get(name, name), _renamed(source, renamed)
            if own not in self._known:
                self._known[own] = named
                self.parts.append(named)
        self._added[text] = renamed.get(main, main)
        return self._added[text]

    def _clashes(self, name: str, source: str, renamed: Mapping[str, str]) -> bool:
        """Whether another definition has the name; one whose functions are renamed is another."""
        if name in renamed:
            return False
        return name in self._reserved or self._known.get(name) not in (None, _renamed(source, renamed))

    def _free(self, name: str) -> str:
        number = 2
        while f"{name}_{number}" in self._known:
            number += 1
        return f"{name}_{number}"

    def imports(self) -> str:
        """All that the parts import, a module a line, the standard library first."""
        plain = {line for line in self._imports if line.startswith("import ")}
        wanted: dict[str, set[str]] = {}
        for line in self._imports - plain:
            module, _, names = line.removeprefix("from ").partition(" import ")
            wanted.setdefault(module, set()).update(names.split(", "))
        lines = sorted(plain) + [f"from {m} import {', '.join(sorted(n))}" for m, n in sorted(wanted.items())]
        ours = [line for line in lines if STANDARD.match(line)]
        return "\n".join([*ours, "", *(line for line in lines if line not in ours)])


def statements(tree: ast.Module) -> Sequence[ast.stmt]:
    """The statements after docstring and imports, an attribute's docstring with what it tells of."""
    body = [node for node in tree.body[1:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    return [node for node in body if not isinstance(node, ast.Expr)]


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def lines_of(text: str, node: ast.stmt) -> str:
    """A statement's source, decorators and the docstring after an assignment included."""
    lines = text.splitlines()
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
    last = node.end_lineno or node.lineno
    if isinstance(node, ast.Assign | ast.AnnAssign) and last < len(lines) and lines[last].startswith('"""'):
        last += 1
    return "\n".join(lines[first:last])


def _renamed(source: str, names: Mapping[str, str]) -> str:
    """`source` with identifiers replaced, attributes and keywords of other things left alone."""
    if not names:
        return source
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    lines = source.splitlines()
    for before, token in reversed(list(zip([None, *tokens], tokens, strict=False))):
        is_attribute = before is not None and before.string == "."
        if token.type == tokenize.NAME and token.string in names and not is_attribute:
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + names[token.string] + line[column + len(token.string) :]
    return "\n".join(lines)
