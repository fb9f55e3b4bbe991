"""The generator of sources makes valid ones of every form, and shrinks to the smallest."""

from __future__ import annotations

from typing import Any

from hypothesis import find, given

from esper.lang import Report, Source
from esper.lang.elaborate import elaborate
from esper.lang.settings import Settings
from esper.lang.units import source_unit
from esper.testing import esp_programs


def _errors(text: str, **settings: Any) -> tuple[list[str], str | None]:
    unit, parsed = source_unit(Source("<source>", text))
    assert not parsed.diagnostics
    report = Report("<source>")
    ir = elaborate(unit, unit.program.blueprints[0], Settings(**settings), report).ir
    return [str(found) for found in report.diagnostics if found.is_error], None if ir is None else ir.hash


@given(esp_programs())
def test_each_source_checks_with_its_dims_as_symbols(text: str) -> None:
    assert _errors(text, symbolic=True)[0] == []


@given(esp_programs())
def test_each_source_lowers_to_the_same_graph_each_time(text: str) -> None:
    errors, hash = _errors(text)
    assert errors == [] and hash is not None
    assert _errors(text) == ([], hash)


def test_the_smallest_source_has_one_parameter_and_no_step() -> None:
    smallest = find(esp_programs(), lambda text: True)
    assert smallest == (
        "blueprint drawn(width: dim = 1) {\n    input x: f32[N, ...S, width]\n    h = x\n    output h\n}\n"
    )


def test_maps_and_every_parameter_are_drawn() -> None:
    assert find(
        esp_programs(), lambda text: all(word in text for word in ("conv(", "hidden", "act: op", "rate"))
    )
