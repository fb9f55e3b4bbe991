"""The HTML report of a run: one file that opens without a network, rendered from the stream alone.

Kernel tables come from whoever compiled: the renderer takes rows and knows no compiler.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from esper.files import write_whole
from esper.leyline.events import GateEvaluated
from esper.leyline.stages import SeedStage
from esper.nissa.analytics import blueprint_records, scoreboard
from esper.nissa.charts import (
    accuracy_chart,
    alpha_chart,
    gain_chart,
    lifecycle_chart,
    loss_chart,
)
from esper.nissa.history import RunHistory
from esper.nissa.narrative import narrative
from esper.nissa.page import page, section
from esper.nissa.tables import (
    MISSING,
    Cell,
    KeyFigure,
    key_figures,
    number,
    numeral,
    percent,
    points,
    table,
)


@dataclass(frozen=True)
class KernelTable:
    """The kernels of one compiled blueprint: a title, rows as in `esperc compile --json`, and a remark."""

    title: str
    rows: Sequence[Mapping[str, object]]
    remark: str = ""


KERNEL_COLUMNS = {
    "name": "kernel",
    "direction": "direction",
    "target": "target",
    "registers": "registers",
    "spill_bytes": "spilled, B",
    "shared_bytes": "shared, B",
    "matrix_instructions": "matrix",
    "bytes_moved": "moved, B",
    "bytes_minimum": "least, B",
}


def render_report(
    history: RunHistory,
    run_id: str,
    environment: Mapping[str, str],
    kernels: Sequence[KernelTable] = (),
) -> str:
    """The report as one HTML document."""
    run = history.started
    title = f"{run.host} on {run.task}" if run else "A run"
    subtitle = f"seed {run.seed}, policy {run.policy}, run {run_id}" if run else f"run {run_id}"
    facts = " · ".join(f"{escape(name)} {escape(value)}" for name, value in environment.items())
    return page(title, subtitle, _sections(history, kernels), f"<p>{facts}</p>")


def write_report(path: Path, document: str) -> None:
    """Writes `path`, whole or not at all. Raises `FileUnwritable`."""
    write_whole(path, document)


def _sections(history: RunHistory, kernels: Sequence[KernelTable]) -> Iterator[str]:
    yield key_figures(_figures(history))
    yield section("What happened", *(f"<p>{escape(told)}</p>" for told in narrative(history)))
    if history.epochs:
        shading = (
            '<p class="legend"><span class="key"><b class="train"></b>a seed trains in isolation</span>'
            '<span class="key"><b class="place"></b>a seed is in place, undecided</span></p>'
        )
        yield section("Accuracy", accuracy_chart(history), shading)
    yield section("Seeds", lifecycle_chart(history))
    if history.steps:
        yield section(
            "Alpha",
            alpha_chart(history),
            note="The seed's share at its slot: 0 is the host alone, 1 the seed.",
        )
    if history.epochs:
        yield section("Loss", loss_chart(history))
    if any(seed.fossilized for seed in history.seeds):
        yield _gain(history)
    if any(seed.gates for seed in history.seeds):
        yield _gates(history)
    if history.seeds:
        yield _scoreboard(history)
    if kernels:
        yield _kernels(history, kernels)


def _figures(history: RunHistory) -> Iterator[KeyFigure]:
    board = scoreboard(history)
    kept = next((seed for seed in history.seeds if seed.fossilized), None)
    if kept is not None and kept.fossilized is not None:
        before = history.accuracy_at(kept, SeedStage.BLENDING)
        after = history.accuracy_at(kept, SeedStage.FOSSILIZED)
        if before is not None and after is not None:
            change = f"{100 * before:.1f} → {percent(after)}"
            yield KeyFigure(
                "Held-out accuracy",
                change,
                f"before {kept.blueprint_id} was blended in, and when it was kept",
            )
        error = percent(kept.fossilized.standard_error)
        yield KeyFigure(
            "Gain over the control",
            percent(kept.fossilized.improvement),
            f"± {error} standard error",
        )
    if history.epochs:
        last = history.epochs[-1]
        yield KeyFigure("Test accuracy", percent(last.test_accuracy), f"after epoch {last.epoch}")
    seeds = f"{board.fossilized} of {board.germinated}"
    yield KeyFigure("Seeds kept", seeds, f"{board.culled} culled, {len(board.live)} under way")
    total = board.host_params + board.params_added
    yield KeyFigure(
        "Parameters",
        f"{total:,}",
        f"{board.host_params:,} the host's, {board.params_added:,} grown",
    )


def _gain(history: RunHistory) -> str:
    headings = [
        *(Cell("seed"), Cell("slot")),
        *(
            Cell(name, "number")
            for name in (
                "loss, grown",
                "loss, control",
                "gain",
                "standard error",
                "ratio",
            )
        ),
        Cell("control passes", "number"),
    ]
    kept = [(seed, seed.fossilized) for seed in history.seeds if seed.fossilized is not None]
    rows = [
        [
            *(Cell(seed.blueprint_id), Cell(seed.slot)),
            *(number(event.grown_loss, 4), number(event.control_loss, 4)),
            *(
                Cell(percent(event.improvement, 2), "number"),
                Cell(percent(event.standard_error, 2), "number"),
            ),
            number(
                event.improvement / event.standard_error
                if event.improvement is not None and event.standard_error
                else None,
                1,
            ),
            number(event.control_passes),
        ]
        for seed, event in kept
    ]
    note = (
        "The control is the same host, trained without the seed on the same batches since blending. "
        "Losses are paired, example by example, on data that is neither training nor test data. "
        "Whiskers reach two standard errors; the dashed line is the least gain for which a seed is kept."
    )
    return section(
        "Gain over the control",
        gain_chart(history.seeds),
        table(headings, rows),
        note=note,
    )


def _gates(history: RunHistory) -> str:
    headings = [
        Cell("seed"),
        Cell("gate"),
        Cell("epoch", "number"),
        Cell("verdict"),
        Cell("figures"),
    ]
    rows = [
        [
            Cell(f"{seed.blueprint_id} in {seed.slot}"),
            Cell(gate.level),
            number(gate.epoch),
            Cell("passed", "yes") if gate.passed else Cell("waived" if gate.waived else "refused", "no"),
            Cell(_gate_figures(gate), "wrap"),
        ]
        for seed in history.seeds
        for gate in seed.gates
    ]
    return section(
        "Gates",
        table(headings, rows),
        note="A figure that was not measured fails its gate.",
    )


def _gate_figures(gate: GateEvaluated) -> str:
    """What failed, or every figure; in a gate that passed, one that the stream has as null is infinite."""
    if gate.failures:
        return "; ".join(gate.failures)
    return ", ".join(
        f"{name.replace('_', ' ')} {'unbounded' if value is None else numeral(value)}"
        for name, value in gate.figures.items()
    )


def _scoreboard(history: RunHistory) -> str:
    numeric = (
        "planted",
        "kept",
        "culled",
        "kept of decided",
        "accuracy, points",
        "gain",
        "parameters",
    )
    headings = [Cell("blueprint"), *(Cell(name, "number") for name in numeric)]
    rows = [
        [
            Cell(r.blueprint_id),
            *(number(r.germinated), number(r.fossilized), number(r.culled)),
            Cell(percent(r.fossilization_rate, 0), "number"),
            Cell(points(r.mean_accuracy_change), "number"),
            Cell(percent(r.mean_gain), "number"),
            number(r.params),
        ]
        for r in blueprint_records(history)
    ]
    board = scoreboard(history)
    added = f"{board.params_added:,} parameters added, {percent(board.params_share, 0)} of the host's own."
    live = f" Under way: {', '.join(board.live)}." if board.live else ""
    return section("Blueprints", table(headings, rows), note=added + live)


def _kernels(history: RunHistory, kernels: Sequence[KernelTable]) -> str:
    headings = [
        Cell(name, "" if key in ("name", "direction", "target") else "number")
        for key, name in KERNEL_COLUMNS.items()
    ]
    parts = []
    for compiled in kernels:
        rows = [[_kernel_cell(key, row.get(key)) for key in KERNEL_COLUMNS] for row in compiled.rows]
        parts.append(f'<h3>{escape(compiled.title)}</h3><p class="quiet">{escape(compiled.remark)}</p>')
        parts.append(table(headings, rows) if rows else "")
    tiers = sorted({tier for entry in history.epochs for tier in entry.tiers.values()})
    ran = f" In this run the seeds ran on the {' and '.join(tiers)} tier." if tiers else ""
    note = f"What the compiler makes of the kept blueprints ahead of time.{ran}"
    return section("Kernels", *parts, note=note)


def _kernel_cell(key: str, value: object) -> Cell:
    if isinstance(value, bool) or value is None:
        return Cell(MISSING if value is None else ("yes" if value else "no"), "number")
    if isinstance(value, int | float):
        return number(value)
    return Cell(str(value), "" if key in ("name", "direction", "target") else "number")
