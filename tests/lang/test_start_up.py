"""What a command loads before it does anything: the less, the sooner it answers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from esper.lang import library, library_entry, lower
from esper.lang.units import library_program, library_unit

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
READ = """
import sys
from esper.cli.esperc import main
read = []
sys.addaudithook(lambda event, given: read.append(str(given[0])) if event == "open" else None)
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
finally:
    print("\\nread:", *(path for path in read if path.endswith(".esp")))
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


def loaded(*arguments: str, **variables: str) -> set[str]:
    """The modules that a program has loaded when it ends."""
    command = [sys.executable, "-c", LOADED, *arguments]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
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


def test_a_compile_loads_no_torch_and_nothing_that_reads_records_or_artifacts(
    tmp_path: Path,
) -> None:
    arguments = ["esperc", "compile", "norm", "--set", "features=16", "--target", "sm_90", "--json"]
    found = loaded(*arguments, ESPER_CACHE_DIR=str(tmp_path))
    assert {"networkx", "lark", "esper.urza.plan.planner"} <= found
    assert (
        not (COMPILES | {"pydantic", "numpy", "esper.urza.artifact", "esper.urza.eager.torch_tier"}) & found
    )


def test_a_compile_of_what_was_compiled_plans_nothing_and_builds_nothing(tmp_path: Path) -> None:
    seed = str(tmp_path / "norm.seed")
    for arguments in (["--json"], ["-o", seed]):
        command = ["esperc", "compile", "norm", "--set", "features=16", "--target", "sm_90", *arguments]
        first, second = (loaded(*command, ESPER_CACHE_DIR=str(tmp_path / "cache")) for _ in range(2))
        assert "esper.urza.plan.planner" in first
        assert not (COMPILES | {"pydantic", "esper.urza.plan.planner"}) & second


def test_only_the_files_of_the_library_that_a_blueprint_needs_are_read() -> None:
    library_unit.cache_clear()
    library_program.cache_clear()
    lower("mlp_block")
    assert library_program.cache_info().currsize == 1


def test_a_compile_reads_its_blueprint_once(tmp_path: Path) -> None:
    file = library_entry("norm").file
    environment = {**os.environ, "ESPER_CACHE_DIR": str(tmp_path)}
    for name in ("norm", file):
        command = [sys.executable, "-c", READ, "compile", name, "--set", "features=16", "--target", "sm_90"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.rpartition("\nread:")[2].split() == [file]
