"""Functions that a written module carries with it: the sources of operators' references, and what they use.

A reference is a function of torch alone, so its text is the meaning of its operator; a module that carries it
computes what the torch tier does. Functions and constants of other references come along; imports of torch
and of the standard library go to the head of the file.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import chain, count
from types import ModuleType

from esper.errors import EsperError
from esper.urza.errors import NotWritten

_REFERENCES = "esper.ops.reference."
_PLAIN = {("esper.ops.reference.random", "dropout"): "hashed_dropout"}
"""What stands for a function that the torch tier gives more than a graph says."""
_TENSOR = "Tensor = torch.Tensor"


@cache
def _definitions(module: ModuleType) -> dict[str, tuple[ast.stmt, str]]:
    """What `module` defines or imports, by name: the statement and its text."""
    text = inspect.getsource(module)
    lines = text.split("\n")
    found: dict[str, tuple[ast.stmt, str]] = {}
    for node in ast.parse(text).body:
        decorators = getattr(node, "decorator_list", [])
        first = min((decorator.lineno for decorator in decorators), default=node.lineno)
        source = "\n".join(lines[first - 1 : node.end_lineno])
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node, source
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name: (node, source) for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
            found |= dict.fromkeys(names, (node, source))
    return found


class Functions:
    """The functions that one file carries, each under a name of its own."""

    def __init__(self) -> None:
        self.imports: set[str] = set()
        self._constants: dict[str, str] = {}
        self._tables: set[str] = set()
        self._texts: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}

    @property
    def constants(self) -> str:
        """The constants, in the order in which they were met, but for the tables."""
        return "\n".join(text for name, text in self._constants.items() if name not in self._tables)

    @property
    def tables(self) -> str:
        """The constants that hold functions: they stand after these."""
        return "\n".join(text for name, text in self._constants.items() if name in self._tables)

    @property
    def texts(self) -> list[str]:
        """The functions, users before what they use."""
        return list(self._texts.values())

    def add(self, path: str) -> str:
        """Carries the function `module:name`; the name that it goes by. Raises `NotWritten`."""
        module, _, name = path.partition(":")
        return self._add(import_module(module), name)

    def hold(self, name: str, text: Callable[[str], str]) -> str:
        """Carries the function that `text` writes under a name like `name`; the name that it goes by."""
        taken = self._texts.keys() | self._constants.keys()
        others = (f"{name}_{number}" for number in count(2))
        chosen = next(one for one in chain([name], others) if one not in taken)
        self._texts[chosen] = ""  # before what it uses
        self._texts[chosen] = text(chosen)
        return chosen

    def _add(self, module: ModuleType, name: str) -> str:
        name = _PLAIN.get((module.__name__, name), name)
        key = module.__name__, name
        if key in self._names:
            return self._names[key]
        value = getattr(module, name)
        if isinstance(value, type) and issubclass(value, EsperError):
            self._names[key] = name
            self._texts[name] = _error_text(value)
            return name
        node, text = _definitions(module)[name]
        if text == _TENSOR:
            self.imports.add("from torch import Tensor")
            return name
        if text in self._constants.values():
            return name
        taken = self._texts.keys() | self._constants.keys()
        chosen = name
        if chosen in taken:
            chosen = f"_{module.__name__.rpartition('.')[2]}_{name.lstrip('_')}"
        self._names[key] = chosen
        place = self._texts if isinstance(node, ast.FunctionDef) else self._constants
        place[chosen] = "" if isinstance(node, ast.FunctionDef) else text
        renamed = {name: chosen} | self._attributes(module, node)
        used = dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name))
        for other in used:
            if not any(known.startswith(f"{other}.") for known in renamed):
                renamed[other] = self._resolve(module, other)
        if place is self._constants and not self._texts.keys().isdisjoint(renamed.values()):
            self._tables.add(chosen)
        for old, new in renamed.items():
            if old != new:
                text = re.sub(rf"(?<![\w.]){re.escape(old)}\b", new, text)
        if place is self._constants:
            del place[chosen]  # constants stand after those that they use
        place[chosen] = text
        return chosen

    def _attributes(self, module: ModuleType, node: ast.stmt) -> dict[str, str]:
        """Functions of other references that are named by their module, such as `gated.glu`."""
        found = {}
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                definition, _ = _definitions(module).get(part.value.id, (None, ""))
                if isinstance(definition, ast.ImportFrom) and f"{definition.module}." == _REFERENCES:
                    of = import_module(f"{_REFERENCES}{_original(definition, part.value.id)}")
                    found[f"{part.value.id}.{part.attr}"] = self._add(of, part.attr)
        return found

    def _resolve(self, module: ModuleType, name: str) -> str:
        """What `name`, as used in `module`, is called in the file; it is made known there."""
        definition = _definitions(module).get(name)
        if definition is None:
            return name  # a builtin or a local variable
        node, text = definition
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("esper"):
            original = _original(node, name)
            of = import_module(node.module or "")
            if isinstance(getattr(of, original), type) and issubclass(getattr(of, original), EsperError):
                return self._add(of, original)
            if not (node.module or "").startswith(_REFERENCES):
                raise NotWritten(name=f"{node.module}.{original}")
            return self._add(of, original)
        if isinstance(node, ast.ImportFrom):
            self.imports.add(f"from {node.module} import {name}")
            return name
        if isinstance(node, ast.Import):
            self.imports.add(text)
            return name
        return self._add(module, name)


def _original(node: ast.ImportFrom, name: str) -> str:
    """What is imported as `name`."""
    return next(alias.name for alias in node.names if (alias.asname or alias.name) == name)


def _error_text(kind: type[EsperError]) -> str:
    """A kind of error as a class of its own, with the same message."""
    said = (kind.__doc__ or kind.__name__).strip().split("\n")[0]
    return "\n".join(
        [
            f"class {kind.__name__}(ValueError):",
            f'    """{said}"""',
            "",
            "    def __init__(self, **details: object) -> None:",
            f"        super().__init__({json.dumps(kind.message)}.format(**details))",
        ]
    )
