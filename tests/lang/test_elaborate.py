"""Elaboration: what a blueprint's statements become in the graph, by example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esper.ir.graph import BlueprintIR
from esper.lang import BlueprintRejected, check, lower


def _lower(tmp_path: Path, body: str, parameters: str = "", **options: Any) -> BlueprintIR:
    path = tmp_path / "b.esp"
    path.write_text(f"blueprint b({parameters}) {{ {body} }}")
    return lower(path, **options)


def _refused(tmp_path: Path, body: str, parameters: str = "", **options: Any) -> list[str]:
    with pytest.raises(BlueprintRejected) as caught:
        _lower(tmp_path, body, parameters, **options)
    return [diagnostic.code for diagnostic in caught.value.diagnostics]


def _ops(ir: BlueprintIR) -> list[str]:
    return [node.op for node in ir.nodes if node.op not in ("input", "param", "buffer", "constant")]


def test_a_pipeline_is_nested_calls(tmp_path: Path) -> None:
    piped = _lower(tmp_path, "input x: f32[N, 8] output x |> linear(4) |> relu()")
    nested = _lower(tmp_path, "input x: f32[N, 8] output relu(linear(x, 4))")
    assert piped.hash == nested.hash


def test_weights_are_named_by_operator_and_count(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, 8] output x |> linear(8) |> linear(8, bias=false) |> linear(8)")
    assert [node.name for node in ir.params] == [
        "linear.weight",
        "linear.bias",
        "linear_2.weight",
        "linear_3.weight",
        "linear_3.bias",
    ]


def test_an_input_with_an_operators_name_moves_the_operators(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input linear: f32[N, 8] output linear(linear, 8)")
    assert [node.name for node in ir.params] == ["linear_2.weight", "linear_2.bias"]


def test_init_zeros_starts_weight_and_bias_at_zero(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, 8] output linear(x, 8, init=zeros)")
    assert [node.attr("init") for node in ir.params] == ["zeros", "zeros"]


def test_running_statistics_are_updates_of_the_graph(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, 8, ...S] output batch_norm(x)")
    assert [name for name, _ in ir.updates] == ["batch_norm.running_mean", "batch_norm.running_var"]


def test_each_random_operator_has_an_offset_of_its_own(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, 8] output x |> dropout(0.1) |> dropout(p=0.1)")
    assert len(ir.of("seed")) == 1
    assert [node.attr("offset") for node in ir.of("dropout")] == [0, 1]


def test_numbers_beside_tensors_become_constants(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, 8] output 2 * x - 1.5")
    assert [node.attr("value") for node in ir.of("constant")] == [2.0, 1.5]


@pytest.mark.parametrize(
    ("expression", "operators"),
    [
        ("-x", ["neg"]),
        ("x + y", ["add"]),
        ("x - y", ["sub"]),
        ("x * y", ["mul"]),
        ("x / y", ["div"]),
        ("x @ y", ["matmul"]),
        ("x ** 3", ["mul", "mul"]),
        ("x ** 1", []),
        ("x ** -1", ["div"]),
        ("x ** 0.5", ["sqrt"]),
        ("x ** -0.5", ["rsqrt"]),
    ],
)
def test_infix_operators_on_tensors_are_graph_operators(
    expression: str, operators: list[str], tmp_path: Path
) -> None:
    ir = _lower(tmp_path, f"input x: f32[8, 8] input y: f32[8, 8] output {expression} output z = x + y")
    assert _ops(ir) == [*operators, "add"]


def test_outputs_have_their_names_and_one_may_go_without(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N] output y = relu(x) output x")
    assert [name for name, _ in ir.outputs] == ["y", "result"]


def test_a_tensor_is_rebound_and_a_static_value_is_not(tmp_path: Path) -> None:
    assert _ops(_lower(tmp_path, "input x: f32[N] x = relu(x) x = gelu(x) output x")) == ["relu", "gelu"]
    assert _refused(tmp_path, "input x: f32[N] let a = 1 a = x output a") == ["E0204", "E0320"]


def test_parameters_bind_in_order_and_defaults_read_earlier_ones(tmp_path: Path) -> None:
    parameters = "width: dim = 4, hidden: dim = 2 * width"
    body = "input x: f32[N, width] output x |> linear(hidden)"
    assert (
        str(_lower(tmp_path, body, parameters).type(_result(_lower(tmp_path, body, parameters))))
        == "f32[N, 8]"
    )
    ir = _lower(tmp_path, body, parameters, width=8)
    assert str(ir.type(_result(ir))) == "f32[N, 16]"


def _result(ir: BlueprintIR) -> Any:
    return ir.outputs[0][1]


def test_an_op_parameter_is_called_like_an_operator(tmp_path: Path) -> None:
    body = "input x: f32[N] output act(x)"
    assert _ops(_lower(tmp_path, body, "act: op = relu", act="silu")) == ["silu"]


def test_the_rank_of_a_spread_comes_from_the_sizes(tmp_path: Path) -> None:
    body = "input x: f32[N, 4, ...S] output conv(x, 8)"
    for sizes, expected in [
        ({}, "f32[N, 8, S.0, S.1]"),
        ({"S": (40,)}, "f32[N, 8, S.0]"),
        ({"S": (8, 8, 8)}, "f32[N, 8, S.0, S.1, S.2]"),
    ]:
        ir = _lower(tmp_path, body, sizes=sizes)
        assert str(ir.type(_result(ir))) == expected


def test_a_size_of_an_input_is_a_static_value(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, T, ...S] output reshape(x, [N * T, ...S])")
    assert str(ir.type(_result(ir))) == "f32[N*T, S.0, S.1]"


def test_precision_changes_inputs_and_weights_but_not_statistics(tmp_path: Path) -> None:
    ir = _lower(tmp_path, "input x: f32[N, 8] output batch_norm(linear(x, 8))", precision="bf16")
    assert {node.type.dtype.value for node in (*ir.inputs, *ir.params)} == {"bf16"}
    assert {node.type.dtype.value for node in ir.buffers} == {"f32"}


def test_nodes_remember_where_they_were_written(tmp_path: Path) -> None:
    span = _lower(tmp_path, "input x: f32[N] output relu(x)").node("relu").span
    assert span is not None
    assert (span.line, span.column, span.end_column) == (1, 40, 47)


def test_a_divisibility_that_is_required_lets_a_reshape_cancel(tmp_path: Path) -> None:
    path = tmp_path / "b.esp"
    body = "input x: f32[N, features] output reshape(x, [N, heads, features // heads])"
    for heads in ("int = 4", "dim = 4"):
        path.write_text(f"blueprint b(features: dim = 8, heads: {heads}) {{ {body} }}")
        assert [diagnostic.code for diagnostic in check(path)] == ["E0301"]
        fact = 'require features % heads == 0: "heads share the features"'
        path.write_text(f"blueprint b(features: dim = 8, heads: {heads}) {{ {fact} {body} }}")
        assert check(path) == []


def test_element_types_and_operators_are_compared(tmp_path: Path) -> None:
    body = "input x: dt[N] h = x if dt == bf16 and act != relu { h = act(h) } output h"
    path = tmp_path / "b.esp"
    path.write_text(f"blueprint b(dt: dtype = f32, act: op = gelu) {{ {body} }}", encoding="utf-8")
    assert not lower(path).of("gelu")
    assert lower(path, dt="bf16").of("gelu")
    assert not lower(path, dt="bf16", act="relu").of("gelu")


def test_one_mistake_is_told_once(tmp_path: Path) -> None:
    body = "input x: f32[N] h = nothing(x) h = relu(h) + h * 2 g = [h] output h @ h"
    assert _refused(tmp_path, body.replace("g = [h] ", "")) == ["E0201"]


def test_errors_in_several_statements_come_in_one_run(tmp_path: Path) -> None:
    body = (
        'require false: "never" input x: f32[N, 3] h = gelo(x) output linear(x) output y = x + linear(x, 4)'
    )
    assert _refused(tmp_path, body) == ["E0401", "E0201", "E0323", "E0301"]


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"heads": 3}, "E0402"),
        ({"heads": 2.5}, "E0405"),
        ({"width": 0}, "E0413"),
        ({"act": "gleu"}, "E0201"),
    ],
)
def test_a_value_that_does_not_suit_its_parameter_is_refused(
    values: dict[str, Any], code: str, tmp_path: Path
) -> None:
    parameters = "width: dim = 4, heads: int = 2 in {1, 2}, act: op = relu"
    body = "input x: f32[N, width] output act(x) * heads"
    assert _refused(tmp_path, body, parameters, **values) == [code]


def test_a_dim_without_default_needs_a_value_only_when_lowered(tmp_path: Path) -> None:
    body = "input x: f32[N, width] output x"
    assert _refused(tmp_path, body, "width: dim") == ["E0403"]
    assert check(tmp_path / "b.esp") == []
    assert _lower(tmp_path, body, "width: dim", width=3).inputs[0].type.shape[1] == 3


def test_nesting_to_the_limit_elaborates(tmp_path: Path) -> None:
    depth = 990
    ir = _lower(
        tmp_path, f"let a = {'-' * depth}1 input x: f32[N] output x * a + {'relu(' * depth}x{')' * depth}"
    )
    assert len(ir.of("relu")) == depth


def test_a_long_chain_elaborates(tmp_path: Path) -> None:
    assert len(_lower(tmp_path, f"input x: f32[N] output x{' + x' * 5000}").of("add")) == 5000
