"""esperc search: one document, one file, and errors that say what to change."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esper.cli.esperc import main
from esper.lang import lower, signature


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["search", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_the_written_blueprint_has_the_best_values_as_defaults(tmp_path: Path) -> None:
    out = tmp_path / "best.esp"
    code, stdout, _ = run(
        *("mlp_block", "--set", "features=32", "--constraint", "params<=5000", "-o", str(out), "--json")
    )
    assert code == 0
    document = json.loads(stdout)
    assert document["schema_version"] == 1
    assert document["best"]["objectives"]["params"] <= 5000
    assert lower(out).hash == document["best"]["ir_hash"]
    assert {p.name: p.default for p in signature(out).parameters} == {
        "features": 32,
        **document["best"]["values"],
    }


def test_the_written_blueprint_has_the_precision_that_was_searched(tmp_path: Path) -> None:
    out = tmp_path / "best.esp"
    code, stdout, _ = run("mlp_block", "--precision", "bf16", "-o", str(out), "--json")
    assert code == 0
    assert lower(out).hash == json.loads(stdout)["best"]["ir_hash"]


def test_figures_are_said_to_be_estimates_of_a_named_gpu() -> None:
    code, stdout, _ = run("mlp_block", "--json")
    document = json.loads(stdout)
    assert code == 0
    assert "A100" in document["device"] and document["measured"] is False
    assert "nothing was measured" in run("mlp_block")[1]


def test_the_report_names_the_choice_and_how_it_was_found() -> None:
    code, stdout, _ = run("mlp_block", "--set", "act=gelu", "--objective", "memory")
    assert code == 0
    assert stdout.splitlines()[0].split()[:2] == ["expand", "params"]
    assert "least memory of all of 4 points" in stdout


def test_nothing_feasible_is_an_error_and_writes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "best.esp"
    code, stdout, stderr = run("mlp_block", "--constraint", "params<=1", "-o", str(out))
    assert (code, stdout) == (1, "")
    assert "E1004" in stderr and not list(tmp_path.iterdir())


def test_the_searched_file_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "block.esp"
    source.write_text(
        "blueprint b(n: dim = 4, k: int = 1 in {1, 2}) { input x: f32[N, n] output linear(x, n * k) }\n"
    )
    before = source.read_text()
    code, _, stderr = run(str(source), "-o", str(source))
    assert code == 1 and "E1006" in stderr
    assert source.read_text() == before


@pytest.mark.parametrize("constraint", ["foo", "parms<=3"])
def test_a_bad_constraint_is_the_inputs_fault(constraint: str) -> None:
    assert run("mlp_block", "--constraint", constraint)[0] == 1


WIDE = """blueprint wide(
    a: int = 1 in 1..200,
    b: int = 1 in 1..200,
    c: int = 1 in 1..200,
    act: op = relu in {relu, gelu, silu},
) {
    input x: f32[N, 8]
    output x |> linear(a) |> act() |> linear(b) |> act() |> linear(c)
}
"""
ENDLESSLY = ("--trials", "1000000", "--patience", "0")


@pytest.fixture
def wide(tmp_path: Path) -> str:
    path = tmp_path / "wide.esp"
    path.write_text(WIDE)
    return str(path)


@pytest.mark.parametrize("algorithm", ["evolutionary", "random", "bayesian", "local"])
def test_every_algorithm_can_be_named(wide: str, algorithm: str) -> None:
    arguments = [wide, "--algorithm", algorithm, "--trials", "15", "--constraint", "params>=3000", "--json"]
    code, stdout, _ = run(*arguments)
    document = json.loads(stdout)
    assert code == 0
    assert document["algorithm"] == algorithm and document["trials"] == 15
    assert document["stopped"] == "trials" and document["best"] == document["top"][0]
    assert document["best"] in document["front"] and document["best"]["objectives"]["params"] >= 3000


def test_a_search_is_kept_and_gone_on_with(wide: str, tmp_path: Path) -> None:
    file = str(tmp_path / "trials.db")
    first = json.loads(run(wide, "--trials", "20", "--storage", file, "--json")[1])
    code, stdout, stderr = run(wide, "--trials", "30", "--storage", file, "--resume", "--json")
    assert code == 0 and f"20 evaluations are in {file}" in stderr
    found, unbroken = json.loads(stdout), json.loads(run(wide, "--trials", "30", "--json")[1])
    assert {**found, "seconds": 0} == {**unbroken, "seconds": 0} and found["trials"] > first["trials"]


def test_a_storage_is_neither_overwritten_nor_resumed_for_something_else(wide: str, tmp_path: Path) -> None:
    file = tmp_path / "trials.db"
    run(wide, "--trials", "5", "--storage", str(file))
    before = file.read_bytes()
    assert "E1023" in run(wide, "--trials", "5", "--storage", str(file))[2]
    assert "E1025" in run(wide, "--trials", "5", "--storage", str(file), "--resume", "--seed", "1")[2]
    assert file.read_bytes() == before


def test_what_to_resume_has_to_be_named(wide: str) -> None:
    code, _, stderr = run(wide, "--resume")
    assert code == 2 and "--storage" in stderr


def started(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "esper.cli.esperc", "search", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_search_with_the_best_so_far(
    wide: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out, file = tmp_path / "best.esp", tmp_path / "trials.db"
    given = (wide, *ENDLESSLY, "--storage", str(file), "-o", str(out), "--json")
    with started(*given, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert "evaluations are kept" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(number)
        stdout, _ = process.communicate(timeout=60)
    document = json.loads(stdout)
    assert process.returncode == code
    assert document["stopped"] == "cancelled" and document["trials"] > 0
    assert lower(out).hash == document["best"]["ir_hash"]
    again = run(wide, "--trials", str(document["trials"]), *ENDLESSLY[2:], "--storage", str(file), "--resume")
    assert again[0] == 0 and f"{document['trials'] + document['duplicates']} evaluations" in again[2]


def test_a_terminal_is_shown_the_best_so_far_in_one_line(wide: str) -> None:
    terminal, end = os.openpty()
    with started(wide, "--trials", "200", "--patience", "0", stderr=end) as process:
        os.close(end)
        stdout, _ = process.communicate(timeout=120)
    shown = os.read(terminal, 1_000_000).decode()
    os.close(terminal)
    assert process.returncode == 0 and "least latency of" in stdout
    assert "/200  best: " in shown and " act=" in shown and "\n" not in shown


def test_the_command_that_is_told_to_compile_the_best_compiles_it(wide: str) -> None:
    given = (wide, "--set", "a=7", "--precision", "bf16", "--trials", "10")
    page, document = run(*given)[1], json.loads(run(*given, "--json")[1])
    (line,) = [line for line in page.splitlines() if line.startswith("compile the best: ")]
    words = shlex.split(line.partition(": ")[2])
    assert words[:2] == ["esperc", "compile"]
    settings = [word for before, word in itertools.pairwise(words) if before == "--set"]
    values = dict(setting.split("=") for setting in settings)
    typed: dict[str, Any] = {name: text if name == "act" else int(text) for name, text in values.items()}
    assert lower(wide, precision="bf16", **typed).hash == document["best"]["ir_hash"]


def test_where_only_cheapness_is_asked_for_a_bound_from_below_is_advised(wide: str) -> None:
    page = run(wide, "--trials", "20")[1]
    (line,) = [line for line in page.splitlines() if line.startswith("what is small is cheap")]
    constraint = shlex.split(line.partition(", add ")[2])
    assert constraint[0] == "--constraint"
    assert "what is small is cheap" not in run(wide, "--trials", "20", *constraint)[1]


def test_contradictory_constraints_are_named_together() -> None:
    limits = ["params<=1200", "flops>=400000000", "bytes<=1e12"]
    options = [word for limit in limits for word in ("--constraint", limit)]
    code, stdout, stderr = run("mlp_block", "--set", "features=16", *options)
    assert (code, stdout) == (1, "") and "E1020" in stderr
    assert "`params<=1200` and `flops>=400000000`" in stderr and "bytes" not in stderr


def test_a_search_that_ends_early_says_why(wide: str) -> None:
    page = run(wide, "--patience", "5", "--algorithm", "random")[1]
    assert "ended early, after 5 candidates without improvement (--patience)" in page
    assert "ended after 0.2 s (--time-limit)" in run(wide, *ENDLESSLY, "--time-limit", "0.2")[1]
    assert "more may be found with more --trials" in run(wide, "--trials", "5")[1]


@pytest.mark.parametrize("command", ["search", "compile"])
def test_a_default_outside_its_domain_is_the_blueprints_fault(tmp_path: Path, command: str) -> None:
    path = tmp_path / "b.esp"
    path.write_text("blueprint b(k: int = 3 in {1, 2}) { input x: f32[N, 4] output x * k }", "utf-8")
    result = CliRunner().invoke(main, [command, str(path)])
    assert result.exit_code == 1
    assert "E0402" in result.stderr and "fault in Esper" not in result.stderr


TIGHT = ("--trials", "4", "--constraint", "params>=530")
"""Of one point in a hundred, far from where a search begins."""


@pytest.fixture
def narrow(tmp_path: Path) -> str:
    path = tmp_path / "narrow.esp"
    path.write_text(
        "blueprint narrow(a: int = 1 in 1..20, b: int = 1 in 1..20) {\n"
        "    input x: f32[N, 6]\n    output x |> linear(a) |> linear(b)\n}\n"
    )
    return str(path)


def test_what_no_candidate_meets_is_left_to_the_solver_and_searched_on_from_there(narrow: str) -> None:
    code, stdout, stderr = run(narrow, *TIGHT, "--json")
    assert code == 0 and "none of 4 candidates meets the constraints: the solver" in stderr
    assert json.loads(stdout)["best"]["objectives"]["params"] >= 530
    code, stdout, stderr = run(narrow, "--trials", "4", "--constraint", "params<=1")
    assert (code, stdout) == (1, "") and "error[E1071]" in stderr and "ask for params<=" in stderr


def test_a_resumed_search_begins_where_the_solver_began(narrow: str, tmp_path: Path) -> None:
    file = str(tmp_path / "trials.db")
    first = json.loads(run(narrow, *TIGHT, "--storage", file, "--json")[1])["best"]
    code, stdout, stderr = run(narrow, "--trials", "6", *TIGHT[2:], "--storage", file, "--resume", "--json")
    assert code == 0 and "solver" not in stderr
    assert json.loads(stdout)["best"]["objectives"]["latency"] <= first["objectives"]["latency"]


def test_the_solver_ends_with_the_time_of_the_search(wide: str) -> None:
    code, stdout, stderr = run(wide, *ENDLESSLY, "--time-limit", "0.3", "--constraint", "params<=1")
    assert (code, stdout) == (1, "") and "error[E1004]" in stderr
