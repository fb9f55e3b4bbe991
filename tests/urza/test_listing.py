"""Kernels for people: Python that is laid out, each kernel beside the words of the blueprint it is of."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import esper
from esper.cli.esperc import main
from esper.urza.compiler import make_programs
from esper.urza.eager.module_layout import WIDTH

SOURCE = """\
blueprint small(features: dim = 32) {
    input x: f32[N, features]
    h = layer_norm(x)
        |> linear(
            features,
            init=zeros)
    output x + gelu(h)
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "small.esp"
    path.write_text(SOURCE, encoding="utf-8")
    return path


def test_each_kernel_stands_beside_its_words(source: Path) -> None:
    text = CliRunner().invoke(main, ["compile", str(source), "--emit", "triton"]).stdout
    words = re.findall(r"^# small\.esp:.*$", text, re.MULTILINE)
    assert words[:3] == [
        "# small.esp:3: layer_norm(x)",
        "# small.esp:4: linear( features, init=zeros)",
        "# small.esp:7: x + gelu(h)",
    ]
    heads = [
        place for place, line in enumerate(text.splitlines()) if line.startswith(("# forward", "# backw"))
    ]
    of_their_own = [text.splitlines()[place + 1] for place in heads]
    assert all(line.startswith(("# small.esp:", "@triton.jit")) for line in of_their_own)
    assert sum(line.startswith("# small") for line in of_their_own) >= len(heads) - 1


def test_without_sources_a_listing_says_nothing_of_where_it_was_built(source: Path) -> None:
    programs = make_programs(esper.lower(source))
    assert "small.esp" not in programs.stage("triton")
    assert str(source.parent) not in programs.stage("triton", {str(source): SOURCE})


@pytest.mark.parametrize("name", ["mlp_block", "transformer_block", "resnet_block", "lstm_layer"])
def test_a_listing_is_python_whose_calls_fit(name: str) -> None:
    programs = make_programs(esper.lower(name))
    text = programs.stage("triton")
    names = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    assert len(names) == len(set(names)) and {kernel.entry for kernel in programs.kernels} <= set(names)
    call = re.compile(r" *(def )?[\w.]*\([^()]*, [^()]*\)[:,]?")
    assert [line for line in text.splitlines() if len(line) > WIDTH and call.fullmatch(line)] == []
    assert ", ," not in text
