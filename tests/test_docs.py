"""docs/operators.md is what the entries say, and what docs/extending.md shows works in a copy of the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from esper.cli import grammar_page
from esper.cli.operators_page import page
from esper.ir import OPERATORS
from esper.lang.parse import grammar

ROOT = Path(__file__).resolve().parent.parent
EXTENDING = ROOT / "docs" / "extending.md"
COPIED = ("esper", "kernels", "grammar", "blueprints", "tests", "docs", "pyproject.toml")

_BLOCK = re.compile(r"(?P<before>[^\n]+)\n\n```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`((?:esper|tests|blueprints)/[\w/]+\.(?:py|esp))`")


@dataclass(frozen=True)
class Block:
    """A fenced block: what kind it is, and the file that the line before it names, if it names one."""

    kind: str
    text: str
    file: str | None


def blocks(page: str) -> list[Block]:
    found = []
    for match in _BLOCK.finditer(page):
        named = _FILE.search(match["before"]) if match["before"].endswith(":") else None
        found.append(Block(match["kind"], match["text"], named[1] if named else None))
    return found


def test_the_page_of_operators_is_up_to_date(request: pytest.FixtureRequest) -> None:
    path = ROOT / "docs" / "operators.md"
    if request.config.getoption("--update-golden"):
        path.write_text(page(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == page(), (
        "docs/operators.md is not what the table says: make docs"
    )


def test_the_page_of_the_grammar_is_up_to_date_and_has_every_rule(request: pytest.FixtureRequest) -> None:
    path = ROOT / "docs" / "grammar.md"
    if request.config.getoption("--update-golden"):
        path.write_text(grammar_page.page(), encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    assert text == grammar_page.page(), "docs/grammar.md is not what the grammar says: make docs"
    for rule in grammar().rules:
        if not rule.origin.name.startswith("__"):
            assert re.search(rf"^{rule.origin.name} = ", text, re.MULTILINE), rule.origin.name
    for terminal in grammar().terminals:
        if not terminal.name.startswith("__"):
            assert f'"{terminal.pattern.value}"' in text or f"| `{terminal.name}` |" in text, terminal.name


def test_the_page_of_operators_has_every_entry_with_its_attributes() -> None:
    sections = re.split(r"^### ", page(), flags=re.MULTILINE)[1:]
    assert {section.partition("\n")[0] for section in sections} == {f"`{name}`" for name in OPERATORS}
    for section in sections:
        entry = OPERATORS[section.partition("\n")[0].strip("`")]
        assert entry.doc in section
        assert all(f"  - `{a.name}` (" in section and a.doc in section for a in entry.attributes)
        assert "- gradient: " in section and "- lowering: " in section


def test_every_fenced_block_of_the_page_on_extending_is_found() -> None:
    text = EXTENDING.read_text(encoding="utf-8")
    assert len(blocks(text)) == len(re.findall(r"^```\w*$", text, re.MULTILINE)) / 2
    assert all(block.file or block.kind in ("python", "sh") for block in blocks(text))
    assert [block.file for block in blocks(text) if block.file] == [
        "esper/ops/bent_identity.py",
        "tests/ops/test_bent_identity.py",
        "esper/passes/reciprocal.py",
        "tests/passes/test_reciprocal.py",
        "blueprints/bent_block.esp",
    ]


def test_what_the_page_on_extending_shows_works(tmp_path: Path) -> None:
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tmp_path / name)
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(tmp_path),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    for block in blocks(EXTENDING.read_text(encoding="utf-8")):
        if block.file is not None:
            assert not (tmp_path / block.file).exists(), f"{block.file} is there already"
            (tmp_path / block.file).write_text(block.text, encoding="utf-8")
            continue
        command = (
            ["bash", "-e", "-c", block.text] if block.kind == "sh" else [sys.executable, "-c", block.text]
        )
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
    assert "### `bent_identity`" in (tmp_path / "docs" / "operators.md").read_text(encoding="utf-8")
