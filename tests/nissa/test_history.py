"""The order that a stream's events are put in, and what is counted from it."""

from collections.abc import Callable
from itertools import pairwise

from esper.leyline.events import Event, SeedGerminated
from esper.leyline.stages import SeedStage
from esper.nissa.analytics import blueprint_records, scoreboard
from esper.nissa.history import history_of
from esper.nissa.status import run_status, status_text
from esper.nissa.stream import Recorded


def test_seed_that_is_kept_has_gone_through_every_stage(story: list[Event]) -> None:
    kept = history_of(story).seeds[0]
    assert kept.stages == tuple(SeedStage(number) for number in range(2, 8))
    assert kept.entered(SeedStage.BLENDING) == 8
    assert kept.is_decided


def test_span_ends_where_the_next_begins(story: list[Event]) -> None:
    spans = history_of(story).seeds[0].spans
    assert all(a.end == b.start for a, b in pairwise(spans))
    assert spans[-1].end is None


def test_accuracy_change_is_from_before_blending_to_fossilization(story: list[Event]) -> None:
    history = history_of(story)
    before, after = history.epoch(8), history.epoch(17)
    assert before is not None
    assert after is not None
    change = history.accuracy_change(history.seeds[0])
    assert change == after.held_out_accuracy - before.held_out_accuracy
    assert history.accuracy_change(history.seeds[1]) is None


def test_records_count_each_blueprint(story: list[Event]) -> None:
    first, second = blueprint_records(history_of(story))
    assert (first.blueprint_id, first.fossilized, first.fossilization_rate, first.mean_gain) == (
        "conv_enhance",
        1,
        1.0,
        0.31,
    )
    assert (second.blueprint_id, second.culled, second.fossilization_rate, second.mean_gain) == (
        "depthwise",
        1,
        0.0,
        None,
    )


def test_seed_under_way_counts_for_no_rate(story: list[Event]) -> None:
    open_run = [event for event in story if event.epoch < 15]
    (record,) = blueprint_records(history_of(open_run))
    assert record.under_way == 1
    assert record.fossilization_rate is None


def test_scoreboard_sums_what_growth_added_and_cost(story: list[Event]) -> None:
    board = scoreboard(history_of(story))
    assert (board.germinated, board.fossilized, board.culled) == (2, 1, 1)
    assert board.params_added == 408
    assert board.params_share == 408 / 338
    assert (board.control_passes, board.incubation_passes) == (360, 360)


def test_status_tells_slots_stages_and_tiers(story: list[Event]) -> None:
    status = run_status([Recorded(i, 0.0, "r1", event) for i, event in enumerate(story)])
    assert status.state == "finished"
    assert [(s.slot, s.stage, s.tier) for s in status.slots] == [
        ("blocks.0", "FOSSILIZED", "torch"),
        ("blocks.1", "EMBARGOED", None),
    ]
    assert "CULLED" in "".join(status.last_events)


def test_status_of_an_empty_stream_is_a_run_that_has_not_begun() -> None:
    status = run_status([])
    assert (status.state, status.epoch, status.slots) == ("running", 0, ())


def test_status_in_text_is_aligned(story: list[Event], golden: Callable[[str, str], None]) -> None:
    stream = [Recorded(i, 0.0, "r1", event) for i, event in enumerate(story)]
    golden("status.txt", status_text(run_status(stream, last=4)) + "\n")


def test_seed_whose_stages_are_not_told_yet_has_none(story: list[Event]) -> None:
    planted = [event for event in story if isinstance(event, SeedGerminated)]
    assert [seed.spans for seed in history_of(planted).seeds] == [(), ()]


def test_cooling_down_is_the_slots_and_not_the_seeds(story: list[Event]) -> None:
    gone = history_of(story).seeds[1]
    assert gone.stages[-1] is SeedStage.CULLED
    assert gone.spans[-1].stage is SeedStage.EMBARGOED
