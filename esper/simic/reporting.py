"""The report of a run directory: its stream and its environment, with the kernels of what was kept."""

from __future__ import annotations

from pathlib import Path

from esper.nissa.history import history_of
from esper.nissa.report import render_report
from esper.nissa.stream import read_stream
from esper.simic.kernels import kernel_tables
from esper.simic.run_directory import environment_of


def run_report(run: Path) -> str:
    """The HTML document; of a run that came to its end, with kernels, which may have to be compiled.

    Raises `MissingStream`, `MalformedStream`.
    """
    stream = read_stream(run)
    history = history_of(recorded.event for recorded in stream)
    kernels = kernel_tables(history) if history.finished is not None else []
    run_id = stream[-1].run_id if stream else ""
    return render_report(history, run_id, environment_of(run), kernels)
