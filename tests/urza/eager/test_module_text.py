"""Modules for people: over torch alone, laid out as ruff would, and equal to the torch tier."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import nn

from esper.ir import BlueprintIR, Builder, DType, TensorType, symbol
from esper.lang import library, lower, signature, size_values
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.passes import run_passes
from esper.testing import blueprint_irs
from esper.urza.eager.module_layout import Call, docstring, statement
from esper.urza.eager.module_text import class_name, module_text
from esper.urza.run.seed import CompiledSeed

LIBRARY = [entry.name for entry in library()]
RUFF = [sys.executable, "-m", "ruff"]
SIZES = {"N": 3, "T": 5, "R.0": 4, "R.1": 4}


def written(ir: BlueprintIR, doc: str = "") -> nn.Module:
    """The module whose text is written for `ir`."""
    names: dict[str, Any] = {}
    exec(compile(module_text(ir, doc), "<written>", "exec"), names)  # noqa: S102 - our own text
    module: nn.Module = names[class_name(ir)]()
    return module


def seeded(ir: BlueprintIR) -> CompiledSeed:
    """Weights, nowhere zero."""
    generator = torch.Generator().manual_seed(3)
    seed = CompiledSeed(ir, generator=generator)
    with torch.no_grad():
        for tensor in (*seed.parameters(), *(b for b in seed.buffers() if b.is_floating_point())):
            tensor.add_(torch.rand(tensor.shape, generator=generator), alpha=0.1)
    return seed


def inputs(ir: BlueprintIR) -> list[torch.Tensor]:
    """Float64 where the graph's are floating."""
    sizes = {**size_values(ir), **{name: size for name, size in SIZES.items() if name in ir.symbols}}
    sizes |= {name: 6 for name in ir.symbols if name.startswith("S.")}
    found = []
    for number, node in enumerate(ir.inputs):
        shape = node.type.concrete_shape(sizes)
        generator = torch.Generator().manual_seed(number)
        if node.type.dtype.is_floating:
            tensor = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        else:
            tensor = torch.randint(2, shape, generator=generator, dtype=TORCH_DTYPES[node.type.dtype])
        found.append(tensor)
    return found


def outcome(module: nn.Module, given: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs, gradients and buffers after two calls in training mode, then outputs in eval mode."""
    module.train()
    found: dict[str, torch.Tensor] = {}
    for call in range(2):
        outputs = module(*given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        found |= {f"output {call} {index}": output.detach() for index, output in enumerate(outputs)}
        torch.stack([output.square().sum() for output in outputs]).sum().backward()
    found |= {f"gradient {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    found |= {f"gradient of input {n}": x.grad for n, x in enumerate(given) if x.grad is not None}
    found |= {name: b for name, b in module.named_buffers() if not name.endswith("num_batches_tracked")}
    outputs = module.eval()(*given)
    found["output in eval mode"] = outputs[0] if isinstance(outputs, tuple) else outputs
    for x in given:
        x.grad = None
    return found


def assert_equal_modules(ir: BlueprintIR) -> None:
    seed, module = seeded(ir), written(ir)
    assert sum(p.numel() for p in module.parameters()) == ir.parameters
    sizes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    assert sizes == {name: tuple(p.shape) for name, p in seed.named_parameters()}
    module.load_state_dict(seed.state_dict())
    given = inputs(ir)
    mine, theirs = outcome(module.double(), given), outcome(seed.double(), given)
    assert mine.keys() == theirs.keys() and len(mine) > len(sizes)
    for name in mine:
        torch.testing.assert_close(mine[name], theirs[name], rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize("name", LIBRARY)
def test_a_written_module_is_equal_to_the_seed(name: str) -> None:
    assert_equal_modules(lower(name))


@pytest.mark.parametrize("name", LIBRARY)
def test_a_written_module_begins_as_the_seed_does(name: str) -> None:
    """Weights that begin at a number do; others have the same spread."""
    ir = lower(name)
    module, seed = written(ir), CompiledSeed(ir)
    for (name, mine), (_, theirs) in zip(
        sorted(module.named_parameters()), sorted(seed.named_parameters()), strict=True
    ):
        if theirs.numel() < 256:
            assert (mine.min() == mine.max()) == (theirs.min() == theirs.max()) or mine.numel() == 1, name
        elif theirs.std() == 0:
            assert torch.equal(mine, theirs), name
        else:
            assert 0.8 < (mine.std() / theirs.std()).item() < 1.25, name


def test_the_library_is_laid_out_as_ruff_would_and_imports_torch_alone(tmp_path: Path) -> None:
    for name in LIBRARY:
        text = module_text(lower(name), signature(name, None).doc)
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        imported = set()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
        assert imported - set(sys.stdlib_module_names) == {"torch"}
    options = ["--isolated", "--line-length=110"]
    for command in (["format", "--check", "--diff"], ["check", "--select=E,F,I,B,UP,SIM,RET"]):
        done = subprocess.run(
            [*RUFF, *command, *options, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_typed(tmp_path: Path) -> None:
    """By the project's own strict options, whose cache of torch's types is there after `make check`."""
    root = Path(__file__).parents[3]
    names = (
        "transformer_block",
        "transformer_llama",
        "lstm_layer",
        "depthwise",
        "group_norm_block",
        "unet_up",
    )
    (tmp_path / "nested.esp").write_text(NESTED, encoding="utf-8")
    graphs = {name: lower(name) for name in names} | {"nested": lower(tmp_path / "nested.esp", name="outer")}
    for name, ir in graphs.items():
        (tmp_path / f"{name}.py").write_text(module_text(ir), encoding="utf-8")
    paths = [str(tmp_path / f"{name}.py") for name in graphs]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-warn-return-any", *paths],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["mlp_block", "transformer_block", "gru_layer", "resnet_block"])
def test_a_module_reads_so(name: str, golden: Callable[[str, str], None]) -> None:
    golden(f"{name}.module.py", module_text(lower(name), signature(name, None).doc))


def test_a_buffer_of_its_own_and_several_outputs() -> None:
    build = Builder("running")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 4)))
    total = build.buffer("total", TensorType(DType.F32, (4,)))
    scale = build.param("scale", TensorType(DType.F32, (4,)), init="kaiming_normal", fan_in=4)
    after = build.op("add", total, build.op("sum", x, axes=(0,), keepdims=False))
    outputs = {"y": build.op("mul", x, scale), "z": build.op("tanh", after)}
    assert_equal_modules(build.finish(outputs, updates={"total": after}))


NESTED = """import gru_layer
blueprint inner(width: dim = 8) {
    input x: f32[N, width]

    output x |> linear(width) |> batch_norm() |> rms_norm(affine=false)
}

blueprint middle(width: dim = 8) {
    input x: f32[N, width]

    output x |> inner(width=width) |> linear(width, bias=false)
}

blueprint outer(width: dim = 8) {
    input x: f32[N, width]

    h = x |> middle(width=width) |> inner(width=width) |> unsqueeze(1)
    output h |> gru_layer(features=width)
}
"""


def test_what_a_blueprint_calls_lies_in_modules_of_its_own(
    tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    path = tmp_path / "nested.esp"
    path.write_text(NESTED, encoding="utf-8")
    ir = lower(path, name="outer")
    assert_equal_modules(ir)
    golden("nested.module.py", module_text(ir))


@given(blueprint_irs(max_nodes=2, symbolic=False))
@settings(max_examples=25, deadline=None)
def test_any_graph_is_written(ir: BlueprintIR) -> None:
    ir = run_passes(ir, "dce")
    seed, module = seeded(ir).eval(), written(ir).eval()
    module.load_state_dict(seed.state_dict())
    given = [x.detach() for x in inputs(ir)]
    mine, theirs = module.double()(*given), seed.double()(*given)
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize(("name", "expected"), [("mlp_block", "MlpBlock"), ("tensor", "TensorBlock")])
def test_a_class_is_named_for_its_blueprint_and_hides_no_import(name: str, expected: str) -> None:
    build = Builder(name)
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 4)))
    ir = build.finish({"y": build.op("relu", x)})
    assert class_name(ir) == expected
    assert_equal_modules(ir)


# --- layout ---


def test_a_call_that_is_too_long_is_opened() -> None:
    short, long = ("a" * 30, "b" * 30), tuple(letter * 40 for letter in "abc")
    assert statement("x = ", Call("f", short), 2) == [f"        x = f({short[0]}, {short[1]})"]
    three = (*long[:2], "c" * 13)
    assert statement("x = ", Call("f", three, "[0]"), 2) == [
        "        x = f(",
        f"            {', '.join(three)}",
        "        )[0]",
    ]
    opened = statement("x = ", Call("f", long), 2)
    assert opened == ["        x = f(", *(f"            {argument}," for argument in long), "        )"]


def test_a_docstring_cannot_end_early() -> None:
    text = "\n".join(docstring(['Says """ and \\n.', "More."], 1))
    assert ast.literal_eval(text.strip()) == "Says ''' and \\n.\n\n    More.\n    "
