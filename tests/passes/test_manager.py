"""Pipelines: names, records, and the verifier between passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from esper.errors import WrongArgument
from esper.ir import BlueprintIR, DType, TensorType, Value
from esper.ir.build import Builder
from esper.ir.operator import OPERATORS, Site
from esper.ir.rewrite import rewrite
from esper.passes import PASSES, Law, PassRecord, run_passes
from esper.passes.errors import PassBrokeGraph, PassCrashed, UnknownGradient, UnknownPass


def test_a_pipeline_is_names_with_commas(small: BlueprintIR) -> None:
    assert run_passes(small, "expand, dce") == PASSES["dce"].run(PASSES["expand"].run(small))


def test_an_empty_pipeline_changes_nothing(small: BlueprintIR) -> None:
    assert run_passes(small, "") is small


def test_an_unknown_word_is_refused_with_the_list_of_passes(small: BlueprintIR) -> None:
    with pytest.raises(UnknownPass, match="no pass `inline`") as raised:
        run_passes(small, "expand,inline")
    assert raised.value.help_text == f"the passes are {', '.join(PASSES)}"


def test_each_pass_is_recorded_with_its_graph(small: BlueprintIR) -> None:
    records: list[tuple[PassRecord, BlueprintIR]] = []
    run_passes(small, "expand,dce", lambda record, ir: records.append((record, ir)))
    assert [record.name for record, _ in records] == ["expand", "dce"]
    assert [record.nodes_before for record, _ in records] == [len(small.nodes), len(records[0][1].nodes)]
    assert all(record.nodes_after == len(ir.nodes) and record.ms >= 0 for record, ir in records)


def test_what_passes_leave_alone_is_typed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder("chain")
    value = build.input("x", TensorType(DType.F32, (4,)))
    for _ in range(3):
        value = build.op("exp", value)
    chain = build.finish({"y": value})
    typed: list[Site] = []
    rule = OPERATORS["exp"].infer
    assert rule is not None

    def counted(site: Site) -> Sequence[TensorType]:
        typed.append(site)
        return rule(site)

    monkeypatch.setitem(OPERATORS, "exp", replace(OPERATORS["exp"], infer=counted))
    again = chain.replace(name="again")  # which nobody has verified
    for _ in range(2):
        run_passes(again, "canonicalize,cse,dce")
    assert len(typed) == 3


@dataclass(frozen=True)
class DropsInputs:
    name: ClassVar[str] = "drops_inputs"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        return ir.replace(nodes=[node for node in ir.nodes if node.op != "input"])


def test_a_pass_that_breaks_a_graph_is_named(small: BlueprintIR) -> None:
    with pytest.raises(
        PassBrokeGraph, match="the pass `drops_inputs` made an invalid graph: node `linear`: reads `x`"
    ):
        run_passes(small, [DropsInputs()])


@dataclass(frozen=True)
class Fails:
    """A pass that gives up at `gelu`, in one of several ways."""

    way: str
    name: ClassVar[str] = "fails"
    law: ClassVar[Law] = Law.EXACT

    def run(self, ir: BlueprintIR) -> BlueprintIR:
        if self.way == "crash":
            known: dict[str, BlueprintIR] = {}
            return known[ir.of("gelu")[0].name]
        if self.way == "mistyped":
            return rewrite(ir, lambda build, node: (build.constant(1.0),) if node.op == "gelu" else None)
        return rewrite(ir, lambda build, node: [build.op("matmul", *node.operands, None)])


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("crash", "KeyError: 'gelu'"),
        ("mistyped", "E0503: node `gelu`: a rewrite changed its name or its result types"),
        ("untyped", "E0301: `matmul`"),
    ],
)
def test_a_pass_that_fails_on_a_valid_graph_is_named_with_that_graph(
    small: BlueprintIR, way: str, reason: str
) -> None:
    with pytest.raises(PassCrashed, match="the pass `fails` failed on a valid graph") as raised:
        run_passes(small, [PASSES["dce"], Fails(way)])
    assert reason in str(raised.value)
    assert raised.value.details["pipeline"] == f"fails{{way={way}}}"
    assert raised.value.details["given"] == str(run_passes(small, "dce"))


def test_a_graph_that_a_pass_cannot_take_is_no_defect_of_the_pass(small: BlueprintIR) -> None:
    with pytest.raises(UnknownGradient):
        run_passes(small, "autodiff{wrt=[nothing]}")


def test_a_graph_that_is_invalid_before_is_not_blamed_on_a_pass(small: BlueprintIR) -> None:
    broken = small.replace(outputs=[("y", Value("nowhere"))])
    with pytest.raises(Exception, match="result `y` is %nowhere"):
        run_passes(broken, "dce")


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_has_its_name_and_a_law(name: str) -> None:
    assert PASSES[name].name == name
    assert isinstance(PASSES[name].law, Law)


def test_a_pipeline_may_be_a_list_of_texts_and_passes(small: BlueprintIR) -> None:
    assert run_passes(small, ["expand", PASSES["dce"]]) == run_passes(small, "expand,dce")


def test_what_is_no_graph_or_no_pass_is_refused(small: BlueprintIR) -> None:
    with pytest.raises(WrongArgument, match="`ir` is of type str"):
        run_passes(str(small))  # type: ignore[arg-type]
    with pytest.raises(WrongArgument, match="`pipeline` is of type int"):
        run_passes(small, 3)  # type: ignore[arg-type]
    with pytest.raises(WrongArgument, match="`pipeline` is of type type"):
        run_passes(small, [object])  # type: ignore[list-item]
