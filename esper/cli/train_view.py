"""What `esper train` shows: progress on a terminal, a line for each event elsewhere, the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from esper.errors import MissingPackage
from esper.leyline.stages import SeedStage
from esper.nissa.console import ConsoleBackend
from esper.nissa.tables import MISSING, percent

try:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table
except ImportError as error:
    raise MissingPackage(package="rich", purpose="`esper train`", extra="growth") from error

if TYPE_CHECKING:
    from esper.leyline.protocols import OutputBackend
    from esper.leyline.run_events import EpochFinished
    from esper.nissa.history import RunHistory, SeedLife
    from esper.simic.run import FinishedRun

JSON_SCHEMA_VERSION = 1
FILE_WIDTH = 110
"""Of the summary where it does not go to a terminal."""


@contextmanager
def watching(
    epochs: int, quiet: bool, verbose: bool
) -> Iterator[tuple[list[OutputBackend], Callable[[EpochFinished], None]]]:
    """Backends and a progress function for a run: a bar on a terminal, events' lines on stderr."""
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    if not console.is_terminal:
        yield [ConsoleBackend(_plain(console), verbose)], lambda epoch: None
        return
    columns = (
        TextColumn("epoch {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=32),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("epochs", total=epochs, figures="")

        def advance(epoch: EpochFinished) -> None:
            figures = f"loss {epoch.held_out_loss:.3f}  accuracy {percent(epoch.held_out_accuracy)}"
            bar.update(task, completed=epoch.epoch, figures=figures)

        yield [ConsoleBackend(_plain(console), verbose)], advance


def print_summary(run: FinishedRun) -> None:
    """The seeds in a table, then the run's figures, on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    history = run.history
    if history.seeds:
        for seed in history.seeds:
            path = ", ".join(stage.name for stage in seed.stages)
            console.print(f"{seed.blueprint_id} in {seed.slot}: {path}", markup=False)
        console.print()
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("seed", "slot", "held-out accuracy", "control → grown", "gain ± error"):
            table.add_column(name, no_wrap=True)
        for seed in history.seeds:
            table.add_row(*_seed_row(history, seed))
        console.print(table)
        console.print()
    result = run.result
    grown = f", {result.grown_params:,} grown" if result.grown_params else ""
    console.print(f"held-out accuracy  {percent(result.held_out.accuracy)}  loss {result.held_out.loss:.4f}")
    console.print(f"test accuracy      {percent(result.test.accuracy)}  loss {result.test.loss:.4f}")
    console.print(f"parameters         {result.host_params + result.grown_params:,}{grown}")
    console.print(f"events             {run.directory.events}")
    console.print(f"report             {run.directory.report}")


def summary_json(run: FinishedRun) -> dict[str, Any]:
    """The same as one document."""
    result, history = run.result, run.history
    return {
        "schema_version": JSON_SCHEMA_VERSION,
        "run_id": run.directory.run_id,
        "run": str(run.directory.path),
        "events": str(run.directory.events),
        "report": str(run.directory.report),
        "epochs": result.epochs,
        "metrics": {
            "held_out_loss": result.held_out.loss,
            "held_out_accuracy": result.held_out.accuracy,
            "test_loss": result.test.loss,
            "test_accuracy": result.test.accuracy,
            "host_params": result.host_params,
            "grown_params": result.grown_params,
        },
        "slots": [{"slot": name, "stage": stage.name} for name, stage in result.slots.items()],
        "seeds": [_seed_json(history, seed) for seed in history.seeds],
        "interrupted": result.interrupted is not None,
    }


def _plain(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, markup=False)


def _seed_row(history: RunHistory, seed: SeedLife) -> tuple[str, ...]:
    before = history.accuracy_at(seed, SeedStage.BLENDING)
    after = history.accuracy_at(seed, SeedStage.FOSSILIZED)
    change = MISSING if before is None or after is None else f"{100 * before:.1f} → {percent(after)}"
    kept = seed.fossilized
    if kept is None:
        verdict = "culled" if seed.culled is not None else "undecided"
        return seed.blueprint_id, seed.slot, change, MISSING, verdict
    losses = f"{kept.control_loss:.4f} → {kept.grown_loss:.4f}"
    gain = f"{percent(kept.improvement)} ± {percent(kept.standard_error)}"
    return seed.blueprint_id, seed.slot, change, losses, gain


def _seed_json(history: RunHistory, seed: SeedLife) -> dict[str, Any]:
    before = history.accuracy_at(seed, SeedStage.BLENDING)
    after = history.accuracy_at(seed, SeedStage.FOSSILIZED)
    kept = seed.fossilized
    return {
        "seed_id": seed.seed_id,
        "blueprint_id": seed.blueprint_id,
        "slot": seed.slot,
        "params": seed.params,
        "stages": [stage.name for stage in seed.stages],
        "accuracy_before": before,
        "accuracy_after": after,
        "gain": None if kept is None else kept.improvement,
        "standard_error": None if kept is None else kept.standard_error,
        "grown_loss": None if kept is None else kept.grown_loss,
        "control_loss": None if kept is None else kept.control_loss,
    }
