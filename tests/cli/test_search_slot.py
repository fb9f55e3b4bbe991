"""esperc search --task: what a slot settles, how candidates are trained there, and what to do next."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from esper.cli.esper import main as esper
from esper.cli.esperc import main
from esper.cli.search_view import watching
from esper.lang import lower
from esper.tezzeret import Evaluator, Learned, Progress

SLOT = ("--task", "mnist1d", "--host", "cnn", "--slot", "blocks.0")
SHORT = ("--objective", "accuracy", "--steps", "4", "--trials", "5")


LEARNED = Learned(3, 360, (1, 2), (0.70, 0.72), 1)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["search", *arguments])
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, Path]:
    """A search's document, and its storage and best blueprint."""
    folder = tmp_path_factory.mktemp("searched")
    out, file = folder / "best.esp", folder / "trials.db"
    given = ("conv_enhance", *SLOT, *SHORT, "--constraint", "params<=2000")
    code, stdout, _ = run(*given, "--storage", str(file), "-o", str(out), "--json")
    assert code == 0
    return json.loads(stdout), file, out


def test_the_best_is_trained_longest_and_written_for_the_slot(
    trained: tuple[dict[str, Any], Path, Path],
) -> None:
    document, _, out = trained
    best, training = document["best"], document["training"]
    feasible = document["trials"] - document["infeasible"]
    rungs = [(rung["steps"], rung["candidates"]) for rung in training["rungs"]]
    assert rungs == [(0, feasible), (1, 2), (4, 1)] and feasible > 3
    assert best["learned"]["steps"] == training["alone"]["steps"] == 4
    assert len(best["learned"]["accuracies"]) == len(training["alone"]["accuracies"]) == 3
    assert 0 < best["learned"]["accuracy"] < 1 and best["objectives"]["params"] <= 2000
    assert lower(out, sizes={"N": 100, "S": (20,)}).hash == best["ir_hash"]
    assert (training["task"], training["host"], training["slot"]) == ("mnist1d", "cnn", "blocks.0")
    assert [trial["learned"] is None for trial in document["top"][:3]] == [False, False, True]


def test_what_was_trained_is_not_trained_again(trained: tuple[dict[str, Any], Path, Path]) -> None:
    document, file, _ = trained
    given = (
        "conv_enhance",
        *SLOT,
        *SHORT,
        "--constraint",
        "params<=2000",
        "--storage",
        str(file),
        "--resume",
    )
    code, stdout, _ = run(*given, "--json")
    again = json.loads(stdout)
    assert code == 0 and {**again, "seconds": 0} == {**document, "seconds": 0}
    other = run(*given, "--task", "digits", "--trials", "1")
    assert other[0] == 1 and "E1025" in other[2] and "holds a search with" in other[2]


def test_the_page_tells_accuracy_where_it_was_measured_and_names_the_command_that_grows(
    trained: tuple[dict[str, Any], Path, Path],
) -> None:
    document, file, out = trained
    given = (
        "conv_enhance",
        *SLOT,
        *SHORT,
        "--constraint",
        "params<=2000",
        "--storage",
        str(file),
        "--resume",
    )
    code, page, _ = run(*given, "-o", str(out))
    lines = page.splitlines()
    accuracy = 100 * document["best"]["learned"]["accuracy"]
    assert code == 0 and lines[0].split()[3:6] == ["accuracy", "%", "steps"]
    assert lines[1].startswith("best") and f"{accuracy:.1f} ± " in lines[1]
    assert f"screened {document['training']['rungs'][0]['candidates']} by a zero-cost proxy" in page
    assert "trained 2 and 1 for 1 and 3 x 4 steps, 14 in all" in page
    assert f"the host alone comes to {100 * document['training']['alone']['accuracy']:.1f} ± " in page
    (line,) = [line for line in lines if line.startswith("grow the host with it: ")]
    words = shlex.split(line.partition(": ")[2])
    assert words[:2] == ["esper", "train"]
    small = ["--epochs", "1", "--quiet", "--json", "--out", str(out.parent / "run")]
    result = CliRunner().invoke(esper, [*words[1:], *small])
    assert result.exit_code == 0, result.stderr


def test_a_slot_gives_sizes_and_dims_to_a_search_by_cost_which_trains_nothing() -> None:
    code, stdout, _ = run("conv_enhance", *SLOT, "--set", "kernel=3", "--json")
    document = json.loads(stdout)
    assert code == 0 and document["training"]["rungs"] == [] and document["best"]["learned"] is None
    graph = lower(
        "conv_enhance", sizes={"N": 100, "S": (20,)}, channels=8, kernel=3, **document["best"]["values"]
    )
    assert document["best"]["ir_hash"] == graph.hash
    page = run("conv_enhance", *SLOT, "--set", "kernel=3")[1]
    assert "dims and sizes are those of blocks.0 of cnn" in page and "--set channels=8" in page


def test_host_and_slot_have_usual_ones_for_each_task() -> None:
    code, stdout, _ = run("mlp_block", "--task", "text", "--json")
    training = json.loads(stdout)["training"]
    assert code == 0 and (training["host"], training["slot"]) == ("gpt", "blocks.0")


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        (["conv_enhance", "--objective", "accuracy"], 1, ["E1028", "add --task mnist1d"]),
        (["conv_enhance", "--host", "cnn"], 2, ["--host", "add --task"]),
        (["conv_enhance", "--slot", "blocks.0"], 2, ["--slot", "add --task"]),
        (["conv_enhance", "--steps", "9"], 2, ["--steps", "add --task"]),
        (["conv_enhance", "--task", "mnst1d"], 2, ["'mnst1d' is not one of", "did you mean `mnist1d`?"]),
        (["conv_enhance", *SLOT[:2], "--host", "cn"], 2, ["neither cnn, mlp", "did you mean `cnn`?"]),
        (["conv_enhance", *SLOT[:4], "--slot", "blocs.0"], 1, ["E0820", "did you mean `blocks.0`?"]),
        (["conv_enhance", *SLOT[:2], "--host", "gpt"], 1, ["E0903", "its hosts are cnn, mlp"]),
        (["conv_enhance", *SLOT, "--size", "N=8"], 2, ["--size", "the slot's tensor settles it"]),
        (["conv_enhance", *SLOT, "--precision", "bf16"], 2, ["--precision"]),
        (["conv_enhance", *SLOT, "--seed", "-1"], 2, ["--seed", "0 or more"]),
        (["conv_enhance", *SLOT, "--set", "channels=4"], 1, ["E0329", "an axis is 8 where it has 4"]),
        (["resnet_downsample", *SLOT], 1, ["E0329", "it would return"]),
        (["conv_enhance", *SLOT[:2], "--host", "json:loads"], 2, ["--slot names a module of json:loads"]),
    ],
)
def test_what_does_not_go_together_or_is_not_there_is_told_with_a_way_out(
    given: list[str], code: int, told: list[str]
) -> None:
    found, stdout, stderr = run(*given)
    assert (found, stdout) == (code, "") and all(text in stderr for text in told), stderr


def test_the_line_on_a_terminal_tells_what_was_trained_and_the_best_so_far(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = replace(Evaluator("conv_enhance")({"expand": 1, "kernel": 3, "act": "relu"}), learned=LEARNED)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    with watching(is_quiet=False) as (_, line):
        line.show(Progress(12, 100, found, (9, 3, 1)))
    shown = capsys.readouterr().err
    assert "12/100, rungs 9/3/1  best: 71.0 ± 1.0 % after 360 steps: " in shown
    assert "expand=1 kernel=3 act=relu" in shown and "\n" not in shown
