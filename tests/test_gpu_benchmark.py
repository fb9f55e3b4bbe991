"""What `benchmarks/gpu.py` decides without a GPU: its cases, what it measures again, and what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_cases import Case, blocks, call, is_of_maps
from esper.urza.run.seed import CompiledSeed

CPU = torch.device("cpu")


@pytest.mark.parametrize("block", blocks())
def test_every_block_has_a_case_at_every_scale(block: str) -> None:
    for scale in ("tiny", "small", "large"):
        case = Case(block, 64, scale)
        shape = case.ir.inputs[0].type.concrete_shape(case.sizes)
        assert shape[1 if is_of_maps(block) else -1] == 64


def test_contenders_have_the_same_weights_and_results() -> None:
    case = Case("transformer_block", 64, "tiny", "f32")
    seed, eager = case.module("esper", CPU), case.module("eager", CPU)
    torch.testing.assert_close(dict(seed.state_dict()), dict(eager.state_dict()), rtol=0, atol=0)
    plain = CompiledSeed(case.ir, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(call(plain, case.inputs(CPU)), call(eager, case.inputs(CPU)))


def test_jobs_have_names_of_their_own() -> None:
    found = list(gpu.jobs())
    assert len({job.key for job in found}) == len(found)
    assert {job.group for job in found} == set(gpu.GROUPS)


def test_rows_are_kept_and_those_of_another_machine_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "gpu.json"
    gpu.Measured(path, {"gpu": "one"}).add("a", {"group": "host", "name": "a"})
    assert list(gpu.Measured(path, {"gpu": "one"}).rows) == ["a"]
    assert gpu.Measured(path, {"gpu": "two"}).rows == {}
    assert json.loads((tmp_path / "gpu.one.json").read_text())["rows"] == {
        "a": {"group": "host", "name": "a"}
    }


def test_a_job_that_fails_has_a_row_that_says_so_and_the_next_one_runs() -> None:
    measured = gpu.Measured(None, {"gpu": "none"})
    case = Case("norm", 64, "tiny")

    def broken(_bench: gpu.Bench, _case: Case) -> gpu.Row:
        raise ValueError("why")

    wanted = [gpu.Job("host", "broken", broken, case), gpu.Job("host", "fine", lambda *_: {}, case)]
    gpu.run(gpu.Bench(CPU, is_rehearsal=True), measured, wanted, 60.0)
    assert [row.get("failed") for row in measured.of("host")] == ["ValueError: why", None]


def test_what_was_not_measured_is_said() -> None:
    told = gpu.as_markdown(gpu.Measured(None, {"gpu": "none"}), list(gpu.jobs()))
    assert told.count(gpu.NOT) == len(gpu.summary(gpu.Measured(None, {}))) - 1
    assert "Not measured: 4 of ceilings" in told


def test_figures_follow_from_rows() -> None:
    measured = gpu.Measured(None, {"gpu": "none"})
    for name, ms in (("a 64 small bf16", 2.0), ("b 4096 large bf16", 0.5)):
        times = {"eager": 1.0, "compile": ms, "esper": 1.0}
        measured.add(
            name, {"group": "speed", "name": name, "ms": times, "peak_bytes": dict.fromkeys(times, 8)}
        )
    found = {figure: value for figure, _, value in gpu.summary(measured)}
    assert found["share of the grid at least as fast as torch.compile"] == "1 of 2"
    assert found["speed beside torch.compile, geometric mean"] == "1.00"
    assert found["the least of it up to 1,024 wide"] == "2.00"


def test_the_program_rehearses() -> None:
    command = [sys.executable, gpu.__file__, "--rehearse", "--only", "right", "host"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout == "rehearsed 2 jobs, 0 failed; no figure of it counts\n"
