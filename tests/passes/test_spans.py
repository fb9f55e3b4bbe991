"""Every node keeps a place in the source: after each pass, and in the graphs that training runs."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings

from esper.errors import Span
from esper.ir import OPERATORS, BlueprintIR
from esper.ir.operator import Leaf
from esper.lang import library, lower
from esper.passes import DEFAULT, PASSES, joint_graph, partition, run_passes
from esper.testing import esp_programs

SOURCES = {entry.name: Path(entry.file).read_text(encoding="utf-8") for entry in library()}


@cache
def lowered(text: str) -> BlueprintIR:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "drawn.esp"
        path.write_text(text, encoding="utf-8")
        return lower(path)


def forms(ir: BlueprintIR) -> dict[str, BlueprintIR]:
    """What each pass makes of `ir`, by its name, and what training makes of it."""
    expanded = run_passes(ir, "expand")
    found = {name: run_passes(expanded if name == "autodiff" else ir, name) for name in PASSES}
    found["decompose after expand"] = run_passes(expanded, "decompose")
    joint = joint_graph(ir)
    parts = partition(joint)
    pipeline = run_passes(ir, f"{DEFAULT},decompose,{DEFAULT}")
    return {
        **found,
        "pipeline": pipeline,
        "joint": joint,
        "forward": parts.forward,
        "backward": parts.backward,
    }


def require_spans(ir: BlueprintIR, text: str) -> None:
    """Every computed node of every form has a span of the lowered graph's, which lies inside `text`."""
    known = {node.span for node in ir.nodes if node.span is not None}
    assert known and all(inside(span, text) for span in known)
    for form, after in {"lowered": ir, **forms(ir)}.items():
        for node in after.nodes:
            if not isinstance(OPERATORS[node.op].lowering, Leaf):
                assert node.span in known, f"{form}: %{node.name} = {node.op} has the span {node.span}"
        for node in after.nodes:
            if node.name in ir and ir.node(node.name).op == node.op:
                assert node.span == ir.node(node.name).span, f"{form}: %{node.name}"


def inside(span: Span, text: str) -> bool:
    lines = text.split("\n")
    within = 1 <= span.line <= span.end_line <= len(lines)
    return (
        within
        and 1 <= span.column <= len(lines[span.line - 1]) + 1
        and 1 < span.end_column <= len(lines[span.end_line - 1]) + 1
        and (span.line, span.column) < (span.end_line, span.end_column)
    )


@pytest.mark.parametrize("name", SOURCES)
def test_each_library_blueprint_keeps_its_spans(name: str) -> None:
    require_spans(lower(name), SOURCES[name])


@settings(max_examples=60)
@given(esp_programs())
def test_a_generated_source_keeps_its_spans(text: str) -> None:
    require_spans(lowered(text), text)


@given(esp_programs())
def test_a_span_covers_the_call_that_made_the_node(text: str) -> None:
    lines = text.split("\n")
    for node in lowered(text).nodes:
        span = node.span
        if (
            span is not None
            and span.line == span.end_line
            and node.op in ("layer_norm", "rms_norm", "dropout")
        ):
            assert node.op in lines[span.line - 1][span.column - 1 : span.end_column - 1]
