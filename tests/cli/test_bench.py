"""`esperc bench` and `esperc calibrate`: what they tell, keep and refuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from esper.cli.esperc import main
from esper.cli.measured import Place
from esper.tezzeret.prediction.device import cpu_name
from esper.tezzeret.prediction.recorded import recorded
from esper.tezzeret.registry import open_registry

SMALL = ("mlp_block", "--set", "features=16", "--size", "N=2", "--size", "S=2,2")
QUICK = ("--seconds", "0.02", "--without", "torch.compile")


@pytest.fixture(autouse=True)
def _own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPER_DATA_DIR", str(tmp_path / "data"))


def esperc(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_seed_and_eager_are_timed_in_each_part() -> None:
    result = esperc("bench", *SMALL, *QUICK, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["device"] == cpu_name() and document["tier"] == "torch"
    assert {(row["contender"], row["part"]) for row in document["rows"]} == {
        (contender, part) for contender in ("seed", "eager") for part in ("forward", "backward", "step")
    }
    for row in document["rows"]:
        assert 0 < row["least_seconds"] <= row["median_seconds"]
        assert row["low_seconds"] <= row["median_seconds"] <= row["high_seconds"]
    assert document["absent"] == {"torch.compile": "left out"}


def test_the_page_names_the_device_and_who_did_not_run() -> None:
    result = esperc("bench", *SMALL, *QUICK)
    assert result.exit_code == 0, result.output
    assert f"on {cpu_name()}, one thread" in result.stdout
    assert "torch.compile did not run: left out" in result.stdout


def test_without_a_compiler_torch_compile_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = esperc("bench", *SMALL, "--seconds", "0.02")
    assert result.exit_code == 0, result.output
    assert "torch.compile did not run: it needs a C++ compiler, and there is no no-such" in result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_here_is_a_missing_device() -> None:
    result = esperc("bench", *SMALL, "--device", "cuda")
    assert result.exit_code == 3
    assert "error[E1083]" in result.stderr and "--device cpu" in result.stderr


def test_a_registry_without_record_is_wrong_usage() -> None:
    assert esperc("bench", *SMALL, "--registry", "x.sqlite").exit_code == 2


def test_what_is_recorded_can_be_learned_from(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere" / "mine.sqlite"
    for _ in range(2):
        result = esperc("bench", *SMALL, *QUICK, "--record", "--registry", str(path))
        assert result.exit_code == 0, result.output
    assert f"recorded forward, step in {path}" in result.stderr
    with open_registry(path) as registry:
        found = recorded(registry, cpu_name(), Place.of(path).torch_version)
        assert not recorded(registry, "another", Place.of(path).torch_version).observations
    (observation,) = found.observations
    assert (observation.family, found.left_out) == ("mlp_block", ())
    assert [call.op for call in observation.calls.calls][:2] == ["layer_norm", "linear"]
    assert 0 < observation.seconds["forward"] < observation.seconds["step"]


def test_a_blueprint_that_imports_another_is_kept_by_its_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("layer.esp").write_text(
        "blueprint layer(width: dim = 8) {\n    input x: f32[N, width]\n    output linear(x, width)\n}\n"
    )
    Path("block.esp").write_text(
        'import "layer.esp"\n\nblueprint block(width: dim = 8) {\n    input x: f32[N, width]\n'
        "    output relu(layer(x, width=width))\n}\n"
    )
    result = esperc("bench", "block.esp", *QUICK, "--record")
    assert result.exit_code == 0, result.output
    place = Place.of(None)
    with open_registry(place.registry) as registry:
        (observation,) = recorded(registry, cpu_name(), place.torch_version).observations
    assert [call.op for call in observation.calls.calls] == ["linear", "relu"]


def test_a_calibrated_processor_is_predicted_and_a_recorded_blueprint_fits_again() -> None:
    told = esperc("calibrate", "--passes", "1", "--share", "0.005", "--json")
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["device"] == cpu_name() and document["families"] == 0
    assert document["flops_per_second"] > 1e8 and document["uses"] > 40
    again = esperc("bench", *SMALL, *QUICK, "--record")
    assert "fitted" in again.stderr
    predictor = Place.of(None).read_predictor()
    assert predictor is not None and {family for family, _ in predictor.scores["step"]} == {"mlp_block"}
    shown = esperc("analyze", *SMALL)
    assert f"on {cpu_name()}" in shown.stdout and "no interval" in shown.stdout


@pytest.mark.parametrize(("name", "code"), [("profile", "E1081"), ("predictor", "E1082")])
def test_a_damaged_file_is_named(name: str, code: str) -> None:
    place = Place.of(None)
    path = place.profile if name == "profile" else place.predictor
    path.parent.mkdir(parents=True)
    path.write_text('{"schema_version": 1, "device": 3}')
    result = esperc("bench", *SMALL, *QUICK, "--record") if name == "profile" else esperc("analyze", *SMALL)
    assert result.exit_code == 1
    assert f"error[{code}]" in result.stderr and str(path) in result.stderr
