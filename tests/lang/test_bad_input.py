"""Whatever a path holds, `esperc check` ends soon, in little memory, with diagnostics and no traceback.

Each input is given to a process whose processor time and memory the system bounds.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from esper.lang.diagnostics import MAX_DIAGNOSTICS
from esper.lang.source import MAX_BYTES

PROCESSOR_SECONDS = 30
MEMORY = 2 * 1024**3
GOOD = "blueprint b(width: dim = 4) {\n    input x: f32[N, width]\n    output x\n}\n"


def _bounded() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_SECONDS, PROCESSOR_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "esper.cli.esperc", "check", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=_bounded,
    )


def _codes(path: Path) -> list[str]:
    """The codes for `path`, each once, from a run that ended as one with diagnostics does."""
    run = _run("--json", path)
    assert "Traceback" not in run.stderr
    found = json.loads(run.stdout)["diagnostics"]
    codes = [diagnostic["code"] for diagnostic in found]
    assert run.returncode == (1 if any(code.startswith("E") for code in codes) else 0), run.stderr
    for diagnostic in found:
        assert diagnostic["line"] >= 1 and diagnostic["column"] >= 1
        assert len(diagnostic["message"]) < 1000
    assert len(codes) <= 2 * (MAX_DIAGNOSTICS + 1)
    return list(dict.fromkeys(codes))


def test_warnings_are_no_error_however_many(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_bytes(_body("\n".join(f"let a{index} = 1" for index in range(MAX_DIAGNOSTICS + 50))))
    assert _codes(path) == ["W0201", "W0102"]


def _body(statements: str, parameters: str = "") -> bytes:
    return f"blueprint b({parameters}) {{\ninput x: f32[N, 4]\n{statements}\noutput x\n}}\n".encode()


CALLS = [f"blueprint b{i}() {{ input x: f32[N] output b{i + 1}(x) }}" for i in range(80)]
"""A chain of blueprints whose last one is not there."""

CONTENTS: dict[str, tuple[bytes, list[str]]] = {
    "an empty file": (b"", ["E0114"]),
    "white space": (b"\n \t\r\n", ["E0114"]),
    "a byte order mark alone": (b"\xef\xbb\xbf", ["E0114"]),
    "a byte order mark before the text": (b"\xef\xbb\xbf" + GOOD.encode(), []),
    "two byte order marks": (b"\xef\xbb\xbf" * 2 + GOOD.encode(), ["E0102"]),
    "carriage returns": (GOOD.replace("\n", "\r\n").encode(), []),
    "carriage returns alone": (GOOD.replace("\n", "\r").encode(), []),
    "Latin-1": ("# Déjà vu.\n".encode("latin-1") + GOOD.encode(), ["E0112"]),
    "UTF-16": (GOOD.encode("utf-16"), ["E0112"]),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), ["E0112"]),
    "lines that end as on old Macintoshes": (b"# A remark.\r" + GOOD.replace("\n", "\r").encode(), []),
    "a run of hard spaces": (b"\xc2\xa0" * 4 + GOOD.encode(), ["E0102"]),
    "a surrogate in UTF-8": (b"# \xed\xa0\x80\n" + GOOD.encode(), ["E0112"]),
    "an overlong encoding": (b"# \xc0\xaf\n" + GOOD.encode(), ["E0112"]),
    "an executable": (b"\x7fELF\x02\x01\x01\x00" * 1000, ["E0113"]),
    "control characters": (b"\x01\x02\x1b[31m" + GOOD.encode(), ["E0102"]),
    "10 MB of blueprints": (GOOD.encode() * (10 * 1024**2 // len(GOOD)), ["E0115"]),
    "10 MB in a line": (b"blueprint " * 1024**2, ["E0115"]),
    "4 MB in a line": (b"blueprint " * (MAX_BYTES // 10), ["E0105", "E0118"]),
    "4 MB of stray characters": (b"$" * MAX_BYTES, ["E0102", "E0118"]),
    "4 MB of quotes": (b'"\n' * (MAX_BYTES // 2), ["E0103", "E0118"]),
    "4 MB of a name": (b"blueprint " + b"a" * (MAX_BYTES - 10), ["E0101"]),
    "a sum of 50,000": (_body("let a = 1" + " + 1" * 50_000), ["W0201"]),
    "4 MB of digits": (_body("let a = " + "9" * (MAX_BYTES - 100)), ["E0109"]),
    "100,000 parentheses": (_body(f"let a = {'(' * 100_000}1{')' * 100_000}"), ["E0106"]),
    "100,000 parentheses never closed": (b"blueprint b" + b"(" * 100_000, ["E0101"]),
    "100,000 brackets": (_body(f"let a = {'[' * 100_000}1{']' * 100_000}"), ["E0106"]),
    "100,000 braces": (_body(f"{'if true {' * 100_000}{'}' * 100_000}"), ["E0106"]),
    "100,000 signs": (_body(f"let a = {'-' * 100_000}1"), ["E0106"]),
    "100,000 powers": (_body(f"let a = {'1 ** ' * 100_000}1"), ["E0106"]),
    "100,000 steps": (_body(f"h = x{' |> relu()' * 100_000}\noutput h = h"), ["E0106"]),
    "20,000 branches": (_body("if x { } else " * 20_000 + "{ }"), ["E0106"]),
    "2,000 inputs": (_body("".join(f"input y{i}: f32[N]\n" for i in range(2000))), ["W0201", "W0102"]),
    "10,000 parameters": (_body("", ",".join(f"a{i}: int = 1" for i in range(10_000))), ["W0201", "W0102"]),
    "a repeat of a thousand million": (_body("repeat 1000000000 { x = relu(x) }"), ["E0414"]),
    "a repeat in a repeat": (_body("repeat 10000 { repeat 10000 { let a = 1 } }"), ["E0415"]),
    "a repeat of more than 64 bits": (_body("repeat 99999999999999999999 { }"), ["E0109"]),
    "a repeat of less than none": (_body("repeat 0 - 1 { }"), ["E0414"]),
    "a division by zero": (_body("let a = 1 // 0\nlet b = 1 % 0\nlet c = 1 / 0"), ["E0406"]),
    "a size that overflows": (_body(f"let a = {' * '.join(['9000000000'] * 3)}"), ["E0407"]),
    "a tensor that overflows": (_body("h = linear(x, 9223372036854775807)\noutput h = h"), ["E0322"]),
    "an exponent that overflows": (_body("let a = 10 ** 1000000000"), ["E0407"]),
    "a tower of exponents": (_body("let a = 9 ** 9 ** 9 ** 9"), ["E0407"]),
    "a number that overflows": (_body("let a = 1e999"), ["E0109"]),
    "a number that vanishes": (_body("let a = 1e-999"), ["W0201"]),
    "a range of a thousand million": (_body("", "k: int = 1 in 1..1000000000"), ["W0201", "E0420"]),
    "a range without a step": (_body("", "k: int = 1 in 1..9 step 0"), ["W0201", "E0420"]),
    "a blueprint that calls itself": (b"blueprint b() { input x: f32[N] output b(x) }", ["E0220"]),
    "blueprints that call one another": (
        b"blueprint a() { input x: f32[N] output b(x) }\nblueprint b() { input x: f32[N] output a(x) }",
        ["E0220"],
    ),
    "a chain of calls": ("\n".join(CALLS).encode(), ["E0221", "E0201"]),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_is_diagnosed(name: str, tmp_path: Path) -> None:
    content, codes = CONTENTS[name]
    path = tmp_path / "a.esp"
    path.write_bytes(content)
    assert _codes(path) == codes


def _cycle(folder: Path) -> Path:
    (folder / "a.esp").write_text(f'import "b.esp"\n{GOOD.replace("b(", "a(")}')
    (folder / "b.esp").write_text(f'import "a.esp"\n{GOOD}')
    return folder / "a.esp"


def _itself(folder: Path) -> Path:
    (folder / "a.esp").write_text(f'import "a.esp"\n{GOOD}')
    return folder / "a.esp"


def _chain(folder: Path) -> Path:
    for index in range(100):
        text = f'import "a{index + 1}.esp"\n{GOOD.replace("b(", f"b{index}(")}'
        (folder / f"a{index}.esp").write_text(text)
    (folder / "a100.esp").write_text(GOOD)
    return folder / "a0.esp"


def _directory(folder: Path) -> Path:
    return folder


def _missing(folder: Path) -> Path:
    return folder / "a.esp"


def _named_too_long(folder: Path) -> Path:
    return folder / ("a" * 300)


def _link_to_itself(folder: Path) -> Path:
    (folder / "a.esp").symlink_to(folder / "a.esp")
    return folder / "a.esp"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "a.esp")
    return folder / "a.esp"


def _zeros(_: Path) -> Path:
    return Path("/dev/zero")


def _nothing(_: Path) -> Path:
    return Path("/dev/null")


def _import_of_a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "b.esp")
    (folder / "a.esp").write_text(f'import "b.esp"\n{GOOD}')
    return folder / "a.esp"


def _import_of_a_directory(folder: Path) -> Path:
    (folder / "b.esp").mkdir()
    (folder / "a.esp").write_text(f'import "b.esp"\n{GOOD}')
    return folder / "a.esp"


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (_cycle, "E0216"),
        (_itself, "E0216"),
        (_chain, "E0219"),
        (_directory, "E0111"),
        (_missing, "E0110"),
        (_named_too_long, "E0116"),
        (_link_to_itself, "E0116"),
        (_pipe, "E0116"),
        (_zeros, "E0116"),
        (_nothing, "E0116"),
        (_import_of_a_pipe, "E0217"),
        (_import_of_a_directory, "E0217"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else value,
)
def test_a_path_is_diagnosed(made: Callable[[Path], Path], code: str, tmp_path: Path) -> None:
    assert code in _codes(made(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "a.esp"
    path.write_text(GOOD)
    path.chmod(0)
    assert _codes(path) == ["E0116"]


def test_a_bad_file_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.esp").write_bytes(b"\0")
    (tmp_path / "b.esp").write_text(GOOD.replace("output x", "output y"))
    run = _run(tmp_path / "a.esp", tmp_path, tmp_path / "b.esp")
    assert re.findall(r"error\[(\w+)\]", run.stdout) == ["E0113", "E0111", "E0202"]
    assert run.returncode == 1
