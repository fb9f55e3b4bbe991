"""`esperc analyze`: the page, the JSON document, graphs in files, and what it loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt

from esper.cli.esperc import main
from esper.lang import lower

MLP = ("mlp_block", "--set", "features=64", "--size", "N=8", "--size", "S=16,16")

BLOCK = """\
blueprint block(width: dim = 64 in {32, 64, 128}) {
    input x: f32[N, 32]
    output x |> linear(width, bias=false) |> gelu() |> linear(32, bias=false)
}
"""

LOADS_NO_TORCH = """
import sys
from esper.cli.esperc import main
try:
    main(sys.argv[1:])
finally:
    assert not {"torch", "triton"} & set(sys.modules)
"""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Living(Strict):
    value: str
    bytes: NonNegativeInt


class Direction(Strict):
    flops: NonNegativeInt
    bytes: NonNegativeInt
    seconds: NonNegativeFloat
    arena_bytes: NonNegativeInt
    returned_bytes: NonNegativeInt
    peak_bytes: NonNegativeInt
    peak_at: NonNegativeInt
    living: list[Living]


class Step(Strict):
    direction: Literal["forward", "backward"]
    name: str
    kind: Literal["kernel", "call"]
    nodes: list[str]
    flops: NonNegativeInt
    bytes: NonNegativeInt
    bytes_moved: NonNegativeInt
    seconds: NonNegativeFloat
    bound: Literal["arithmetic", "memory"]
    alive_bytes: NonNegativeInt


class Width(Strict):
    alive: NonNegativeInt
    at: str
    widest: str
    type: str
    bytes: NonNegativeInt


class Bottleneck(Strict):
    step: NonNegativeInt
    name: str
    direction: Literal["forward", "backward"]
    bound: Literal["arithmetic", "memory"]
    share: NonNegativeFloat


class Relief(Strict):
    change: str
    seconds: NonNegativeFloat
    saved_bytes: NonNegativeInt
    peak_bytes: NonNegativeInt


class Estimate(Strict):
    seconds: NonNegativeFloat
    low_seconds: NonNegativeFloat | None
    high_seconds: NonNegativeFloat | None


class Prediction(Strict):
    device: str
    level: NonNegativeFloat
    families: NonNegativeInt
    unmeasured: list[str]
    forward: Estimate
    step: Estimate


class Document(Strict):
    """The whole of what `--json` prints."""

    schema_version: Literal[1]
    blueprint: str
    ir_hash: str
    sizes: dict[str, int]
    target: str
    device: str
    measured: Literal[False]
    parameters: NonNegativeInt
    weight_bytes: NonNegativeInt
    saved_bytes: NonNegativeInt
    peak_bytes: NonNegativeInt
    depth: NonNegativeInt
    chain: list[str]
    width: Width | None
    directions: dict[Literal["forward", "backward"], Direction]
    steps: list[Step]
    bottleneck: Bottleneck | None
    relief: list[Relief]
    prediction: Prediction | None


@pytest.fixture(autouse=True)
def _uncalibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was measured on the machine that runs the tests."""
    monkeypatch.setenv("ESPER_DATA_DIR", str(tmp_path / "data"))


def analyze(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["analyze", *arguments])


def test_the_page_tells_the_steps_the_bottleneck_and_its_relief(
    tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    path = tmp_path / "block.esp"
    path.write_text(BLOCK)
    result = analyze(str(path), "--size", "N=4096")
    assert (result.exit_code, result.stderr) == (0, "")
    golden("analyze.txt", result.stdout)


def test_help_is_as_it_was(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    golden("help_analyze.txt", analyze("--help").stdout)


def test_json_is_one_document_of_the_stated_schema() -> None:
    found = Document.model_validate_json(analyze(*MLP, "--json").stdout)
    assert found.ir_hash == lower("mlp_block", features=64, sizes={"S": (16, 16)}).hash
    assert found.bottleneck is not None
    worst = found.steps[found.bottleneck.step]
    assert worst.name == found.bottleneck.name
    assert worst.seconds == max(step.seconds for step in found.steps)
    assert found.depth == len(found.chain)


def test_a_graph_in_a_file_is_analyzed_as_its_source_is(tmp_path: Path) -> None:
    path = tmp_path / "block.ir"
    path.write_text(f"{lower('mlp_block', features=64, sizes={'S': (16, 16)})}\n")
    written = json.loads(analyze(str(path), *MLP[3:], "--json").stdout)
    source = json.loads(analyze(*MLP, "--json").stdout)
    assert written["steps"] == source["steps"]
    assert not [one for one in written["relief"] if one["change"].startswith("--set")]


def test_an_unknown_target_names_those_there_are() -> None:
    result = analyze("mlp_block", "--target", "sm_1")
    assert result.exit_code == 1
    assert "error[E1007]" in result.stderr
    assert "it knows sm_80, sm_90" in result.stderr


def test_analyzing_needs_neither_torch_nor_triton(tmp_path: Path) -> None:
    path = tmp_path / "block.esp"
    path.write_text(BLOCK)
    command = [sys.executable, "-c", LOADS_NO_TORCH, "analyze", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
