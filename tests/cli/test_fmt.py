"""esperc fmt: files in place, stdin to stdout, and what `--check` and `--diff` say without writing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from esper.cli.esperc import main

LOOSE = "blueprint b(n: dim=4){input x:f32[N,n] output gelu( x )}  # why\n"
LAID_OUT = "blueprint b(n: dim = 4) {\n    input x: f32[N, n]\n    output gelu(x)\n}  # why\n"


def fmt(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["fmt", *arguments], input=stdin)
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def loose(tmp_path: Path) -> Path:
    path = tmp_path / "b.esp"
    path.write_text(LOOSE, encoding="utf-8")
    return path


def test_a_file_is_laid_out_in_place_and_then_left_alone(loose: Path) -> None:
    assert fmt(str(loose)) == (0, "", f"formatted {loose}\n")
    assert loose.read_text(encoding="utf-8") == LAID_OUT
    assert fmt(str(loose)) == (0, "", "")


def test_check_names_the_file_and_writes_nothing(loose: Path) -> None:
    code, stdout, stderr = fmt("--check", str(loose))
    assert (code, stdout) == (1, "")
    assert str(loose) in stderr
    assert loose.read_text(encoding="utf-8") == LOOSE


def test_diff_shows_what_would_change_and_writes_nothing(loose: Path) -> None:
    code, stdout, _ = fmt("--diff", str(loose))
    assert code == 0
    assert "-blueprint b(n: dim=4)" in stdout and "+    output gelu(x)" in stdout
    assert loose.read_text(encoding="utf-8") == LOOSE


def test_stdin_that_never_ends_is_read_up_to_the_limit() -> None:
    with Path("/dev/zero").open("rb") as endless:
        command = [sys.executable, "-m", "esper.cli.esperc", "fmt", "-"]
        found = subprocess.run(
            command, stdin=endless, capture_output=True, text=True, timeout=60, check=False
        )
    assert (found.returncode, found.stdout) == (1, "")
    assert "error[E0115]: the file is larger than" in found.stderr


def test_a_difference_is_a_patch(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    path.write_text("blueprint b() {\n    # a\u2028b\n}", encoding="utf-8")
    told = fmt("--diff", str(path))[1]
    assert told.endswith("-}\n\\ No newline at end of file\n+}\n")
    assert told.count("\n") == 8


def test_stdin_that_is_closed_is_told() -> None:
    command = f"{sys.executable} -m esper.cli.esperc fmt - <&-"
    found = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (found.returncode, found.stderr) == (1, "error[E0116]: `<stdin>` cannot be read: it is closed\n")


def test_stdin_goes_to_stdout() -> None:
    assert fmt("-", stdin=LOOSE) == (0, LAID_OUT, "")
    assert fmt("--check", "-", stdin=LAID_OUT)[0] == 0


def test_a_broken_file_is_left_alone_and_the_others_are_laid_out(tmp_path: Path, loose: Path) -> None:
    broken = tmp_path / "broken.esp"
    broken.write_text("blueprint b() { output relu(x }", encoding="utf-8")
    code, stdout, stderr = fmt(str(broken), str(tmp_path / "none.esp"), str(loose))
    assert (code, stdout) == (1, "")
    assert "E0107" in stderr and "E0110" in stderr
    assert broken.read_text(encoding="utf-8") == "blueprint b() { output relu(x }"
    assert loose.read_text(encoding="utf-8") == LAID_OUT
