"""Events go to records and back; a malformed record is told apart."""

import json
from typing import Any

import pytest

from esper.leyline.errors import MalformedEvent, UnknownEventKind
from esper.leyline.events import EVENT_KINDS, SeedCulled, StageChanged, event_from_record

SEED: dict[str, Any] = {
    "epoch": 4,
    "step": 160,
    "slot": "body",
    "seed_id": "body-1",
    "blueprint_id": "norm",
    "params": 12,
}
CHANGED = StageChanged(**SEED, source="TRAINING", target="BLENDING", reason="gate G2 passed", alpha=0.0)


def test_a_record_is_json_and_reads_back_as_the_event() -> None:
    record = json.loads(json.dumps(CHANGED.to_record()))
    assert record["kind"] == "stage_changed"
    assert event_from_record(record) == CHANGED


def test_fields_of_the_streams_writer_are_left_alone() -> None:
    record = {"schema_version": 1, "run_id": "r", "seq": 7, "env_id": "mnist1d", **CHANGED.to_record()}
    assert event_from_record(record) == CHANGED


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(UnknownEventKind) as raised:
        event_from_record({"kind": "seed_exploded"})
    assert "seed_culled" in raised.value.help_text


def test_a_missing_field_is_named() -> None:
    record = CHANGED.to_record()
    del record["reason"]
    with pytest.raises(MalformedEvent, match="lacks `reason`"):
        event_from_record(record)


@pytest.mark.parametrize(("name", "value"), [("epoch", "4"), ("params", True), ("alpha", None), ("slot", 3)])
def test_a_field_of_another_type_is_named(name: str, value: object) -> None:
    with pytest.raises(MalformedEvent, match=f"`{name}`"):
        event_from_record({**CHANGED.to_record(), name: value})


def test_a_figure_that_may_be_unmeasured_may_be_null() -> None:
    culled = SeedCulled(
        **SEED,
        stage="PROBATIONARY",
        reason="no gain over the control",
        rolled_back=True,
        improvement=None,
        control_passes=90,
        incubation_passes=0,
    )
    assert event_from_record(culled.to_record()) == culled


def test_every_seed_event_carries_what_analytics_needs() -> None:
    for kind, event in EVENT_KINDS.items():
        if kind.startswith("seed_") or kind in ("stage_changed", "gate_evaluated"):
            assert {"slot", "seed_id", "blueprint_id", "params"} <= set(event.__dataclass_fields__), kind
        assert "env_id" not in event.__dataclass_fields__
