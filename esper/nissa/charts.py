"""The report's pictures: curves with the seeds' lives drawn on them, the lives alone, alpha, the gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from esper.leyline.stages import SeedStage
from esper.nissa.history import RunHistory, SeedLife, StageSpan
from esper.nissa.svg import (
    Frame,
    Series,
    line,
    padded,
    rectangle,
    rule,
    text,
    ticks,
    x_axis,
    y_axis,
)

SERIES_CLASSES = ("c1", "c2", "c3", "c4", "c5", "c6")
SHOWN_STAGES = (
    SeedStage.GERMINATED,
    SeedStage.TRAINING,
    SeedStage.BLENDING,
    SeedStage.SHADOWING,
    SeedStage.PROBATIONARY,
    SeedStage.FOSSILIZED,
    SeedStage.EMBARGOED,
)
IN_PLACE = (SeedStage.BLENDING, SeedStage.SHADOWING, SeedStage.PROBATIONARY)


def accuracy_chart(history: RunHistory) -> str:
    """Held-out and test accuracy over epochs; shaded while a seed is in place and undecided."""
    held_out = tuple((float(e.epoch), e.held_out_accuracy) for e in history.epochs)
    test = tuple((float(e.epoch), e.test_accuracy) for e in history.epochs)
    series = (
        Series("held-out accuracy", held_out, "c1"),
        Series("test accuracy", test, "c2", dashed=True),
    )
    return _curves(history, series, "accuracy over epochs", percent=True)


def loss_chart(history: RunHistory) -> str:
    """Training and held-out loss over epochs, shaded likewise."""
    held_out = tuple((float(e.epoch), e.held_out_loss) for e in history.epochs)
    train = tuple((float(e.epoch), e.train_loss) for e in history.epochs)
    series = (
        Series("held-out loss", held_out, "c1"),
        Series("training loss", train, "c3", dashed=True),
    )
    return _curves(history, series, "loss over epochs", notes_on_top=True)


def alpha_chart(history: RunHistory) -> str:
    """Each slot's alpha at the end of each epoch."""
    series = [
        Series(
            name,
            tuple(_alphas(history, name)),
            SERIES_CLASSES[index % len(SERIES_CLASSES)],
            index % 2 == 1,
        )
        for index, name in enumerate(_slots(history))
    ]
    frame = Frame(_epochs(history), (-0.04, 1.04), height=150, left=_left(history))
    body = [
        y_axis(frame),
        x_axis(frame, "epoch"),
        *(line(entry, frame) for entry in series),
    ]
    return legend(series) + frame.wrap(body, "alpha of each slot over epochs")


def lifecycle_chart(history: RunHistory) -> str:
    """One row for each slot: the stages of its seeds as segments, named where there is room."""
    slots = history.started.slots if history.started else sorted({seed.slot for seed in history.seeds})
    row, gap = 34, 10
    height = len(slots) * (row + gap) + 34
    longest = max((len(slot) for slot in slots), default=6)
    frame = Frame(
        _epochs(history),
        (0.0, 1.0),
        height=height,
        left=max(56, 16 + 8 * longest),
        top=4,
    )
    body = [x_axis(frame, "epoch")]
    for index, slot in enumerate(slots):
        top = frame.top + index * (row + gap)
        body.append(text(frame.left - 8, top + row / 2 + 4, slot, "rowname", "end"))
        body.append(
            rectangle(
                frame.left,
                top,
                frame.width - frame.left - frame.right,
                row,
                "stage-dormant",
            )
        )
        for seed in history.seeds:
            if seed.slot == slot:
                body.extend(_segments(history, seed, frame, top, row))
    return frame.wrap(body, "the stages of each slot over epochs") + stage_legend()


def gain_chart(seeds: Sequence[SeedLife], threshold: float = 0.01) -> str:
    """Each fossilized seed's gain over its control, if measured, with two standard errors either way."""
    kept = [
        (seed, event.improvement, event.standard_error)
        for seed in seeds
        if (event := seed.fossilized) is not None
        and event.improvement is not None
        and event.standard_error is not None
    ]
    reach = [gain + sign * 2 * error for _, gain, error in kept for sign in (-1, 1)]
    row = 34
    frame = Frame(
        padded([0.0, *reach], 0.08),
        (0, 1),
        height=len(kept) * row + 48,
        left=190,
        top=6,
    )
    bottom = frame.floor
    body = [rule(frame.x(0.0), frame.top, frame.x(0.0), bottom, "axis")]
    body.append(rule(frame.x(threshold), frame.top, frame.x(threshold), bottom, "threshold"))
    for index, (seed, gain, error) in enumerate(kept):
        middle = frame.top + index * row + row / 2
        low, high = frame.x(gain - 2 * error), frame.x(gain + 2 * error)
        body.append(
            text(
                frame.left - 12,
                middle + 4,
                f"{seed.blueprint_id} in {seed.slot}",
                "rowname",
                "end",
            )
        )
        body.append(rule(low, middle, high, middle, "whisker"))
        body.append(f'<circle class="dot c1" cx="{frame.x(gain)}" cy="{middle}" r="5"/>')
    body.extend(
        text(frame.x(value), bottom + 18, f"{100 * value:g} %", "tick", "middle")
        for value in ticks(*frame.x_range, count=6)
    )
    return frame.wrap(body, "gain of each seed over its control, with two standard errors")


def legend(series: Sequence[Series]) -> str:
    """Colour, dash and name of each line, as HTML above its picture."""
    keys = "".join(
        f'<span class="key"><i class="{s.css}{" dashed" if s.dashed else ""}"></i>{escape(s.name)}</span>'
        for s in series
    )
    return f'<p class="legend">{keys}</p>'


def stage_legend() -> str:
    """The stages in order, each with its colour, as HTML below the picture of lives."""
    keys = (
        f'<span class="key"><b class="{stage.name.lower()}"></b>{stage.name.capitalize()}</span>'
        for stage in SHOWN_STAGES
    )
    return f'<p class="legend">{"".join(keys)}</p>'


def _curves(
    history: RunHistory,
    series: Sequence[Series],
    label: str,
    percent: bool = False,
    notes_on_top: bool = False,
) -> str:
    values = [y for entry in series for _, y in entry.points]
    frame = Frame(_epochs(history), padded(values), left=_left(history))
    notes = frame.top + 14 if notes_on_top else frame.floor - 8
    body = [*_shades(history, frame), y_axis(frame, percent), x_axis(frame, "epoch")]
    body.extend(line(entry, frame) for entry in series)
    body.extend(_verdicts(history, frame, notes))
    return legend(series) + frame.wrap(body, label)


def _shades(history: RunHistory, frame: Frame) -> Iterator[str]:
    for seed in history.seeds:
        for span in seed.spans:
            if span.stage in IN_PLACE or span.stage is SeedStage.TRAINING:
                left, right = frame.x(span.start), frame.x(_end(span, history))
                kind = "shade-place" if span.stage in IN_PLACE else "shade-train"
                title = f"{seed.blueprint_id} in {seed.slot}: {span.stage.name}"
                yield rectangle(left, frame.top, right - left, frame.floor - frame.top, kind, title)


def _verdicts(history: RunHistory, frame: Frame, height: float) -> Iterator[str]:
    for seed in history.seeds:
        event = seed.fossilized or seed.culled
        if event is None:
            continue
        x = frame.x(event.epoch)
        word, css = ("fossilized", "kept") if seed.fossilized else ("culled", "gone")
        near_the_end = x > frame.width - 160
        yield rule(x, frame.top, x, frame.floor, f"verdict {css}")
        label = f"{seed.blueprint_id} {word}"
        side = -6 if near_the_end else 6
        yield text(
            x + side,
            height,
            label,
            f"note {css}",
            "end" if near_the_end else "start",
        )


def _segments(history: RunHistory, seed: SeedLife, frame: Frame, top: float, row: float) -> Iterator[str]:
    for span in seed.spans:
        if span.stage not in SHOWN_STAGES:
            continue
        end = _end(span, history)
        left, right = frame.x(span.start), frame.x(end)
        title = f"{seed.blueprint_id}, {span.stage.name}, epochs {span.start} to {end}"
        yield rectangle(
            left,
            top,
            right - left,
            row,
            f"stage stage-{span.stage.name.lower()}",
            title,
        )
        if right - left > 8.2 * len(span.stage.name):
            name = span.stage.name.capitalize()
            yield text(
                (left + right) / 2,
                top + row / 2 + 4,
                name,
                f"on-{span.stage.name.lower()}",
                "middle",
            )


def _alphas(history: RunHistory, slot: str) -> Iterator[tuple[float, float]]:
    for step in history.steps:
        for entry in step.slots:
            if entry.get("slot") == slot:
                yield float(step.epoch), float(entry.get("alpha") or 0.0)


def _slots(history: RunHistory) -> list[str]:
    return history.started.slots if history.started else sorted({seed.slot for seed in history.seeds})


def _left(history: RunHistory) -> int:
    """One margin for all pictures with epochs below them, so that they line up: room for slots' names."""
    return max(72, 16 + 8 * max((len(slot) for slot in _slots(history)), default=0))


def _epochs(history: RunHistory) -> tuple[float, float]:
    planned = history.started.epochs if history.started else 1
    return 0.0, float(max(planned, history.last_epoch, 1))


def _end(span: StageSpan, history: RunHistory) -> int:
    return history.last_epoch if span.end is None else span.end
