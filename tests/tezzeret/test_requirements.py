"""Requirements: what is refused and how it is told, one hash for equal ones, what they mean for a search."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.kasmina.host.probe import Probe
from esper.tezzeret import Constraint, Evaluator
from esper.tezzeret.costs import DEVICES
from esper.tezzeret.errors import InvalidRequirements, UnknownTarget
from esper.tezzeret.requirements import Requirements, parse_requirements, slot_requirements

LEAST = {"input_shape": [8, 64], "output_shape": [8, 64]}
FULL = {
    "input_shape": [2, 16, 8, 8],
    "output_shape": [2, 32, 8, 8],
    "operation_type": "convolution",
    "constraints": {"max_latency_ms": 0.5, "max_memory_mb": 12, "target_accuracy": 0.9},
    "optimization_target": "latency",
    "hardware_target": "sm_90",
    "existing_architecture": "0f" * 32,
    "dtype": "bf16",
}

amounts = st.floats(min_value=1e-6, max_value=1e6) | st.integers(1, 10**6)
shapes = st.lists(st.integers(1, 4096), min_size=1, max_size=6)
requirements = st.fixed_dictionaries(
    {"input_shape": shapes, "output_shape": shapes},
    optional={
        "operation_type": st.sampled_from(["any", "attention", "mlp"]),
        "constraints": st.fixed_dictionaries(
            {},
            optional={
                "max_latency_ms": amounts,
                "max_memory_mb": amounts,
                "target_accuracy": st.floats(0.01, 1.0),
            },
        ),
        "optimization_target": st.sampled_from(["latency", "memory", "accuracy", "balanced"]),
        "hardware_target": st.none() | st.sampled_from(sorted(DEVICES)),
        "dtype": st.sampled_from(["f32", "bf16"]),
    },
)


def shuffled(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    items = [(key, shuffled(inner, rng)) for key, inner in value.items()]
    rng.shuffle(items)
    return dict(items)


@given(requirements, st.randoms(use_true_random=False))
def test_the_hash_is_the_same_whatever_the_order_and_whether_defaults_are_spelt_out(
    asked: dict[str, Any], rng: random.Random
) -> None:
    found = parse_requirements(asked)
    spelt_out = found.model_dump(mode="json")
    again = parse_requirements(shuffled(spelt_out, rng))
    assert again == found
    assert again.hash == found.hash == parse_requirements(shuffled(asked, rng)).hash
    assert parse_requirements(json.loads(found.text)) == found


@given(requirements, requirements)
def test_requirements_have_one_hash_exactly_if_they_are_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, other = parse_requirements(a), parse_requirements(b)
    assert (one.hash == other.hash) == (one == other)


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("input_shape", [2, 16, 8, 9]),
        ("output_shape", [2, 32, 8]),
        ("operation_type", "any"),
        ("constraints", {"max_latency_ms": 0.5, "max_memory_mb": 12}),
        ("optimization_target", "balanced"),
        ("hardware_target", "sm_80"),
        ("existing_architecture", "1f" * 32),
        ("dtype", "f16"),
    ],
)
def test_each_field_counts_in_the_hash(field: str, other: Any) -> None:
    assert parse_requirements({**FULL, field: other}).hash != parse_requirements(FULL).hash


def test_an_integer_and_the_same_number_as_a_float_are_equal_requirements() -> None:
    limits = [{"max_memory_mb": amount} for amount in (12, 12.0)]
    one, other = (parse_requirements({**LEAST, "constraints": limit}) for limit in limits)
    assert one.hash == other.hash


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input_shape": []}, r"`input_shape` is \[\]: tuple should have at least 1 item"),
        ({"input_shape": [8, 0]}, "`input_shape.1` is 0: input should be greater than or equal to 1"),
        ({"input_shape": [8, "64"]}, "`input_shape.1` is '64': input should be a valid integer"),
        ({"input_shape": [8, True]}, "`input_shape.1` is True: input should be a valid integer"),
        ({"output_shape": [1] * 13}, "at most 12 items"),
        ({"operation_type": "magic"}, "`operation_type` is 'magic': input should be 'any', 'attention'"),
        ({"optimization_target": "speed"}, "`optimization_target` is 'speed'"),
        ({"dtype": "i32"}, "`dtype` is 'i32'"),
        ({"existing_architecture": "resnet"}, "expected the 64 hexadecimal digits"),
        ({"existing_architecture": "0f" * 32 + "\n"}, "expected the 64 hexadecimal digits"),
        ({"constraints": [1]}, r"`constraints` is \[1\], expected a mapping"),
        ({"constraints": {"max_latency": 3}}, "did you mean `max_latency_ms`"),
        ({"constraints": {"max_latency_ms": 0}}, "`constraints.max_latency_ms` is 0: .* greater than 0"),
        ({"constraints": {"max_latency_ms": float("inf")}}, "finite number"),
        ({"constraints": {"max_memory_mb": float("nan")}}, "`constraints.max_memory_mb` is nan"),
        ({"constraints": {"max_memory_mb": True}}, "valid number"),
        ({"constraints": {"target_accuracy": 92.0}}, "`constraints.target_accuracy` is 92.0: .* 1"),
        ({"input_shap": [8, 64]}, "unknown key `input_shap`, did you mean `input_shape`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_what_was_found(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequirements, match=told):
        parse_requirements({**LEAST, **change})


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(InvalidRequirements) as caught:
        parse_requirements({"output_shape": [0], "dtype": "f8"})
    assert all(
        name in str(caught.value) for name in ("`input_shape` is missing", "output_shape.0", "`dtype`")
    )


def test_what_is_no_mapping_is_refused() -> None:
    given: Any = [1, 2]
    with pytest.raises(InvalidRequirements, match=r"the requirements are \[1, 2\], expected a mapping"):
        parse_requirements(given)


def test_hardware_without_figures_is_refused_with_what_there_is() -> None:
    with pytest.raises(UnknownTarget) as caught:
        parse_requirements({**LEAST, "hardware_target": "abacus"})
    assert all(name in caught.value.help_text for name in DEVICES)
    with pytest.raises(UnknownTarget):
        Requirements.model_validate({**LEAST, "hardware_target": "abacus"}).bounds()


def test_limits_become_constraints_and_latency_is_about_the_hardware() -> None:
    assert parse_requirements(FULL).bounds() == [
        Constraint("latency_ms", "<=", 0.5, "sm_90"),
        Constraint("memory_mb", "<=", 12.0),
    ]
    assert parse_requirements(LEAST).bounds() == []


def test_an_evaluator_holds_candidates_to_the_constraints(tmp_path: Path) -> None:
    path = tmp_path / "layer.esp"
    path.write_text(
        "blueprint layer(width: int = 8 in {8, 512}) {\n    input x: f32[N, 64]\n"
        "    output x |> linear(width) |> linear(64)\n}\n"
    )
    asked = parse_requirements({**LEAST, "constraints": {"max_memory_mb": 0.1, "max_latency_ms": 1}})
    evaluator = Evaluator(path, sizes={"N": 8}, constraints=asked.bounds())
    assert [evaluator({"width": width}).is_feasible for width in (8, 512)] == [True, False]


@pytest.mark.parametrize(
    ("dtype", "name"), [(torch.float32, "f32"), (torch.bfloat16, "bf16"), (torch.float16, "f16")]
)
def test_a_slot_asks_for_what_keeps_its_tensor(dtype: torch.dtype, name: str) -> None:
    probe = Probe((4, 16, 32), dtype, torch.device("cpu"))
    found = slot_requirements(probe, constraints={"max_memory_mb": 2})
    assert (found.input_shape, found.output_shape, found.dtype) == ((4, 16, 32), (4, 16, 32), name)
    assert found.constraints.max_memory_mb == 2.0


def test_a_slot_whose_tensor_no_blueprint_can_take_is_refused() -> None:
    with pytest.raises(InvalidRequirements, match="`dtype` is 'complex64'"):
        slot_requirements(Probe((4, 16), torch.complex64, torch.device("cpu")))
