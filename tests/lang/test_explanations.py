"""Each code of the language and of searches has a page; what a page shows is what happens.

A page has a title, some sentences, and two parts, `Wrong:` and `Repaired:`. Blocks of `esp` in a part are
files: `block.esp`, or the one that the line before the block names. Blocks of `console` and `python` run
beside them; where there are none, `block.esp` is checked.
"""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli.codes import WIDTH, declarations, explanation
from esper.cli.esperc import main
from esper.errors import EsperError
from esper.ir import errors as ir_errors
from esper.lang import Source, check_files, errors, format_source
from esper.lang.diagnostics import MAX_DIAGNOSTICS
from esper.lang.source import MAX_BYTES
from esper.lang.statements import MAX_CALLS
from esper.lang.units import MAX_IMPORTS
from esper.resources import explanations

PAGES = {code: page.read_text(encoding="utf-8") for code, page in explanations().items()}
RANGE_OF_TYPES = "E03"
"""Codes of the IR in this range are told of blueprints, those of graphs in files (E05…) are not."""
RANGE_OF_SEARCHES = "E10"
INTERNAL = {"E0302"}
"""A size without a value is asked for by Python callers alone: every size of a blueprint has a default."""
OF_DEVICES = {"E1083", "E1084"}
"""Whether they are told depends on the machine's GPU."""

_PART = re.compile(r"^(?:Wrong|Repaired):$", re.MULTILINE)
_BLOCK = re.compile(
    r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)

LAYER = "blueprint {name}(width: dim = 64) {{\n    input x: f32[N, width]\n    output {calls}(x)\n}}\n"
BLOCK = Path("block.esp")


def _nested() -> None:
    value = "(\n" * 1001 + "1" + ")" * 1001
    BLOCK.write_text(f"blueprint block() {{\n    let a = {value}\n    input x: f32[N, a]\n    output x\n}}\n")


def _in_latin_1() -> None:
    BLOCK.write_bytes(f"# Déjà vu.\n{LAYER.format(name='block', calls='relu')}".encode("latin-1"))


def _seed() -> None:
    BLOCK.with_suffix(".seed").write_bytes(b"PK\x03\x04\x14\x00\x00\x00")


def _large() -> None:
    BLOCK.write_text("#" * (MAX_BYTES + 1))


def _link_to_itself() -> None:
    BLOCK.symlink_to(BLOCK)


def _wrong_throughout() -> None:
    lines = "".join("    let = 1\n" for _ in range(MAX_DIAGNOSTICS + 1))
    BLOCK.write_text(f"blueprint block() {{\n{lines}}}\n")


def _idle_throughout() -> None:
    lines = "".join(f"    let unused_{index} = 2\n" for index in range(MAX_DIAGNOSTICS + 1))
    BLOCK.write_text(f"blueprint block(width: dim) {{\n    input x: f32[N, width]\n    output x\n{lines}}}\n")


def _imports() -> None:
    files = ["block", *(f"block_{index}" for index in range(1, MAX_IMPORTS + 2))]
    for file, imported in pairwise(files):
        text = f'import "{imported}.esp"\n{LAYER.format(name=file, calls="relu")}'
        Path(f"{file}.esp").write_text(text)
    Path(f"{files[-1]}.esp").write_text(LAYER.format(name=files[-1], calls="relu"))


def _calls() -> None:
    names = ["block", *(f"layer_{index}" for index in range(1, MAX_CALLS + 2)), "relu"]
    BLOCK.write_text("".join(LAYER.format(name=name, calls=calls) for name, calls in pairwise(names)))


MADE: dict[str, Callable[[], None]] = {
    "E0106": _nested,
    "E0112": _in_latin_1,
    "E0113": _seed,
    "E0115": _large,
    "E0116": _link_to_itself,
    "E0118": _wrong_throughout,
    "E0219": _imports,
    "E0221": _calls,
    "W0102": _idle_throughout,
}
"""Files that a page cannot show, for they are too large, too many or no text: its commands run on them."""

NEVER_ALONE = {"E0118", "W0102"}
"""They are told after two hundred diagnostics of other codes."""


@dataclass(frozen=True)
class Part:
    """files: texts by name. commands: each with what it prints; a line `...` stands for any lines."""

    files: dict[str, str]
    commands: list[tuple[str, str]]
    scripts: list[str]


def parts(page: str) -> tuple[Part, Part]:
    wrong, repaired = map(_part, _PART.split(page)[1:])
    return wrong, repaired


def _part(text: str) -> Part:
    part = Part({}, [], [])
    for match in _BLOCK.finditer(text):
        match match["kind"]:
            case "esp":
                part.files[match["file"] or BLOCK.name] = match["text"]
            case "python":
                part.scripts.append(match["text"])
            case "console":
                command, _, output = match["text"].partition("\n")
                part.commands.append((command, output))
            case kind:
                raise AssertionError(f"a block of `{kind}`")
    return part


def lay_out(part: Part) -> None:
    for name, text in part.files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


def run(command: str) -> Result:
    words = shlex.split(command)
    assert words[:2] == ["$", "esperc"], command
    return CliRunner().invoke(main, [*words[2:], "--quiet"])


def run_script(script: str) -> None:
    Path("script.py").write_text(script, encoding="utf-8")
    runpy.run_path("script.py")


def is_shown_as(output: str, shown: str) -> bool:
    """Whether a page shows `output`: broken into lines as it likes, `...` in place of some of them."""
    pieces = [" ".join(piece.split()) for piece in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    return re.fullmatch(".*".join(map(re.escape, pieces)), " ".join(output.split())) is not None


def kinds() -> list[type[EsperError]]:
    found = [*vars(errors).values(), *vars(ir_errors).values()]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, EsperError)]


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are relative to an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_each_code_of_the_language_has_a_page_and_each_page_a_code() -> None:
    of_language = {kind.code for kind in vars(errors).values() if kind in kinds()} - {EsperError.code}
    of_types = {kind.code for kind in kinds() if kind.code.startswith(RANGE_OF_TYPES)}
    of_searches = {code for code in declarations() if code.startswith(RANGE_OF_SEARCHES)}
    assert set(PAGES) == (of_language | of_types | of_searches) - INTERNAL - OF_DEVICES


@pytest.mark.parametrize("code", PAGES)
def test_a_page_is_titled_by_its_code_and_readable_at_80_columns(code: str) -> None:
    page = PAGES[code]
    assert re.match(rf"# {code}: [a-z`].*[^.]\n\n[A-Z`]", page)
    assert page.endswith("```\n") and "\n\n\n" not in page
    assert not [line for line in explanation(code).text.splitlines() if len(line) > WIDTH]


@pytest.mark.parametrize("code", PAGES)
def test_what_a_page_calls_wrong_gives_its_code(code: str, in_folder: None) -> None:
    wrong, _ = parts(PAGES[code])
    lay_out(wrong)
    if code in MADE:
        assert wrong.commands and not wrong.files
        MADE[code]()
    if not wrong.commands and not wrong.scripts:
        assert {found.code for found in check_files([BLOCK]).diagnostics} == {code}
    for command, output in wrong.commands:
        result = run(command)
        assert is_shown_as(result.output, output)
        told = set(re.findall(r"(?:error|warning)\[(\w+)\]", result.output))
        assert code in told if code in NEVER_ALONE else told == {code}
        assert result.exit_code == (0 if code.startswith("W") else 1)
    for script in wrong.scripts:
        with pytest.raises(EsperError) as caught:
            run_script(script)
        assert caught.value.code == code


@pytest.mark.parametrize("code", PAGES)
def test_what_a_page_calls_repaired_is_clean_and_laid_out(code: str, in_folder: None) -> None:
    wrong, repaired = parts(PAGES[code])
    lay_out(wrong)
    lay_out(repaired)
    assert repaired.files or repaired.commands or repaired.scripts
    for name, text in repaired.files.items():
        assert check_files([name]).diagnostics == []
        assert format_source(Source(name, text)) == text
    for command, output in repaired.commands:
        result = run(command)
        assert result.exit_code == 0
        assert not output
    for script in repaired.scripts:
        run_script(script)
