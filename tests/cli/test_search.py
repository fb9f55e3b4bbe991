"""esperc search: one document, one file, and errors that say what to change."""

from __future__ import annotations

import json
from pathlib import Path

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
