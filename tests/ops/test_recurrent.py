"""Recurrent layers are torch's: results, gradients, weights and where they start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import esper
from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.ir.errors import TypeRuleViolated
from esper.ir.graph import Node
from esper.lang import BlueprintRejected, lower
from esper.ops.reference.evaluate import evaluate
from esper.ops.reference.initialise import initial_values
from esper.passes import joint_graph, run_passes
from esper.testing.laws import REAL_TOLERANCE
from esper.urza.eager.torch_tier import call, graph_module

LAYERS: dict[str, type[nn.RNN | nn.GRU | nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
FEATURES, HIDDEN = 3, 5
each_layer = pytest.mark.parametrize("name", LAYERS)


def source(folder: Path, layer: str, arguments: str = "") -> Path:
    path = folder / f"{layer}.esp"
    path.write_text(
        f"blueprint net(features: dim = {FEATURES}, hidden: dim = {HIDDEN}) {{\n"
        f"    input x: f32[N, T, features]\n    output y = x |> {layer}(hidden{arguments})\n}}\n"
    )
    return path


def all_results(ir: BlueprintIR) -> BlueprintIR:
    node = ir.nodes[-1]
    return ir.replace(outputs=[(f"r{index}", value) for index, value in enumerate(node.results)])


def body_of(loop: Node) -> list[BlueprintIR]:
    return [body for _, body in loop.bodies]


def torchs(layer: str, bias: bool = True) -> nn.RNNBase:
    return LAYERS[layer](FEATURES, HIDDEN, bias=bias, batch_first=True, dtype=torch.float64)


def torchs_results(module: nn.RNNBase, x: torch.Tensor, reverse: bool) -> list[torch.Tensor]:
    y, last = module(x.flip(1) if reverse else x)
    states = last if isinstance(last, tuple) else (last,)
    return [y.flip(1) if reverse else y, *(state[0] for state in states)]


@each_layer
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_layer_and_its_gradients_are_torchs(name: str, bias: bool, reverse: bool, tmp_path: Path) -> None:
    flags = f", reverse={str(reverse).lower()}, bias={str(bias).lower()}"
    ir = all_results(lower(source(tmp_path, name, flags)))
    module = torchs(name, bias)
    weights = {param.name: getattr(module, f"{param.name.rpartition('.')[2]}_l0") for param in ir.params}
    assert len(weights) == len(list(module.parameters()))
    x = torch.randn(2, 6, FEATURES, dtype=torch.float64, requires_grad=True)
    expected = torchs_results(module, x, reverse)
    given = {f"grad.r{index}": torch.randn_like(result) for index, result in enumerate(expected)}
    leaves = {"x": x, **weights}
    gradients = torch.autograd.grad(expected, list(leaves.values()), list(given.values()))
    wanted = {f"r{index}": result for index, result in enumerate(expected)}
    wanted |= {f"grad.{leaf}": gradient for leaf, gradient in zip(leaves, gradients, strict=True)}
    with torch.no_grad():
        found = evaluate(joint_graph(ir), {"x": x, **given}, weights, dtype=torch.float64)
    assert found.keys() == wanted.keys()
    for key, result in wanted.items():
        torch.testing.assert_close(found[key], result, rtol=REAL_TOLERANCE, atol=REAL_TOLERANCE)


@each_layer
def test_the_inputs_have_one_product_for_all_steps(name: str, tmp_path: Path) -> None:
    expanded = run_passes(lower(source(tmp_path, name)))
    assert len(expanded.of("matmul")) == 1
    loop = expanded.of("scan")[-1]
    assert [len(body.of("matmul")) for _, body in loop.bodies] == [1]
    (of_inputs, of_state) = (found.of("matmul")[0].type.shape[-1] for found in (expanded, *body_of(loop)))
    assert of_inputs == of_state == GATES[name] * HIDDEN


@each_layer
def test_the_gradients_of_weights_are_products_over_all_steps(name: str, tmp_path: Path) -> None:
    """The loop carries the gradients of its states alone, and yields those of the gates."""
    joint = joint_graph(lower(source(tmp_path, name)))
    forward, backward = joint.of("scan")
    assert backward.attrs["carries"] == forward.attrs["carries"]
    (body,) = body_of(backward)
    assert not body.of("sum")
    assert not any(node.attrs["transpose_a"] for node in body.of("matmul"))
    assert str(backward.types[-1]) == f"f32[N, T, {GATES[name] * HIDDEN}]"


@each_layer
def test_weights_start_as_torchs_do(name: str, tmp_path: Path) -> None:
    ir = lower(source(tmp_path, name), hidden=64)
    values = initial_values(ir, torch.Generator().manual_seed(0))
    assert len(values) == 4
    for found in values.values():
        assert 0.95 * 64**-0.5 < found.abs().max() <= 64**-0.5


@each_layer
def test_the_torch_tier_runs_any_batch_and_length(name: str, tmp_path: Path) -> None:
    ir = run_passes(lower(source(tmp_path, name)))
    module = graph_module(ir)
    layer = torchs(name).float()
    weights = {param.name: getattr(layer, f"{param.name.rpartition('.')[2]}_l0") for param in ir.params}
    for batch, steps in ((1, 1), (3, 1000)):
        x = torch.randn(batch, steps, FEATURES)
        (y,) = call(module, ir, {"x": x, **weights})
        torch.testing.assert_close(y, layer(x)[0], rtol=1e-4, atol=1e-5)
        y.sum().backward()


def test_a_seed_file_keeps_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESPER_CACHE_DIR", str(tmp_path / "cache"))
    seed = esper.compile(source(tmp_path, "lstm"))
    seed.save(tmp_path / "lstm.seed")
    again = esper.load(tmp_path / "lstm.seed")
    again.load_state_dict(seed.state_dict())
    x = torch.randn(2, 4, FEATURES)
    assert again.ir == seed.ir
    assert torch.equal(again(x), seed(x))


def test_two_directions_are_two_layers(tmp_path: Path) -> None:
    path = tmp_path / "both.esp"
    path.write_text(
        "blueprint both() {\n    input x: f32[N, T, 3]\n    output forwards = gru(x, 5)\n"
        "    output backwards = gru(x, 5, reverse=true)\n}\n"
    )
    ir = lower(path)
    module = nn.GRU(3, 5, batch_first=True, bidirectional=True)
    weights = {
        f"{node.name}.{name}": getattr(module, f"{name}_l0{suffix}").detach()
        for node, suffix in zip(ir.of("gru"), ("", "_reverse"), strict=True)
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    }
    x = torch.randn(2, 4, 3)
    found = evaluate(ir, {"x": x}, weights)
    torch.testing.assert_close(torch.cat([found["forwards"], found["backwards"]], -1), module(x)[0])


def test_a_wrong_argument_in_a_source_is_an_error_with_a_place(tmp_path: Path) -> None:
    path = tmp_path / "flat.esp"
    path.write_text("blueprint flat() {\n    input x: f32[N, 8]\n    output y = gru(x, 4)\n}\n")
    with pytest.raises(BlueprintRejected, match=r"flat\.esp:3"):
        lower(path)


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        (["2,3", "15,3", "15,5", None, None], "`x` is f32[2, 3], expected [N, T, features]"),
        (["N,0,3", "15,3", "15,5", None, None], "expected at least one step"),
        (["N,T,3", "15,4", "15,5", None, None], "`weight_ih` is f32[15, 4], expected f32[15, 3]"),
        (["N,T,3", "15,3", "12,5", None, None], "`weight_hh` is f32[12, 5], expected f32[15, 5]"),
        (["N,T,3", "15,3", "15", None, None], "`weight_hh` is f32[15], expected two axes"),
        (["N,T,3", "15,3", "15,5", "14", "15"], "`bias_ih` is f32[14], expected f32[15]"),
        (["N,T,3", "15,3", "15,5", "15", None], "`bias_ih` is f32[15] and `bias_hh` is left out"),
    ],
)
def test_weights_that_do_not_fit_are_refused(types: list[str | None], expected: str) -> None:
    build = Builder("b")
    operands = [
        None
        if sizes is None
        else build.input(
            f"x{index}",
            TensorType(DType.F32, tuple(int(s) if s.isdigit() else symbol(s) for s in sizes.split(","))),
        )
        for index, sizes in enumerate(types)
    ]
    with pytest.raises(TypeRuleViolated) as raised:
        build.op("gru", *operands)
    assert expected in str(raised.value)
