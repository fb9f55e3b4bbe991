"""`esperc opt`: text in and out, figures on stderr, and a smallest graph for a pass at fault."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

import esper
from esper.cli.esperc import main
from esper.ir import BlueprintIR, Builder, Node, Value, evaluate_size, parse_type
from esper.ir.rewrite import rewrite
from esper.passes import DEFAULT, PASSES, Law, partition, run_passes
from esper.urza.builder.processes import child_environment

TEXT = """blueprint small {
  %x = input() : f32[N, 4]
  %w = param() {init="zeros", fan_in=1, gain=1.0} : f32[3, 4]
  %linear = linear(%x, %w, _) : f32[N, 3]
  %exp = exp(%linear) : f32[N, 3]
  %again = exp(%linear) : f32[N, 3]
  %tanh = tanh(%again) : f32[N, 3]
  %sum = add(%exp, %tanh) : f32[N, 3]
  output y = %sum
}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    file = tmp_path / "small.ir"
    file.write_text(TEXT)
    return file


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where reproductions go in these tests."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def opt(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["opt", *map(str, arguments)])


def test_the_default_pipeline_on_a_graph_in_text(small: Path) -> None:
    result = opt(small)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{run_passes(BlueprintIR.from_text(TEXT), DEFAULT)}\n"


def test_the_text_that_comes_out_goes_in_again(small: Path, tmp_path: Path) -> None:
    once = opt(small).stdout
    (tmp_path / "once.ir").write_text(once)
    assert opt(tmp_path / "once.ir").stdout == once


def test_a_graph_as_json_and_a_blueprint_are_taken_too(tmp_path: Path) -> None:
    wire = tmp_path / "small.json"
    wire.write_text(BlueprintIR.from_text(TEXT).to_json())
    assert opt(wire, "--passes", "").stdout == TEXT
    lowered = esper.lower("mlp_block", features=8, precision="bf16")
    assert opt("mlp_block", "--set", "features=8", "--precision", "bf16", "--passes", "").stdout == (
        f"{lowered}\n"
    )


def test_a_pipeline_with_options(small: Path) -> None:
    result = opt(small, "--passes", "expand,autodiff{wrt=[w]},dce")
    assert BlueprintIR.from_text(result.stdout).outputs[1][0] == "grad.w"
    assert len(BlueprintIR.from_text(result.stdout).outputs) == 2


@pytest.mark.parametrize("suffix", ["ir", "json"])
def test_a_file_takes_the_place_of_stdout(small: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    result = opt(small, "-o", out)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"wrote {out}\n")
    assert opt(out, "--passes", "").stdout == opt(small).stdout


def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    result = opt(small, "-o", tmp_path / "nowhere" / "out.ir")
    assert result.exit_code == 1 and "cannot be written" in result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_the_graph_after_each_pass_goes_to_stderr(small: Path) -> None:
    result = opt(small, "--passes", "expand,cse", "--print-between")
    ir = BlueprintIR.from_text(TEXT)
    expanded, merged = run_passes(ir, "expand"), run_passes(ir, "expand,cse")
    assert result.stderr == f"# given\n{ir}\n\n# after expand\n{expanded}\n\n# after cse\n{merged}\n\n"
    assert result.stdout == f"{merged}\n"


def test_figures_of_each_pass(small: Path, golden: Callable[[str, str], None]) -> None:
    golden("opt_stats.txt", opt(small, "--passes", "expand,cse,dce", "--stats", "--size", "N=8").stderr)


def test_of_a_joint_graph_the_saved_bytes_are_told(small: Path) -> None:
    arguments = ["--passes", "expand,autodiff,cse", "--stats", "--size", "N=8", "--json"]
    first, joint, last = json.loads(opt(small, *arguments).stdout)["passes"]
    assert first["saved_bytes"] is None and joint["operators"]["tanh_backward"] == 1
    parts = partition(run_passes(BlueprintIR.from_text(TEXT), "expand,autodiff,cse"))
    assert last["saved_bytes"] == evaluate_size(parts.saved_bytes, {"N": 8}) > 0


def test_times_are_of_each_pass_and_of_all(small: Path) -> None:
    lines = opt(small, "--passes", "expand,cse", "--time").stderr.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["expand", "cse"]
    first, second, all = (float(line.split()[-2]) for line in lines)
    assert first > 0 and abs(first + second - all) < 0.002


def test_json_is_one_document_with_the_graph_in_it(small: Path) -> None:
    found = json.loads(opt(small, "--passes", "expand,cse,dce", "--json", "--stats").stdout)
    after = run_passes(BlueprintIR.from_text(TEXT), "expand,cse,dce")
    assert (found["schema_version"], found["blueprint"], found["ir_hash"]) == (1, "small", after.hash)
    assert found["ir"] == str(after)
    assert [record["name"] for record in found["passes"]] == ["expand", "cse", "dce"]
    expanded, merged, dead = found["passes"]
    assert (expanded["nodes_before"], expanded["nodes_after"]) == (7, 7)
    assert expanded["operators"] == {"linear": -1, "matmul": 1}
    assert merged["operators"] == {"exp": -1}
    assert dead["nodes_after"] == len(after.nodes) and dead["parameters"] == 12 and dead["ms"] >= 0
    assert dead["flops"] > 0 and dead["saved_bytes"] is None


def test_the_list_names_every_pass_with_its_law_and_options() -> None:
    result = opt("--list")
    assert result.exit_code == 0
    for name, entry in PASSES.items():
        assert any(line.split()[:2] == [name, entry.law.value] for line in result.stdout.splitlines())
    assert "wrt (a list [a, b] of text or none; none unless set)" in result.stdout
    assert result.stdout.endswith(f"without --passes: {DEFAULT}\n")


def test_help_is_as_it_was(golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    golden("help_opt.txt", opt("--help").stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--passes", "inline"], 1, "error[E0601]: there is no pass `inline`"),
        (["--passes", "dce{x=1}"], 1, "error[E0612]: the pass `dce` has no option `x`"),
        (["--passes", "dce", "--fast-math"], 1, "error[E0614]: no pass of the pipeline `dce` has the option"),
        (["--set", "features=8"], 2, "--set is for a blueprint's source"),
        (["--seconds", "3"], 2, "--seconds is for --reduce"),
        (["--stats", "--size", "M=3"], 1, "`M`"),
        (["--reduce", "--seconds", "-1"], 2, "--seconds"),
    ],
)
def test_what_is_wrong_with_the_call_is_told(small: Path, arguments: list[str], code: int, text: str) -> None:
    result = opt(small, *arguments)
    assert result.exit_code == code and text in result.stderr and result.stdout == ""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"blueprint b {", "error[E0501]"),
        (b"\xff\xfe", "error[E0983]"),
        (b"blueprint b {\n  %x = input() : f32[N]\n  output y = %z\n}", "%z, which no node defines"),
    ],
)
def test_what_is_wrong_with_the_graph_is_told_and_leaves_no_reproduction(
    tmp_path: Path, temporary: Path, content: bytes, text: str
) -> None:
    (tmp_path / "bad.ir").write_bytes(content)
    result = opt(tmp_path / "bad.ir")
    assert result.exit_code == 1 and text in result.stderr
    assert not any(temporary.iterdir())


def test_a_missing_file_is_an_error() -> None:
    result = opt("nowhere.ir")
    assert result.exit_code == 1 and "nowhere.ir" in result.stderr


def test_no_torch_is_needed(small: Path) -> None:
    code = (
        "import sys\nfrom esper.cli.esperc import main\n"
        f"try: main(['opt', {str(small)!r}, '--stats', '--time', '--print-between'])\n"
        "except SystemExit as exit: sys.exit(exit.code or bool({'torch', 'triton'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Planted:
    """A pass at fault: wrong in one way about `tanh`, or in the gradient of `relu`."""

    way: str = "value"
    fast_math: bool = False
    name: ClassVar[str] = "planted"
    law: ClassVar[Law] = Law.REAL_EQUAL

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        if self.way == "dangling" and (found := ir.of("tanh")):
            return ir.replace(nodes=[node for node in ir.nodes if node is not found[0]])

        def rule(build: Builder, node: Node) -> tuple[Value] | None:
            if self.way == "gradient":  # equal, but made of an operator that has no gradient
                return (
                    (build.op("relu_backward", *node.operands, *node.operands),)
                    if node.op == "relu"
                    else None
                )
            x = node.operands[0] if node.op == "tanh" else None
            if x is None or self.way == "dangling":
                return None
            if self.way == "crash":
                raise ZeroDivisionError("by nothing")
            if self.way == "type":
                return (build.constant(1.0),)
            return (build.op("tanh", build.op("mul", x, 1.001)),)

        return rewrite(ir, rule)


@pytest.fixture
def planted() -> Iterator[None]:
    PASSES["planted"] = Planted()
    yield
    del PASSES["planted"]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A graph of 64 nodes, some of them `tanh`."""
    build = Builder("large")
    type = parse_type("f32[N, 6]")
    value, other = build.input("x", type), build.input("z", type)
    for index in range(31):
        op = ("sigmoid", "tanh", "neg")[index % 3]
        value, other = build.op("add", build.op(op, value), other), value
    file = tmp_path / "large.ir"
    file.write_text(f"{build.finish({'y': value, 'z': other})}\n")
    return file


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("crash", "crashes: ZeroDivisionError: by nothing"),
        ("type", "crashes: E0503: node `"),
        ("dangling", "makes an invalid graph: "),
        ("value", "breaks its law real_equal: "),
    ],
)
def test_a_planted_fault_is_reduced_to_the_operator_it_is_about(
    large: Path, tmp_path: Path, way: str, told: str
) -> None:
    out = tmp_path / "reduced.ir"
    pipeline = f"canonicalize,planted{{way={way}}},dce"
    result = opt(large, "--passes", pipeline, "--reduce", "-o", out)
    assert result.exit_code == 1 and result.stdout == ""
    assert f"`planted` {told}" in result.stderr
    reduced = BlueprintIR.from_text(out.read_text())
    assert f"64 nodes reduced to {len(reduced.nodes)}, " in result.stderr
    assert [node.op for node in reduced.nodes[:2]] == ["input", "tanh"]
    # A reader of the node that is gone is part of the fault: an output that dangles has another code.
    assert len(reduced.nodes) == (3 if way == "dangling" else 2)
    again = json.loads(opt(out, "--passes", f"planted{{way={way}}}", "--reduce", "--json").stdout)
    assert again["ir"] == str(reduced) and again["is_minimal"]
    assert again["nodes_before"] == again["nodes_after"] == len(reduced.nodes)
    assert again["failure"]["pass"] == "planted"


RELU = """blueprint rectified {
  %x = input() : f32[N, 4]
  %exp = exp(%x) : f32[N, 4]
  %relu = relu(%exp) : f32[N, 4]
  %mul = mul(%relu, %exp) : f32[N, 4]
  output y = %mul
}
"""


@pytest.mark.usefixtures("planted")
def test_a_pass_that_breaks_gradients_alone_is_found_by_them(tmp_path: Path) -> None:
    (tmp_path / "relu.ir").write_text(RELU)
    result = opt(tmp_path / "relu.ir", "--passes", "planted{way=gradient}", "--reduce")
    assert result.exit_code == 1
    assert "`planted` breaks gradients: node `" in result.stderr
    assert [node.op for node in BlueprintIR.from_text(result.stdout).nodes] == ["input", "relu"]


@pytest.mark.usefixtures("planted")
def test_without_time_the_graph_that_fails_is_given_as_it_is(large: Path) -> None:
    result = opt(large, "--passes", "planted{way=crash}", "--reduce", "--seconds", "0")
    assert result.exit_code == 1 and result.stdout == large.read_text()
    assert "before it was minimal" in result.stderr


def test_where_nothing_fails_the_pipeline_runs_as_without_reduce(small: Path) -> None:
    result = opt(small, "--reduce", "--passes", "expand,autodiff,canonicalize,dce")
    assert result.exit_code == 0
    assert result.stdout == opt(small, "--passes", "expand,autodiff,canonicalize,dce").stdout


@pytest.mark.usefixtures("planted")
def test_fast_math_is_set_for_each_pass_that_has_it(small: Path) -> None:
    found = json.loads(opt(small, "--passes", "dce,planted", "--fast-math", "--json").stdout)
    assert found["pipeline"] == "dce,planted{fast_math=true}"


# --- objectives ---

GATE = ("squeeze_excite", "--set", "channels=8", "--set", "reduce=2")


def test_an_objective_chooses_the_passes() -> None:
    result = opt(*GATE, "--objective", "latency", "--json", "--stats", "--forward", "--target", "sm_90")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    found = document["optimization"]
    assert (found["objective"], found["target"], found["trained"]) == ("latency", "sm_90", False)
    assert found["after"]["calls"] == 0 < found["before"]["calls"]
    assert found["after"]["latency_seconds"] < found["before"]["latency_seconds"]
    assert {step["technique"] for step in found["steps"]} == {"bottlenecks", "fusion"}
    assert {step["law"] for step in found["steps"]} == {"real_equal"}
    ir = BlueprintIR.from_text(document["ir"])
    assert ir.hash == document["ir_hash"] and not ir.of("convolution")
    assert [one["name"] for one in document["passes"]][:5] == DEFAULT.split(",")
    for word in ("for latency, a forward pass", "as given", "conv_to_matmul", "reassociate{sizes="):
        assert word in result.stderr


def test_the_pipeline_that_an_objective_chose_gives_the_same_graph() -> None:
    chosen = json.loads(opt(*GATE, "--objective", "accuracy", "--json").stdout)
    again = json.loads(opt(*GATE, "--passes", chosen["pipeline"], "--json").stdout)
    assert again["ir"] == chosen["ir"]


def test_an_objective_comes_after_the_passes_that_are_named() -> None:
    result = opt("resnet_block", "--set", "channels=8", "--passes", "inference", "--objective", "accuracy")
    assert result.exit_code == 0, result.output
    assert "training=true" not in result.stdout


def test_what_serves_nothing_is_told_and_the_graph_stays(small: Path) -> None:
    result = opt(small, "--objective", "accuracy", "--stats")
    assert result.stdout == TEXT and "no rewrite serves it" in result.stderr


@pytest.mark.parametrize("option", [["--target", "sm_80"], ["--budget", "0.1"], ["--forward"]])
def test_options_of_objectives_are_for_objectives(small: Path, option: list[str]) -> None:
    result = opt(small, *option)
    assert result.exit_code == 2 and "are for --objective" in result.stderr
