"""A grown network on disk: a file that needs torch alone makes it again out of a fresh host, bit for bit."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from esper.kasmina.attach import attach
from esper.kasmina.errors import FileOfOthers, LiveSeeds, SeedWithoutGraph
from esper.kasmina.exports.export import export
from esper.kasmina.exports.files import MODEL, PROGRAM, WEIGHTS, _in_docstring, write_export
from esper.kasmina.exports.merged_source import MergedSource
from esper.kasmina.lifecycle.bank import slots
from esper.kasmina.lifecycle.control import Comparison
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.leyline.stages import SeedStage
from tests.kasmina.networks import batches, conv_host, equal_states, residual

EXAMPLE = batches(1)[0][0]


def fossilize(model: nn.Module, name: str, blueprint: str, mode: str = "lerp", **options: Any) -> None:
    """Takes a seed with weights of no meaning to FOSSILIZED past the gates."""
    optimizer = GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)[name]
    seed = slot.germinate(blueprint, **options)
    slot.hook.mode = mode
    with torch.no_grad():
        for parameter in seed.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    for stage in range(SeedStage.TRAINING, SeedStage.FOSSILIZED):
        slot._enter(SeedStage(stage), "put there by the test", None)
    slot.hook.set_alpha(1.0)
    slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
    slot._enter(SeedStage.FOSSILIZED, "put there by the test", None)
    assert optimizer.steps == 0


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("grown_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def grown_host() -> nn.Module:
    model = attach(conv_host(), ["norm1", "act1", "norm2", "act2"], EXAMPLE)
    for batch in batches(2):
        model(batch[0])
    fossilize(model, "norm1", "conv_enhance")
    fossilize(model, "act1", "conv_enhance")
    fossilize(model, "norm2", "depthwise", mode="add")
    fossilize(model, "act2", "conv_enhance", kernel=5)
    return model


def test_apply_on_a_fresh_host_is_the_grown_network_bit_for_bit(tmp_path: Path) -> None:
    model = grown_host()
    written = write_export(model, tmp_path / "out")
    assert [path.name for path in written.files] == [MODEL, WEIGHTS]
    file = imported(tmp_path / "out" / MODEL)
    again = file.apply(conv_host())
    assert isinstance(again.norm1, file.Grown)
    assert type(again.norm1.seed) is type(again.act1.seed)
    assert type(again.norm1.seed) is not type(again.act2.seed)
    for mode in (False, True):
        outputs = []
        for network in (model, again, export(model)):
            network.train(mode)
            torch.manual_seed(0)
            outputs.append(network(EXAMPLE))
        assert all(torch.equal(outputs[0], output) for output in outputs[1:])
    plain, copy = export(model).state_dict(), again.state_dict()
    counts = {key for key in copy if key not in plain}
    assert all(key.endswith("num_batches_tracked") for key in counts)
    assert equal_states({key: copy[key] for key in plain}, dict(plain))


def test_the_file_needs_torch_alone(tmp_path: Path) -> None:
    write_export(grown_host(), tmp_path)
    script = (
        "import sys, importlib.util\n"
        "class Refuse:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('esper', 'safetensors', 'triton', 'networkx_'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import model, torch\n"
        "from pathlib import Path\n"
        "weights = model.read_weights(Path(model.__file__).with_name('weights.safetensors'))\n"
        "print(len(weights), sorted(model.PARTS))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.strip().endswith("['act1', 'act2', 'norm1', 'norm2']")


def test_the_file_is_clean_python(tmp_path: Path) -> None:
    write_export(grown_host(), tmp_path)
    ruff = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "F821,F811,E9",
        str(tmp_path / MODEL),
    ]
    result = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_a_program_is_written_where_torch_exports_the_host(tmp_path: Path) -> None:
    model = grown_host().eval()
    written = write_export(model, tmp_path, EXAMPLE)
    assert written.refusal is None
    program = torch.export.load(tmp_path / PROGRAM).module()
    for size in (2, 5):
        x = torch.randn(size, 3, 8, 8)
        assert torch.allclose(program(x), model(x), atol=1e-6)


class Deciding(nn.Module):
    """A host that torch.export cannot follow: its path depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.linear(x)
        return h * 2 if float(h.sum()) > 0 else h


def test_a_host_that_torch_does_not_export_is_written_without_a_program(tmp_path: Path) -> None:
    model = attach(Deciding(), "linear", torch.ones(2, 4))
    fossilize(model, "linear", "norm")
    written = write_export(model, tmp_path, torch.ones(2, 4))
    assert written.refusal
    assert not (tmp_path / PROGRAM).exists()
    x = torch.randn(3, 4)
    assert torch.equal(imported(tmp_path / MODEL).apply(Deciding())(x), model(x))


def test_another_host_is_refused(tmp_path: Path) -> None:
    write_export(grown_host(), tmp_path)
    host = conv_host()
    host.extra = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"has \['extra.weight', 'extra.bias'\] besides"):
        imported(tmp_path / MODEL).apply(host)


def test_every_dtype_of_the_weights_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = grown_host()
    assert isinstance(model.norm1, nn.Module)
    write_export(model.to(torch.bfloat16), tmp_path)
    again = imported(tmp_path / MODEL).apply(conv_host().to(torch.bfloat16))
    state = export(model).state_dict()
    assert {key: value.dtype for key, value in again.state_dict().items() if key in state} == {
        key: value.dtype for key, value in state.items()
    }
    assert all(torch.equal(again.state_dict()[key], value) for key, value in state.items())


def test_what_has_no_final_form_is_refused(tmp_path: Path) -> None:
    model = attach(conv_host(), "norm1", EXAMPLE)
    GrowthOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
    slot = slots(model)["norm1"]
    slot.plant(residual(), blueprint_id="own")
    for stage in (SeedStage.TRAINING, SeedStage.BLENDING):
        slot._enter(stage, "put there by the test", None)
    with pytest.raises(LiveSeeds):
        write_export(model, tmp_path / "a")
    slot.hook.set_alpha(1.0)
    slot.comparison = Comparison(0.1, 0.01, 1.0, 0.9, 1.0, 100)
    for stage in (SeedStage.SHADOWING, SeedStage.PROBATIONARY, SeedStage.FOSSILIZED):
        slot._enter(stage, "put there by the test", None)
    with pytest.raises(SeedWithoutGraph):
        write_export(model, tmp_path / "a")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, PROGRAM])
def test_a_file_that_no_export_wrote_is_left_alone(name: str, tmp_path: Path) -> None:
    model = attach(conv_host(), "act1", EXAMPLE)
    (tmp_path / name).write_text("# my own\n")
    with pytest.raises(FileOfOthers, match=f"{name} is no file of an export"):
        write_export(model, tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "# my own\n")]


def test_an_earlier_export_is_written_over_and_other_files_stay(tmp_path: Path) -> None:
    model = attach(conv_host(), "act1", EXAMPLE)
    (tmp_path / "__init__.py").touch()
    write_export(model, tmp_path, doc="The first.")
    write_export(model, tmp_path, doc="The second.")
    assert "The second." in (tmp_path / MODEL).read_text()
    assert (tmp_path / "__init__.py").exists()


HOSTILE = (
    'x"""\nraise SystemExit("a name ran")\nX = {r\'\'\'',
    'x\\"""\nraise SystemExit("a name ran")\nr"""',
    "\n# coding: utf-7\n+ACIAIgAi-\nraise SystemExit(1)",
    "x\r\n\x0c\x00\u2028\ud800\\N{DIGIT ONE}\\",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_no_name_from_a_file_runs_as_code(text: str, tmp_path: Path) -> None:
    model = attach(conv_host(), "act1", EXAMPLE)
    fossilize(model, "act1", "conv_enhance")
    slot = slots(model)["act1"]
    slot.hook.output = slot.hook.mode = slot.blueprint_id = text
    write_export(model, tmp_path, doc=f"`{text}` at {slot.name}")
    file = imported(tmp_path / MODEL)
    assert file.__doc__ is not None
    assert f"`{text}` at act1" in file.__doc__
    assert file.PARTS["act1"][1:] == (slot.hook.output, text)


@given(st.text())
def test_any_text_stands_in_a_docstring_as_it_is(text: str) -> None:
    written = _in_docstring(text)
    assert ast.literal_eval(f'"""{written}"""') == text
    assert set(written.splitlines()) <= set(written.split("\n"))


def test_definitions_that_clash_are_renamed_with_their_uses() -> None:
    file = MergedSource((), ())
    side, part = (
        "def side(x):\n    return x\n",
        "class Part:\n    def run(self, x):\n        return side(x)\n",
    )
    first = f'"""One."""\n\n\n{side}\n\n{part}'
    second = first.replace("return x\n", "return x.side + 1\n")
    assert [file.add(text, "Part") for text in (first, second, first, second)] == [
        "Part",
        "Part_2",
        "Part",
        "Part_2",
    ]
    space: dict[str, Any] = {}
    exec(compile("\n\n\n".join(file.parts), "merged", "exec"), space)  # noqa: S102
    assert (len(file.parts), space["Part"]().run(3)) == (4, 3)
    assert "return x.side + 1" in file.parts[2]
    assert "return side_2(x)" in file.parts[3]
