"""An answer keeps limits and shapes, as counted anew; what has no answer is told with a way out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from esper.errors import WrongArgument
from esper.ir.graph import BlueprintIR
from esper.lang import library, lower
from esper.tezzeret.costs import quantities
from esper.tezzeret.errors import AccuracyUnjudged
from esper.tezzeret.fidelity import Rung
from esper.tezzeret.ladder import Ladder
from esper.tezzeret.registry import open_registry
from esper.tezzeret.registry.errors import UnregisteredBlueprint
from esper.tezzeret.registry.versions import Blueprint, Provenance
from esper.tezzeret.requirements import Requirements, parse_requirements
from esper.tezzeret.synthesis import TEMPLATES, Fitted, Strategy, Synthesis, Unfit, fitted, synthesize
from esper.tezzeret.synthesis.errors import (
    NoRegistry,
    NotAccurate,
    NoTemplate,
    OtherShapes,
    Unsatisfiable,
    Unsatisfied,
)
from esper.tezzeret.synthesis.templates import UNSERVED, shapes_of

ROW = {"input_shape": [4, 16], "output_shape": [4, 16], "operation_type": "mlp"}
MAP = {"input_shape": [2, 8, 6, 6], "output_shape": [2, 8, 6, 6]}


def requirements(asked: dict[str, Any], **more: Any) -> Requirements:
    return parse_requirements({**asked, **more})


def answered(asked: Requirements, strategy: Strategy = "hybrid", **how: Any) -> Synthesis:
    """The answer, of which everything that was promised is counted again."""
    found = synthesize(asked, strategy=strategy, trials=20, **how)
    sizes = found.blueprint.sizes
    assert shapes_of(found.ir, sizes) == (asked.input_shape, asked.output_shape)
    assert found.figures == quantities(found.ir, sizes)
    assert found.ir.hash == found.blueprint.ir_hash
    assert [bound.constraint for bound in found.bounds] == asked.bounds()
    assert not any(bound.share for bound in found.bounds)
    return found


def test_each_blueprint_of_the_library_is_a_template_or_is_told_why_not() -> None:
    assert TEMPLATES.keys() | UNSERVED.keys() == {entry.name for entry in library()}
    assert not TEMPLATES.keys() & UNSERVED.keys()


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_template_fits_some_shape_between_equal_ends(name: str) -> None:
    shapes = ([2, 32, 8, 8], [2, 32, 64], [2, 64])
    found = [fitted(TEMPLATES[name], requirements({"input_shape": s, "output_shape": s})) for s in shapes]
    for one, shape in zip(found, shapes, strict=True):
        if isinstance(one, Fitted):
            ir = lower(name, sizes=one.sizes, **one.fixed)  # type: ignore[arg-type]
            assert shapes_of(ir, one.sizes) == (tuple(shape), tuple(shape))
    assert any(isinstance(one, Fitted) for one in found)


def test_a_template_is_taken_as_it_stands() -> None:
    found = answered(requirements(ROW), "template")
    assert found.algorithm == "template mlp_block" and found.changes == ()
    assert found.ir.hash == lower("mlp_block", sizes={"S": ()}, features=16).hash


@pytest.mark.parametrize("strategy", ["hybrid", "search"])
def test_a_search_finds_nothing_worse_than_the_template(strategy: Strategy) -> None:
    asked = requirements(ROW, optimization_target="latency")
    best, template = answered(asked, strategy), answered(asked, "template")
    assert best.figures.latency <= template.figures.latency
    assert best == answered(asked, strategy) or best.ir.hash == answered(asked, strategy).ir.hash


def test_a_search_over_all_templates_is_no_worse_than_that_of_the_first() -> None:
    asked = requirements(ROW, optimization_target="memory")
    assert answered(asked, "search").figures.memory <= answered(asked, "hybrid").figures.memory


def test_limits_that_the_defaults_break_are_kept_by_a_repair_or_the_next_template() -> None:
    loose = answered(requirements(ROW), "template").figures.memory_mb
    tight = requirements(ROW, constraints={"max_memory_mb": loose / 2})
    with pytest.raises(Unsatisfied, match="not proven"):
        synthesize(requirements(ROW, constraints={"max_memory_mb": 1e-6}), strategy="template")
    assert answered(tight).figures.memory_mb <= loose / 2


def test_a_limit_below_all_templates_is_proven_and_the_relaxation_helps() -> None:
    with pytest.raises(Unsatisfiable, match=r"none of \d+ templates keeps `memory_mb<=1e-06`") as caught:
        synthesize(requirements(ROW, constraints={"max_memory_mb": 1e-6}), trials=20)
    (relaxed,) = caught.value.details["relaxation"]
    assert answered(requirements(ROW, constraints={"max_memory_mb": relaxed.bound})).bounds
    assert f"ask for {relaxed}" in caught.value.help_text


@pytest.mark.parametrize("wanted", [[2, 12, 6, 6], [2, 8, 3, 3], [2, 16, 3, 3]])
def test_channels_and_sizes_may_change_where_a_template_can(wanted: list[int]) -> None:
    answered(requirements({**MAP, "output_shape": wanted}), "template")


def test_a_template_whose_default_the_shape_refuses_is_repaired() -> None:
    asked = requirements({"input_shape": [2, 4, 6], "output_shape": [2, 4, 6], "operation_type": "attention"})
    assert answered(asked).changes


def test_shapes_that_nothing_joins_are_refused_with_what_is_possible() -> None:
    with pytest.raises(NoTemplate, match=r"from \[2, 8, 6, 6\] to \[2, 8, 12, 12\]") as caught:
        synthesize(requirements({**MAP, "output_shape": [2, 8, 12, 12]}))
    assert "to the same shape it has convolution" in caught.value.help_text
    with pytest.raises(NoTemplate, match="no transformer template") as caught:
        synthesize(requirements(MAP, operation_type="transformer"))
    assert "between these shapes it has operation_type convolution" in caught.value.help_text
    found = fitted(TEMPLATES["mlp_block"], requirements(ROW, dtype="f64"))
    assert isinstance(found, Unfit) and found.reason == "the library has no float64"


def test_the_dtype_is_that_of_what_goes_in_and_comes_out() -> None:
    found = answered(requirements(ROW, dtype="bf16"))
    assert {str(node.type.dtype) for node in found.ir.inputs} == {"bf16"}


def test_latency_is_held_to_the_hardware_that_is_asked_for() -> None:
    asked = requirements(ROW, hardware_target="sm_90", constraints={"max_latency_ms": 1.0})
    (bound,) = answered(asked).bounds
    assert bound.constraint.target == "sm_90"


def test_the_registry_answers_what_was_asked_before(tmp_path: Path) -> None:
    asked = requirements(ROW, constraints={"max_memory_mb": 0.05})
    with open_registry(tmp_path / "registry.db") as registry:
        first = answered(asked, registry=registry)
        again = answered(asked, registry=registry)
        anew = answered(asked, "template", registry=registry, refresh=True)
        assert first.version is not None and again.version is not None and anew.version is not None
        assert not first.is_cached and again.is_cached and not anew.is_cached
        assert (again.ir, again.algorithm, again.version) == (first.ir, first.algorithm, first.version)
        assert first.version.provenance.requirements == asked
        assert registry.answers.get(asked) == anew.version != first.version


def test_an_existing_architecture_is_edited_until_it_keeps_the_limits(tmp_path: Path) -> None:
    with open_registry(tmp_path / "registry.db") as registry:
        first = answered(requirements(ROW), "template", registry=registry)
        assert first.version is not None
        limits = {"max_memory_mb": first.figures.memory_mb * 0.7}
        asked = requirements(ROW, constraints=limits, existing_architecture=first.ir.hash)
        found = answered(asked, registry=registry)
        assert found.version is not None and found.version.parent == first.version.number
        assert found.changes and found.version.edit == "; ".join(found.changes)
        wide = {"input_shape": [4, 17], "output_shape": [4, 17], "existing_architecture": first.ir.hash}
        with pytest.raises(OtherShapes):
            synthesize(requirements(wide), registry=registry)
        with pytest.raises(UnregisteredBlueprint):
            synthesize(requirements(ROW, existing_architecture="0" * 64), registry=registry)
    with pytest.raises(NoRegistry):
        synthesize(asked)


@dataclass(frozen=True)
class Shown:
    accuracy: float
    flops: int = 1


class Sized:
    """A task that is learned by the share of its 2,000 parameters that a graph has, however long."""

    def accuracy(self, blueprint: BlueprintIR | None, steps: int, seed: int, /) -> Shown:
        assert blueprint is not None
        return Shown(min(quantities(blueprint, {}).params / 2_000, 1.0))

    def gradients(
        self, blueprint: BlueprintIR | None, seed: int, batches: int, /
    ) -> Iterator[Sequence[torch.Tensor]]:
        yield from ([torch.ones(1)] for _ in range(batches))


def test_accuracy_needs_a_task_and_is_held_to_what_was_learned() -> None:
    both: list[dict[str, Any]] = [
        {"constraints": {"target_accuracy": 0.5}},
        {"optimization_target": "accuracy"},
    ]
    for asked in both:
        with pytest.raises(AccuracyUnjudged):
            synthesize(requirements(ROW, **asked))
    ladder = Ladder(Sized(), (Rung(1, (0,)),), cohort=3)
    asked = {**both[0], "optimization_target": "latency"}
    found = answered(requirements(ROW, **asked), ladder=ladder)
    assert found.learned is not None and found.learned.accuracy >= 0.5 and found.figures.params >= 1_000
    best = answered(requirements(ROW, optimization_target="accuracy"), ladder=ladder)
    assert best.learned is not None and best.learned.accuracy == 1.0
    with pytest.raises(NotAccurate, match="learns 100"):
        hard = {"operation_type": "recurrent", "input_shape": [1, 2, 2], "output_shape": [1, 2, 2]}
        synthesize(requirements(hard, constraints={"target_accuracy": 1.0}), ladder=ladder)


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(WrongArgument, match="hybrid, template, search"):
        synthesize(requirements(ROW), strategy="magic")  # type: ignore[arg-type]


def test_a_blueprint_of_a_registry_is_read_from_its_source_alone(tmp_path: Path) -> None:
    with open_registry(tmp_path / "registry.db") as registry:
        text = "blueprint own(width: dim = 16) {\n    input x: f32[N, width]\n    output gelu(x)\n}\n"
        path = tmp_path / "own.esp"
        path.write_text(text)
        ir = lower(path)
        version = registry.versions.add(
            Blueprint(ir.hash, "own", text, {}, {"N": 4}), Provenance("me", "hand")
        )
        path.unlink()
        asked = requirements(ROW, existing_architecture=ir.hash)
        found = answered(asked, registry=registry)
        assert found.ir.hash == ir.hash and found.changes == ()
        assert found.version is not None and found.version.parent == version.number
