"""The fuzzer stops at the number it is told, writes down what it tried, and goes on from there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytest.importorskip("atheris", reason="the extra `fuzz` is not installed")


def fuzz(folder: Path, inputs: int) -> str:
    command = [
        sys.executable,
        "-m",
        "benchmarks.fuzz_language",
        "--folder",
        str(folder),
        "--inputs",
        str(inputs),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert fuzz(tmp_path, 150).splitlines()[-1].startswith("150 inputs (")
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert sum(counts.values()) == 150
    assert {"accepted", "syntax"} <= counts.keys()
    assert len(list((tmp_path / "corpus").iterdir())) > 50
    assert fuzz(tmp_path, 200).splitlines()[-1].startswith("200 inputs (")
    assert sum(json.loads((tmp_path / "counts.json").read_text()).values()) == 200
    assert fuzz(tmp_path, 200) == "200 inputs were tried: nothing is left to do\n"
