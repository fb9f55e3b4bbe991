"""`esperc modify`: edits on the command line, the graph in a file, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli.esperc import main
from esper.ir.graph import BlueprintIR
from esper.lang import lower

MLP = ("mlp_block", "--set", "features=64")


def modify(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["modify", *arguments])


@pytest.mark.parametrize("name", ["new.ir", "new.json"])
def test_the_graph_is_written_and_its_hash_printed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    result = modify(*MLP, "replace:gelu=relu", "resize:linear=128", "-o", str(path))
    assert result.exit_code == 0, result.stderr
    text = path.read_text()
    ir = BlueprintIR.from_json(text) if path.suffix == ".json" else BlueprintIR.from_text(text)
    assert result.stdout == f"{ir.hash}\n"
    assert ir.hash == lower("mlp_block", features=64, expand=2, act="relu").hash
    assert modify(str(path), "remove:layer_norm").exit_code == 0


def test_json_has_both_hashes_and_the_edits() -> None:
    document = json.loads(modify(*MLP, "replace:gelu=relu", "--json").stdout)
    assert document["edits"] == ["replace:gelu=relu"]
    assert document["ir_hash_before"] == lower("mlp_block", features=64).hash
    assert BlueprintIR.from_text(document["ir"]).hash == document["ir_hash"]


def test_no_file_is_written_where_an_edit_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "new.ir"
    result = modify(*MLP, "replace:gelu=relu", "remove:gleu", "-o", str(path))
    assert result.exit_code == 1
    assert "error[E1061]" in result.stderr
    assert "did you mean `gelu`?" in result.stderr
    assert not path.exists()


def test_a_source_is_written_that_lowers_to_the_edited_graph(tmp_path: Path) -> None:
    path = tmp_path / "new.esp"
    edits = ("replace:gelu=relu", "resize:linear=128", "constrain:params<=300000")
    result = modify(*MLP, *edits, "-o", str(path))
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{lower(path).hash}\n"
    assert lower(path).hash == lower("mlp_block", features=64, expand=2, act="relu").hash
    text = path.read_text()
    assert "constraint params <= 300000" in text
    assert "##   resize:linear=128" in text
    assert modify(str(path), "remove:layer_norm").exit_code == 0


def test_a_source_keeps_the_constraints_that_the_blueprint_states(tmp_path: Path) -> None:
    source, path = tmp_path / "block.esp", tmp_path / "new.esp"
    stated = 'constraint latency_ms <= 0.5 on "sm_90"'
    source.write_text(f"blueprint b() {{ {stated} input x: f32[N, 8] output x |> linear(8) |> relu() }}\n")
    assert modify(str(source), "replace:relu=gelu", "-o", str(path)).exit_code == 0
    assert stated in path.read_text()


def test_weights_that_get_other_names_are_told(tmp_path: Path) -> None:
    path = tmp_path / "new.esp"
    result = modify("transformer_llama", "replace:linear_4=square", "--json", "-o", str(path))
    document = json.loads(result.stdout)
    assert document["renamed"]["linear_5.weight"] == "linear_4.weight"
    assert "linear_5.weight -> linear_4.weight" in result.stderr
    assert document["ir_hash"] == lower(path).hash


def test_the_edited_file_is_never_overwritten_by_what_is_made_of_it(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text("blueprint b(n: dim = 8) { input x: f32[N, n] output x |> linear(n) |> relu() }\n")
    before = path.read_text()
    result = modify(str(path), "replace:relu=gelu", "-o", str(path))
    assert result.exit_code == 1 and "error[E1006]" in result.stderr
    assert path.read_text() == before


def test_a_name_of_another_kind_is_wrong_usage(tmp_path: Path) -> None:
    result = modify(*MLP, "remove:layer_norm", "-o", str(tmp_path / "new.txt"))
    assert result.exit_code == 2
    assert "ends in .esp, .ir or .json" in result.stderr


def test_a_constraint_is_checked_at_the_given_sizes() -> None:
    bound = ("constrain:flops<=1000000", "--size", "S=1,1")
    assert modify(*MLP, *bound, "--size", "N=1").exit_code == 0
    assert "error[E1064]" in modify(*MLP, *bound, "--size", "N=64").stderr


def test_help_is_as_it_was(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    golden("help_modify.txt", modify("--help").stdout)
