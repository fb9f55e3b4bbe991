"""The report: one file, nothing loaded, everything escaped, from any prefix of a stream."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esper.files import FileUnwritable
from esper.leyline.events import Event, GateEvaluated, SeedEvent, SeedFossilized
from esper.leyline.run_events import RunStarted
from esper.nissa.console import describe
from esper.nissa.history import history_of
from esper.nissa.narrative import narrative
from esper.nissa.report import KernelTable, render_report, write_report
from esper.nissa.svg import ticks

HOSTILE = "<script>alert(1)</script>&\"'"
KERNEL = {"name": "pointwise_0", "direction": "forward", "target": "sm_90", "registers": 24, "spill_bytes": 0}


def render(events: Sequence[Event], kernels: Sequence[KernelTable] = ()) -> str:
    return render_report(history_of(events), "r1", {"torch": "2.13.0"}, kernels)


def test_report_loads_nothing_and_runs_nothing(story: list[Event]) -> None:
    document = render(story)
    assert not re.search(r"(src|href)=|@import|url\(|<script", document)
    assert len(document) < 100_000


def test_pictures_are_well_formed(story: list[Event]) -> None:
    pictures = re.findall(r"<svg.*?</svg>", render(story), flags=re.S)
    assert len(pictures) == 5
    for picture in pictures:
        ElementTree.fromstring(picture)


def test_names_from_the_stream_are_escaped(story: list[Event]) -> None:
    hostile = [
        dataclasses.replace(event, blueprint_id=HOSTILE, slot=HOSTILE)
        if isinstance(event, SeedEvent)
        else dataclasses.replace(event, host=HOSTILE, slots=[HOSTILE])
        if isinstance(event, RunStarted)
        else event
        for event in story
    ]
    document = render(hostile, [KernelTable(HOSTILE, [{"name": HOSTILE, "target": HOSTILE}])])
    assert "<script" not in document


def test_every_prefix_of_a_stream_has_a_report(story: list[Event]) -> None:
    for length in range(0, len(story), 7):
        assert "</html>" in render(story[:length])


def test_kernel_rows_are_shown_as_given(story: list[Event]) -> None:
    document = render(story, [KernelTable("norm, features = 8", [KERNEL])])
    assert "pointwise_0" in document
    assert "sm_90" in document


def test_narrative_tells_the_run_in_words(story: list[Event], golden: Callable[[str, str], None]) -> None:
    golden("narrative.txt", "\n\n".join(narrative(history_of(story))) + "\n")


def test_console_tells_each_event_in_a_line(story: list[Event], golden: Callable[[str, str], None]) -> None:
    lines = [f"{event.epoch:>3} {line}" for event in story if (line := describe(event, verbose=True))]
    golden("console.txt", "\n".join(lines) + "\n")


def test_a_seed_kept_by_permissive_gates_is_told_as_unmeasured(story: list[Event]) -> None:
    unmeasured: dict[str, Any] = dict.fromkeys(
        ("improvement", "standard_error", "grown_loss", "control_loss")
    )
    events = [
        dataclasses.replace(event, passed=False, waived=True, failures=["gain is not measured"])
        if isinstance(event, GateEvaluated) and event.level == "G5"
        else dataclasses.replace(event, **unmeasured)
        if isinstance(event, SeedFossilized)
        else event
        for event in story
    ]
    document = render(events)
    assert "waived" in document
    assert "its gain over a control not measured" in "".join(narrative(history_of(events)))
    lines = [line for event in events if (line := describe(event, verbose=True)) is not None]
    assert any("FOSSILIZED" in line and "its gain not measured" in line for line in lines)
    assert any("waived: gain is not measured" in line for line in lines)


def test_unwritable_report_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(FileUnwritable):
        write_report(tmp_path / "none" / "x.html", "text")
    (tmp_path / "taken").mkdir()
    with pytest.raises(FileUnwritable):
        write_report(tmp_path / "taken", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    found = ticks(low, low + width)
    assert len(found) <= 7
    assert all(low - 1e-6 * width - 1e-9 <= value <= low + width + 1e-6 * width + 1e-9 for value in found)
