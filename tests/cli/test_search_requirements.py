"""`esperc search --requirements`: a file settles shapes, limits and the objective."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from esper.cli.esperc import main
from esper.lang import lower
from esper.tezzeret.registry import open_registry
from esper.tezzeret.requirements import parse_requirements

ASKED = {
    "input_shape": [8, 16, 12, 12],
    "output_shape": [8, 16, 12, 12],
    "constraints": {"max_latency_ms": 1.0, "max_memory_mb": 2.0},
    "optimization_target": "memory",
    "hardware_target": "sm_90",
    "dtype": "bf16",
}


def search(folder: Path, asked: object, *options: str) -> Result:
    path = folder / "asked.yaml"
    path.write_text(asked if isinstance(asked, str) else yaml.safe_dump(asked))
    return CliRunner().invoke(main, ["search", "mobilenet_block", "--requirements", str(path), *options])


def test_the_best_takes_the_tensor_that_is_asked_for_within_the_limits(tmp_path: Path) -> None:
    out, file = tmp_path / "best.esp", tmp_path / "chosen.db"
    result = search(tmp_path, ASKED, "-o", str(out), "--registry", str(file), "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["objective"] == "memory"
    assert document["best"]["objectives"]["memory"] <= 2.0 * 2**20
    ir = lower(out)
    assert ir.hash == document["best"]["ir_hash"]
    assert str(ir.inputs[0].type) == "bf16[N, 16, S.0, S.1]"
    with open_registry(file) as registry:
        version = registry.answers.get(parse_requirements(ASKED))
        assert version is not None and version.blueprint.ir_hash == ir.hash
        assert version.provenance.requirements == parse_requirements(ASKED)
    again = search(tmp_path, ASKED, "--registry", str(file))
    assert f"{file} has an answer to this, version 1" in again.stderr


def test_an_objective_on_the_command_line_goes_before_the_files(tmp_path: Path) -> None:
    result = search(tmp_path, ASKED, "--objective", "latency", "--json")
    assert json.loads(result.stdout)["objective"] == "latency"


@pytest.mark.parametrize("option", [("--size", "N=8"), ("--precision", "f16")])
def test_what_the_file_settles_no_option_does(option: tuple[str, str], tmp_path: Path) -> None:
    result = search(tmp_path, ASKED, *option)
    assert result.exit_code == 2 and option[0] in result.stderr


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({**ASKED, "max_latency": 3}, "E1040", "unknown key `max_latency`"),
        ("input_shape: [32, 48\n", "E1040", "line 2: expected"),
        ("- 1\n", "E1040", "expected a mapping"),
        ({**ASKED, "output_shape": [8, 16, 6, 6]}, "E0329", "keep the shape"),
        ({**ASKED, "input_shape": [8, 16], "output_shape": [8, 16]}, "E0329", "does not fit"),
        ({**ASKED, "optimization_target": "accuracy"}, "E", "accuracy"),
    ],
)
def test_what_cannot_be_met_is_told(asked: object, code: str, words: str, tmp_path: Path) -> None:
    result = search(tmp_path, asked)
    assert result.exit_code == 1 and f"error[{code}" in result.stderr and words in result.stderr


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "absent.yaml")
    result = CliRunner().invoke(main, ["search", "mobilenet_block", "--requirements", path])
    assert result.exit_code == 1 and "error[E0116]" in result.stderr
