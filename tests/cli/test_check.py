"""`esperc check` and `esperc templates`: formats, exit codes, and what they do not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from esper.cli.check import check
from esper.cli.templates import templates
from esper.lang import library

GOOD = "blueprint b(width: dim = 4) { input x: f32[N, width] output x }"
WARNED = "blueprint b(width: dim = 4) { input x: f32[N] output x }"
BAD = "blueprint b(width: dim = 4) { input x: f32[N, width] output gelo(x) }"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, text in [("good.esp", GOOD), ("warned.esp", WARNED), ("bad.esp", BAD)]:
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in ("good.esp", "warned.esp", "bad.esp")]


def test_warnings_alone_are_no_failure(files: list[str]) -> None:
    result = CliRunner().invoke(check, files[:2])
    assert result.exit_code == 0
    assert "warned.esp:1:13: warning[W0201]" in result.stdout
    assert "2 files: 0 errors, 1 warning" in result.stderr


def test_all_files_are_told_and_an_error_makes_the_exit_code_one(files: list[str]) -> None:
    result = CliRunner().invoke(check, [*files, str(Path(files[0]).with_name("missing.esp"))])
    assert result.exit_code == 1
    assert "[W0201]" in result.stdout and "[E0201]" in result.stdout and "[E0110]" in result.stdout


@pytest.mark.parametrize("options", [["--json"], ["--output-format", "json"]])
def test_json_is_one_document(options: list[str], files: list[str]) -> None:
    document = json.loads(CliRunner().invoke(check, [*options, *files]).stdout)
    assert [found["code"] for found in document["diagnostics"]] == ["W0201", "E0201"]


def test_sarif_and_github_are_printed_whole(files: list[str]) -> None:
    sarif = CliRunner().invoke(check, ["--output-format", "sarif", *files])
    assert json.loads(sarif.stdout)["version"] == "2.1.0"
    github = CliRunner().invoke(check, ["--output-format", "github", *files])
    assert len(github.stdout.splitlines()) == 2


def test_templates_lists_the_library_and_shows_one_entry() -> None:
    listed = CliRunner().invoke(templates, [])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == [entry.name for entry in library()]
    shown = CliRunner().invoke(templates, ["mlp_block"])
    assert "act: op = gelu in {relu, gelu, silu, tanh}" in shown.stdout


def test_templates_json_has_the_fields_of_the_contract() -> None:
    document = json.loads(CliRunner().invoke(templates, ["--json"]).stdout)
    assert document["schema_version"] == 1
    assert {"name", "summary", "parameters", "file"} <= document["templates"][0].keys()


def test_checking_the_library_imports_neither_torch_nor_triton() -> None:
    files = [entry.file for entry in library()]
    program = (
        "import sys\nfrom esper.cli.esperc import main\n"
        f"try:\n    main(['check', '--quiet', *{files!r}])\n"
        "except SystemExit as end:\n    assert end.code == 0, end.code\n"
        "print({'torch', 'triton'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == ("set()\n", 0), run.stderr
