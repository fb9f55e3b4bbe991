"""Functions that a written module carries with it: the sources of operators' references, and what they use.

A reference is a function of torch alone, so its text is the meaning of its operator; a module that carries it
computes what the torch tier does. Functions and constants of other references come along; imports of torch
and of the standard library go to the head of the file.
"""

from __future__ import annotations

import ast
import inspect
import re
from functools import cache
from importlib import import_module
from types import ModuleType

from esper.urza.errors import NotWritten

_REFERENCES = "esper.ops.reference."
_CALLED = {"esper.ops.reference.random:dropout": "hashed_dropout"}
"""Functions with a name of their own in the file, because functions that use them have such an argument."""
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
        self._texts: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}

    @property
    def constants(self) -> str:
        """The constants, in the order in which they were met."""
        return "\n".join(self._constants.values())

    @property
    def texts(self) -> list[str]:
        """The functions, users before what they use."""
        return list(self._texts.values())

    def add(self, path: str) -> str:
        """Carries the function `module:name`; the name that it goes by. Raises `NotWritten`."""
        module, _, name = path.partition(":")
        return self._add(import_module(module), name)

    def _add(self, module: ModuleType, name: str) -> str:
        key = module.__name__, name
        if key in self._names:
            return self._names[key]
        node, text = _definitions(module)[name]
        if text == _TENSOR:
            self.imports.add("from torch import Tensor")
            return name
        if text in self._constants.values():
            return name
        taken = self._texts.keys() | self._constants.keys()
        chosen = _CALLED.get(f"{module.__name__}:{name}", name)
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
        for old, new in renamed.items():
            if old != new:
                text = re.sub(rf"(?<![\w.]){re.escape(old)}\b", new, text)
        place[chosen] = text
        return chosen

    def _attributes(self, module: ModuleType, node: ast.stmt) -> dict[str, str]:
        """Functions of other references that are named by their module, such as `gated.glu`."""
        found = {}
        for part in ast.walk(node):
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                definition, _ = _definitions(module).get(part.value.id, (None, ""))
                if isinstance(definition, ast.ImportFrom) and f"{definition.module}." == _REFERENCES:
                    of = import_module(f"{_REFERENCES}{part.value.id}")
                    found[f"{part.value.id}.{part.attr}"] = self._add(of, part.attr)
        return found

    def _resolve(self, module: ModuleType, name: str) -> str:
        """What `name`, as used in `module`, is called in the file; it is made known there."""
        definition = _definitions(module).get(name)
        if definition is None:
            return name  # a builtin or a local variable
        node, text = definition
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("esper"):
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            if not (node.module or "").startswith(_REFERENCES):
                raise NotWritten(name=f"{node.module}.{original}")
            return self._add(import_module(node.module or ""), original)
        if isinstance(node, ast.ImportFrom):
            self.imports.add(f"from {node.module} import {name}")
            return name
        if isinstance(node, ast.Import):
            self.imports.add(text)
            return name
        return self._add(module, name)
