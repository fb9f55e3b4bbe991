"""What a command loads before it does anything: the less, the sooner it answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from esper.lang import library

LOADED = """
import sys
from importlib import import_module
try:
    import_module(f"esper.cli.{sys.argv[1]}").main(sys.argv[2:])
except SystemExit as end:
    assert not end.code, end.code
finally:
    print("\\nloaded:", *sorted(sys.modules))
"""
COMPILES = {"torch", "triton"}
HEAVY = {
    *COMPILES,
    "networkx",
    "numpy",
    "pydantic",
    "lark",
    "esper.ir",
    "esper.lang",
    "esper.ops",
    "yaml",
    "rich",
}


def loaded(*arguments: str) -> set[str]:
    """The modules that a program has loaded when it ends."""
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("\nloaded:")[2].split())


@pytest.mark.parametrize("arguments", [["esperc", "--help"], ["esperc", "--version"], ["esper", "--help"]])
def test_help_loads_neither_the_language_nor_any_library_but_click(arguments: list[str]) -> None:
    assert "click" in (found := loaded(*arguments))
    assert not HEAVY & found


@pytest.mark.parametrize("command", ["check", "fmt", "compile", "opt", "search", "templates"])
def test_the_help_of_a_command_loads_as_little(command: str) -> None:
    assert not HEAVY & loaded("esperc", command, "--help")


def test_a_check_of_the_library_loads_the_language_and_nothing_that_compiles() -> None:
    found = loaded("esperc", "check", *(entry.file for entry in library()))
    assert {"lark", "esper.lang"} <= found
    assert not (COMPILES | {"pydantic", "esper.passes", "esper.urza", "numpy"}) & found
    assert not {module for module in found if module.startswith("esper.editors")}
