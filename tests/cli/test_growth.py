"""`esper train`, `report` and `status`, as a user's shell sees them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from esper.cli import train
from esper.cli.esper import main
from esper.kasmina.attach import INCUBATIONS
from esper.simic.config import TrainConfig
from esper.simic.hosts import HOSTS
from esper.simic.tasks import TASK_NAMES
from esper.tamiyo import POLICIES

SHORT = ("train", "--epochs", "2", "--policy", "never")


def esper(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "r"
    assert esper(*SHORT, "--out", path).exit_code == 0
    return path


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return esper("train", "--epochs", "18", "--json", "--quiet", "--out", tmp_path_factory.mktemp("g") / "r")


def test_choices_on_the_command_line_are_the_tables() -> None:
    assert set(train.TASK_NAMES) == set(TASK_NAMES)
    assert set(train.HOST_NAMES) == set(HOSTS)
    assert set(train.POLICY_NAMES) == set(POLICIES)
    assert set(train.INCUBATION_NAMES) == set(INCUBATIONS)


def test_defaults_in_the_help_are_the_configurations() -> None:
    for option in train.train.params:
        field = TrainConfig.model_fields.get(option.name or "")
        if field is not None and field.default is not None and option.name != "policy_options":
            assert f"[{field.default}]" in (getattr(option, "help", None) or f"[{field.default}]")


def test_default_run_takes_a_seed_through_every_stage(grown: Result) -> None:
    assert grown.exit_code == 0, grown.output
    kept = [seed for seed in json.loads(grown.stdout)["seeds"] if seed["stages"][-1] == "FOSSILIZED"]
    assert kept
    first = kept[0]
    path = ["GERMINATED", "TRAINING", "BLENDING", "SHADOWING", "PROBATIONARY", "FOSSILIZED"]
    assert first["stages"] == path
    assert first["gain"] >= 0.01
    assert first["gain"] > 2 * first["standard_error"]
    assert first["accuracy_after"] > first["accuracy_before"]


def test_json_has_metrics_slots_and_where_the_events_are(grown: Result) -> None:
    document = json.loads(grown.stdout)
    assert document["schema_version"] == 1
    assert 0.5 < document["metrics"]["test_accuracy"] <= 1.0
    assert [slot["slot"] for slot in document["slots"]] == ["blocks.0", "blocks.1"]
    assert Path(document["events"]).exists()
    assert grown.stderr == ""


def test_report_of_a_run_that_grew_has_its_kernels(grown: Result) -> None:
    report = Path(json.loads(grown.stdout)["report"]).read_text()
    assert "conv_enhance(channels=8)" in report
    assert "Library calls: convolution" in report
    assert report.count("<td>backward</td>") > 3


def test_resolved_configuration_asks_for_the_same_run_again(run: Path, tmp_path: Path) -> None:
    again = esper("train", run / "config.yaml", "--out", tmp_path / "again", "--json")
    assert again.exit_code == 0
    config = (tmp_path / "again" / "config.yaml").read_text()
    assert config == (run / "config.yaml").read_text()


def test_summary_is_data_and_events_are_notes(tmp_path: Path) -> None:
    result = esper(*SHORT, "--out", tmp_path / "r")
    assert "test accuracy" in result.stdout
    assert "epoch" not in result.stdout


def test_run_is_not_written_over(run: Path) -> None:
    result = esper(*SHORT, "--out", run)
    assert result.exit_code == 1
    assert "holds a run already" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "--task", "imagenet"), 2, "imagenet"),
        (("train", "--epochs", "0"), 2, "epochs"),
        (("train", "--resume"), 2, "--resume"),
        (("train", "--resume", "step-00000001.safetensors"), 1, "lies in no run's checkpoints/ folder"),
        (("train", "none.yaml"), 1, "cannot read the configuration"),
        (("train", "--slots", "blocks.9"), 1, "blocks.9"),
        (("train", "--blueprints", "nrom"), 1, "nrom"),
        (("train", "--policy", "heuristic", "--blueprints", ""), 1, "no blueprint to plant"),
        (("train", "--device", "nowhere"), 3, "nowhere"),
        (("status", "nowhere"), 1, "holds no run"),
        (("report", "nowhere"), 1, "holds no run"),
        (("export", "nowhere", "-o", "x"), 1, "holds no run to export"),
        (("export", "nowhere"), 2, "--output"),
    ],
)
def test_what_is_wrong_has_its_exit_code_and_leaves_nothing(
    arguments: tuple[str, ...], code: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = esper(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_status_tells_the_run(run: Path) -> None:
    result = esper("status", run)
    assert result.stdout.startswith("mnist1d on cnn, policy never: finished, epoch 2 of 2")
    document = json.loads(esper("status", run, "--json").stdout)
    assert document["state"] == "finished"
    assert [slot["stage"] for slot in document["slots"]] == ["DORMANT", "DORMANT"]


def test_report_goes_where_it_is_asked_to(run: Path, tmp_path: Path) -> None:
    result = esper("report", run, "-o", tmp_path / "x.html")
    assert result.stdout.strip() == str(tmp_path / "x.html")
    assert "</html>" in (tmp_path / "x.html").read_text()


def test_unwritable_report_is_an_error(run: Path, tmp_path: Path) -> None:
    result = esper("report", run, "-o", tmp_path / "none" / "x.html")
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_closes_the_files_and_has_its_exit_code(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    run = tmp_path / "r"
    command = [sys.executable, "-m", "esper.cli.esper", "train", "--epochs", "5000", "--policy", "never"]
    process = subprocess.Popen([*command, "--out", str(run)], stdout=subprocess.DEVNULL, cwd=tmp_path)
    wait_until(
        lambda: (run / "events.jsonl").exists() and b"epoch_finished" in (run / "events.jsonl").read_bytes()
    )
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    assert json.loads((run / "events.jsonl").read_text().splitlines()[-1])["code"] == number.name
    assert "</html>" in (run / "report.html").read_text()
    again = esper("train", "--out", run, "--resume", "auto", "--epochs", "6")
    assert again.exit_code == 1
    assert "was begun with epochs 5000, not 6" in again.stderr


def test_a_run_that_is_finished_is_resumed_by_telling_it_again(run: Path) -> None:
    before = (run / "events.jsonl").read_bytes()
    again = esper("train", "--out", run, "--resume", "auto", "--json")
    assert again.exit_code == 0
    assert "is finished" in again.stderr
    assert json.loads(again.stdout)["epochs"] == 2
    assert (run / "events.jsonl").read_bytes() == before


def wait_until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_a_grown_run_is_exported_as_files_that_need_torch_alone(grown: Result, tmp_path: Path) -> None:
    run = Path(json.loads(grown.stdout)["report"]).parent
    result = esper("export", run, "-o", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [Path(path).name for path in document["files"]] == [
        "model.py",
        "weights.safetensors",
        "program.pt2",
    ]
    assert document["program_refused"] is None
    assert "grown by conv_enhance at blocks.0" in (tmp_path / "out" / "model.py").read_text()


@pytest.mark.parametrize("command", ["train", "report", "status", "export"])
def test_help_is_as_it_was(command: str, golden: Callable[[str, str], None]) -> None:
    golden(f"help_{command}.txt", esper(command, "--help").stdout)
