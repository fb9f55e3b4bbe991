"""The pages that are walked from top to bottom: every block is run, and prints what the page says.

An `esp` block is saved under the name that stands before it; a `console` block gives each line after `$ ` to
a shell and holds what it prints, where `…` stands for anything; a `python` block is run.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("tutorial", "diagnostics", "growth", "search", "optimizer")

_BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (?P<line>.*)\n(?P<printed>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_NAMED = re.compile(r"`(\w+\.esp)`:$")


@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_shows_is_what_happens(page: str, tmp_path: Path) -> None:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    assert len(found) == len(re.findall(r"^```$", text, re.MULTILINE))
    folder = tmp_path / "work"
    folder.mkdir()
    environment = {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(DOCS.parent),
        "ESPER_CACHE_DIR": str(tmp_path / "cache"),
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    for command, printed in _steps(found, folder):
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        if printed is not None:
            assert re.fullmatch(_pattern(printed), done.stdout), f"{command[-1]}\n{done.stdout}"
        else:
            assert done.returncode == 0, done.stdout


def _steps(blocks: list[re.Match[str]], folder: Path) -> Iterator[tuple[list[str], str | None]]:
    """Commands with what they are to print, None for anything; files are written when their turn comes."""
    for block in blocks:
        match block["kind"]:
            case "esp":
                named = _NAMED.search(block["before"])
                assert named, block["before"]
                (folder / named[1]).write_text(block["text"], encoding="utf-8")
            case "python":
                yield [sys.executable, "-c", block["text"]], None
            case "console":
                commands = list(_COMMAND.finditer(block["text"]))
                assert "".join(found[0] for found in commands) == block["text"]
                for found in commands:
                    yield ["bash", "-c", found["line"]], found["printed"]
            case kind:
                raise AssertionError(kind)


def _pattern(printed: str) -> str:
    """A line of `…` alone is any number of lines; within a line, any characters."""
    lines = [
        "(?:.*\n)*?" if line.strip() == "…" else re.escape(line).replace("…", ".*") + "\n"
        for line in printed.splitlines()
    ]
    return "".join(lines)
