"""`esperc registry`: what a search chose, when and why, what was made of it, and what has become worse."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli.esperc import main
from esper.lang import lower
from esper.tezzeret.costs import REFERENCE_DEVICE
from esper.tezzeret.recount import graph_of
from esper.tezzeret.registry import Blueprint, Provenance, open_registry

SEARCH = ("search", "mlp_block", "--set", "features=32", "--size", "S=8,8", "--constraint", "params<=5000")


def esperc(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A registry with what one search found."""
    path = tmp_path / "chosen.db"
    result = esperc(*SEARCH, "--registry", path)
    assert result.exit_code == 0 and f"kept in {path} as version 1" in result.stderr
    return path


def versions(file: Path, *text: str) -> list[dict[str, object]]:
    found = json.loads(esperc("registry", "ls", file, *text, "--json").stdout)["versions"]
    assert isinstance(found, list)
    return found


def test_a_line_says_which_values_when_what_they_cost_and_how_they_were_found(file: Path) -> None:
    _, line = esperc("registry", "ls", file).stdout.splitlines()
    assert re.match(r"1  mlp_block  \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  act=\w+ expand=\d features=32  ", line)
    assert line.endswith("evolutionary for latency, 16 candidates, seed 0, within params<=5000")


def test_the_same_search_is_one_version_and_another_is_a_second(file: Path) -> None:
    esperc(*SEARCH, "--registry", file)
    assert len(versions(file)) == 1
    esperc(*SEARCH, "--objective", "memory", "--registry", file)
    assert [one["number"] for one in versions(file)] == [1, 2]
    assert [one["number"] for one in versions(file, "for memory")] == [2]
    nothing = esperc("registry", "ls", file, "blocks.0")
    assert nothing.stdout == "" and "none with 'blocks.0'" in nothing.stderr


def test_a_version_is_written_as_the_blueprint_that_was_chosen(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "first.esp"
    shown = esperc("registry", "show", file, "1", "-o", out)
    (found,) = versions(file)
    assert lower(out).hash == found["ir_hash"]
    assert f"hash     {found['ir_hash']}" in shown.stdout
    assert "counted  latency_ms" in shown.stdout and '{"sizes": {"S": [8, 8]}}' in shown.stdout


def test_an_edit_of_a_version_tells_what_it_was_made_from(file: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.esp", tmp_path / "second.esp"
    esperc("registry", "show", file, "1", "-o", first)
    result = esperc("modify", first, "remove:layer_norm", "-o", second, "--registry", file)
    assert result.exit_code == 0 and "as version 2" in result.stderr
    shown = esperc("registry", "show", file, "2").stdout
    assert "from     version 1, remove:layer_norm" in shown
    assert lower(second).hash in shown
    with open_registry(file) as registry:
        assert graph_of(registry.versions[2].blueprint).hash == lower(second).hash


def test_counting_again_finds_what_costs_more_than_it_did(file: Path) -> None:
    as_it_was = esperc("registry", "recount", file)
    assert (as_it_was.exit_code, as_it_was.stdout) == (0, "1  mlp_block: as it was\n")
    (found,) = versions(file)
    with open_registry(file) as registry:
        before = registry.measurements.of(str(found["ir_hash"]))[0]
        registry.measurements.add(
            before.ir_hash,
            "latency_ms",
            before.value / 2,
            standard_error=0.0,
            device=REFERENCE_DEVICE.name,
            conditions=before.conditions,
        )
    worse = esperc("registry", "recount", file)
    assert worse.exit_code == 1 and "worse than" in worse.stdout and "by 100 %" in worse.stdout
    assert "by 100 %" in esperc("registry", "ls", file).stdout
    assert "worse    latency_ms" in esperc("registry", "show", file, "1").stdout
    (told,) = json.loads(esperc("registry", "recount", file, "--json").stdout)["blueprints"]
    assert told["regressions"][0]["quantity"] == "latency_ms" and told["problem"] is None


def test_what_imports_other_files_is_kept_as_one_that_stands_alone(tmp_path: Path) -> None:
    (tmp_path / "layer.esp").write_text(
        "blueprint layer(n: dim) { input x: f32[N, n] output linear(x, n) }\n"
    )
    source = tmp_path / "block.esp"
    source.write_text(
        'import "layer.esp"\n'
        "blueprint block(k: op = relu in {relu, silu}) { input x: f32[N, 8] output x |> layer(n=8) |> k() }\n"
    )
    file, out = tmp_path / "chosen.db", tmp_path / "out.esp"
    assert esperc("search", source, "--registry", file).exit_code == 0
    assert esperc("registry", "recount", file).exit_code == 0
    assert esperc("registry", "show", file, "1", "-o", out).exit_code == 0
    assert lower(out).hash == versions(file)[0]["ir_hash"]


def test_a_graph_is_counted_again_and_written_as_a_source(tmp_path: Path) -> None:
    file, out, ir = tmp_path / "chosen.db", tmp_path / "out.esp", lower("norm")
    with open_registry(file) as registry:
        registry.versions.add(Blueprint(ir.hash, ir.name, str(ir)), Provenance("a test", "by hand"))
    assert esperc("registry", "recount", file).stdout == "1  norm: as it was\n"
    assert esperc("registry", "show", file, "1", "-o", out).exit_code == 0
    assert lower(out).hash == ir.hash


def test_a_source_that_gives_another_graph_or_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "chosen.db"
    with open_registry(file) as registry:
        for letter, source in (("a", "output relu(x)"), ("b", "output unheard_of(x)")):
            text = f"blueprint layer() {{ input x: f32[N, 4] {source} }}"
            blueprint = Blueprint(letter * 64, "layer", text)
            registry.versions.add(blueprint, Provenance("a test", "by hand"))
    result = esperc("registry", "recount", file)
    assert result.exit_code == 1
    one, other = result.stdout.splitlines()
    assert "gives another graph" in one and "unheard_of" in other


@pytest.mark.parametrize("command", [("ls",), ("show", "1"), ("recount",)])
def test_looking_begins_no_registry_and_takes_no_other_file_for_one(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    name, *rest = command
    absent, other = tmp_path / "absent.db", tmp_path / "notes.txt"
    other.write_text("no database")
    for path in (absent, other):
        result = esperc("registry", name, path, *rest)
        assert result.exit_code == 1 and "error[E1041]" in result.stderr and result.stdout == ""
    assert not absent.exists() and other.read_text() == "no database"


def test_a_number_that_no_version_has_is_told_with_those_there_are(file: Path) -> None:
    result = esperc("registry", "show", file, "7")
    assert result.exit_code == 1 and "error[E1043]" in result.stderr and "it has 1 to 1" in result.stderr


def test_help_is_as_it_was(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    golden("help_registry.txt", esperc("registry", "--help").stdout)


def test_its_commands_take_the_options_of_every_command_and_show_an_example(file: Path) -> None:
    for name in ("ls", "show", "recount"):
        shown = esperc("registry", name, "--help").stdout
        assert "--quiet" in shown and "--debug" in shown and f"esperc registry {name} chosen.db" in shown
    assert esperc("registry", "ls", file, "nothing", "--quiet").stderr == ""
