"""The files that travel with the package: grammars, blueprints and pages on codes, as text."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def grammar_text(name: str) -> str:
    """The text of the grammar file called `name`."""
    return (files("esper.grammar") / name).read_text(encoding="utf-8")


def blueprint_files() -> list[Traversable]:
    """The library's `.esp` files, by name."""
    folder = files("esper.blueprints")
    return sorted((f for f in folder.iterdir() if f.name.endswith(".esp")), key=lambda f: f.name)


def blueprint_file(name: str) -> Traversable:
    """The library's file of the blueprint called `name`."""
    return files("esper.blueprints") / f"{name}.esp"


def explanations() -> dict[str, Traversable]:
    """The pages that explain codes of errors and warnings, by code."""
    folder = files("esper") / "lang" / "explanations"
    pages = (file for file in folder.iterdir() if file.name.endswith(".md"))
    return {page.name.removesuffix(".md"): page for page in sorted(pages, key=lambda page: page.name)}
