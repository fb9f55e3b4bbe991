"""Each `.esp` file here ends with a command and what it prints, as comments.

`# esperc check:` checks the file itself; a command that names other files has those. `--update-golden` writes
what is printed; look at the difference before keeping it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from esper.cli.esperc import main
from esper.lang import library_entry

HERE = Path(__file__).parent
LIBRARY = Path(library_entry("norm").file).parent
COMMAND = re.compile(r"\n# esperc (?P<command>\w+)(?P<arguments>.*):\n")


def _told(command: str, arguments: list[str], file: str) -> str:
    """What the command prints, but for how many errors there were."""
    files = [] if any(Path(argument).exists() for argument in arguments) else [file]
    found = CliRunner().invoke(main, [command, *files, *arguments], catch_exceptions=False)
    assert found.exit_code in (0, 1)
    told = found.stdout if command == "check" else found.stderr
    return told.replace(f"{LIBRARY}/", "")


def _as_comments(text: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize("path", sorted(HERE.glob("*.esp")), ids=lambda path: path.stem)
def test_a_command_tells_what_the_file_says_it_tells(
    path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)
    text = path.read_text(encoding="utf-8")
    mark = COMMAND.search(text)
    assert mark, "the file ends with a command and what it prints"
    expected = text[mark.end() :]
    arguments = mark["command"], mark["arguments"].split(), path.name
    if request.config.getoption("--update-golden"):
        path.write_text(text[: mark.end()], encoding="utf-8")
        expected = _as_comments(_told(*arguments))
        path.write_text(text[: mark.end()] + expected, encoding="utf-8")
    assert _as_comments(_told(*arguments)) == expected
