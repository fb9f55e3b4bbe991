"""What `esper study` shows while it runs: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from esper.errors import MissingPackage

try:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
except ImportError as error:
    raise MissingPackage(package="rich", purpose="`esper study`", extra="growth") from error

LINES = 10
"""Lines for each phase where there is no terminal."""


@contextmanager
def watching(quiet: bool) -> Iterator[Callable[[str, int, int], None]]:
    """A function that shows how many of a phase's jobs are done, on stderr."""
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    if not console.is_terminal:

        def tell(phase: str, done: int, all: int) -> None:
            if done * LINES // all != (done - 1) * LINES // all:
                console.print(f"{phase}: {done} of {all}", markup=False)

        yield tell
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        rows: dict[str, TaskID] = {}

        def advance(phase: str, done: int, all: int) -> None:
            if phase not in rows:
                rows[phase] = bar.add_task(phase, total=all)
            bar.update(rows[phase], completed=done)

        yield advance
