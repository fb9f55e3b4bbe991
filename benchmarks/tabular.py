"""Trains every blueprint of a small space, three seeds each, and keeps what came of it as a table.

With the table a search is judged in milliseconds by what really happens: the space is `tabular.esp`, each
blueprint is built into a slot of the small `cnn` host and learns MNIST-1D together with it, and accuracy is
that on held-out data, which the search may look at. Test data is not touched.

Each training that ends is appended to a journal, so a run that is killed loses those under way and no
more. The journal's first line says what was run (the space's source, the settings, the versions of Esper and
torch); one of another run is refused. When all is done the table is written, with each blueprint's costs.

    python benchmarks/tabular.py --workers 2
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import itertools
import json
import multiprocessing
import os
import platform
import random
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import esper
from esper.simic.candidates import SlotTask
from esper.tezzeret.evaluator import Candidate, Evaluator
from esper.tezzeret.space import Point, Space

HERE = Path(__file__).parent
SPACE = HERE / "tabular.esp"
TABLE = HERE / "data" / "tabular_mnist1d.json"
JOURNAL = Path("runs/tabular_mnist1d.jsonl")
FIGURES = ("params", "flops", "latency", "memory")
"""Of one training step of the blueprint alone, as the cost model counts them."""
SCHEMA = 1


@dataclass(frozen=True)
class Settings:
    """How each blueprint is trained. Short on purpose: the best is then far from the task's ceiling."""

    task: str = "mnist1d"
    host: str = "cnn"
    slot: str = "blocks.0"
    data_seed: int = 0
    steps: int = 120
    batch_size: int = 100
    lr: float = 0.03
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def place(self) -> SlotTask:
        return SlotTask(self.task, self.host, self.slot, self.data_seed, self.lr, self.batch_size)


@dataclass(frozen=True)
class Trial:
    """One training that ended. seconds: of a processor."""

    ir_hash: str
    seed: int
    accuracy: float
    seconds: float


Job = tuple[Point, str, int]
"""A point, its graph's hash, and the seed."""


class Benchmark:
    """A space in a file, and how its blueprints are trained."""

    def __init__(self, source: Path, settings: Settings) -> None:
        self.source = source
        self.settings = settings

    @cached_property
    def evaluator(self) -> Evaluator:
        fixed, sizes = self.settings.place.fitted(self.source)
        return Evaluator(self.source, fixed=fixed, sizes=sizes)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """All blueprints of the space. Ends the program if two are one graph: the table has each once."""
        found = [self.evaluator(point) for point in self.evaluator.space.points()]
        if len({one.ir_hash for one in found}) < len(found):
            raise SystemExit(f"{self.source}: two points of the space are one graph")
        return found

    @property
    def asked(self) -> dict[str, Any]:
        """What a journal or a table is an answer to."""
        source = self.source.read_bytes()
        return {
            "space": hashlib.sha256(source).hexdigest(),
            "settings": {**asdict(self.settings), "seeds": list(self.settings.seeds)},
            "esper": esper.__version__,
            "torch": torch.__version__,
        }

    def jobs(self, done: Sequence[Trial]) -> list[Job]:
        """What is left, all blueprints with one seed before any with the next."""
        ended = {(trial.ir_hash, trial.seed) for trial in done}
        return [
            (one.values, one.ir_hash, seed)
            for seed in self.settings.seeds
            for one in self.candidates
            if (one.ir_hash, seed) not in ended
        ]


class Journal:
    """A file of one JSON text a line: what was asked, then the trials in the order in which they ended."""

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path = path
        self.asked = json.loads(json.dumps(asked))

    def read(self) -> list[Trial]:
        """The trials that ended. Ends the program if the journal is of something else."""
        lines = self._whole_lines()
        if not lines:
            return []
        if json.loads(lines[0]) != self.asked:
            raise SystemExit(f"{self.path} is the journal of another run: move it away, or undo what changed")
        return [Trial(**json.loads(line)) for line in lines[1:]]

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """The file, to append lines to; a line that a kill cut short is taken off first.

        Ends the program if another process is writing.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SystemExit(f"{self.path}: another process is writing it") from None
            lines = self._whole_lines()
            file.truncate(sum(len(line) + 1 for line in lines))
            if not lines:
                append(file, self.asked)
            yield file

    def _whole_lines(self) -> list[bytes]:
        text = self.path.read_bytes() if self.path.exists() else b""
        return text.split(b"\n")[:-1]


def append(file: Any, record: Mapping[str, Any]) -> None:
    """One line, handed to the system whole."""
    file.write(json.dumps(record).encode() + b"\n")
    file.flush()


@cache
def benchmark_of(source: Path, settings: Settings) -> Benchmark:
    """The benchmark in a worker process: what it has prepared serves all its jobs."""
    return Benchmark(source, settings)


@cache
def place_of(settings: Settings) -> SlotTask:
    return settings.place


def trained(source: Path, settings: Settings, job: Job) -> Trial:
    """Done in a worker process."""
    point, ir_hash, seed = job
    start = time.process_time()
    graph = benchmark_of(source, settings).evaluator.lower(point)
    found = place_of(settings).accuracy(graph, settings.steps, seed)
    return Trial(ir_hash, seed, found.accuracy, round(time.process_time() - start, 3))


def run(
    benchmark: Benchmark, journal: Journal, pool: Executor, width: int, limit: int | None = None
) -> list[Trial]:
    """Does what is left, `limit` of it at most and `width` at a time, and returns all trials that ended."""
    with journal.writing() as file:
        done = journal.read()
        left = iter(benchmark.jobs(done)[:limit])
        waiting: set[Future[Trial]] = set()
        try:
            while True:
                for job in itertools.islice(left, width - len(waiting)):
                    waiting.add(pool.submit(trained, benchmark.source, benchmark.settings, job))
                if not waiting:
                    return done
                ended, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ended:
                    append(file, asdict(future.result()))
                    done.append(future.result())
                    if len(done) % 50 == 0:
                        print(f"{len(done)} trainings done", file=sys.stderr, flush=True)
        finally:
            for future in waiting:
                future.cancel()


@dataclass(frozen=True)
class Table:
    """Every blueprint of a space: `points[i]` with its hash, costs and accuracies.

    costs: one row for each of `FIGURES`. accuracy: float [points, seeds], shares of held-out examples.
    """

    asked: Mapping[str, Any]
    machine: str
    points: list[Point]
    hashes: list[str]
    costs: Mapping[str, NDArray[np.float64]]
    accuracy: NDArray[np.float64]
    seconds: float

    @property
    def mean(self) -> NDArray[np.float64]:
        """The accuracy of each blueprint over its seeds."""
        found: NDArray[np.float64] = self.accuracy.mean(axis=1)
        return found

    @property
    def standard_error(self) -> float:
        """Of a blueprint's mean accuracy: the deviation between seeds, pooled over all blueprints, by √seeds.

        Three seeds alone say too little of one blueprint's own.
        """
        seeds = self.accuracy.shape[1]
        return float(np.sqrt(self.accuracy.var(axis=1, ddof=1).mean() / seeds))

    @property
    def good(self) -> NDArray[np.bool_]:
        """Which blueprints are within one standard error of the best mean."""
        found: NDArray[np.bool_] = self.mean >= self.mean.max() - self.standard_error
        return found


def table_of(benchmark: Benchmark, trials: Sequence[Trial]) -> Table:
    """All trials as a table. Ends the program if some are missing."""
    found = {(trial.ir_hash, trial.seed): trial.accuracy for trial in trials}
    settings, candidates = benchmark.settings, benchmark.candidates
    missing = len(candidates) * len(settings.seeds) - len(found)
    if missing:
        raise SystemExit(f"{missing} trainings are missing: run again, without --limit")
    return Table(
        asked=benchmark.asked,
        machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        points=[one.values for one in candidates],
        hashes=[one.ir_hash for one in candidates],
        costs={f: np.array([getattr(one.figures, f) for one in candidates], float) for f in FIGURES},
        accuracy=np.array([[found[one.ir_hash, seed] for seed in settings.seeds] for one in candidates]),
        seconds=sum(trial.seconds for trial in trials),
    )


def write_table(table: Table, path: Path) -> None:
    """One row a line: the point's values, the hash, the costs, the accuracies."""
    parameters = list(table.points[0])
    head = {
        "schema_version": SCHEMA,
        **table.asked,
        "machine": table.machine,
        "processor_seconds": round(table.seconds),
        "columns": [*parameters, "ir_hash", *FIGURES, "accuracy"],
    }
    rows = []
    for index, point in enumerate(table.points):
        costs = [_plain(table.costs[figure][index]) for figure in FIGURES]
        accuracy = [round(float(one), 6) for one in table.accuracy[index]]
        row = [*point.values(), table.hashes[index], *costs, accuracy]
        rows.append(json.dumps(row, separators=(",", ":")))
    text = json.dumps(head, indent=1)[:-2] + ',\n "rows": [\n' + ",\n".join(rows) + "\n]}\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _plain(figure: float) -> float | int:
    return int(figure) if figure.is_integer() else float(figure)


def read_table(path: Path = TABLE) -> Table:
    """What `write_table` wrote. Ends the program if there is none."""
    if not path.exists():
        raise SystemExit(f"no table in {path}: benchmarks/tabular.py makes it")
    found = json.loads(path.read_text(encoding="utf-8"))
    columns, rows = found["columns"], found["rows"]
    place = columns.index("ir_hash")
    costs = np.array([row[place + 1 : place + 1 + len(FIGURES)] for row in rows], float).T
    return Table(
        asked={key: found[key] for key in ("space", "settings", "esper", "torch")},
        machine=found["machine"],
        points=[dict(zip(columns[:place], row[:place], strict=True)) for row in rows],
        hashes=[row[place] for row in rows],
        costs=dict(zip(FIGURES, costs, strict=True)),
        accuracy=np.array([row[-1] for row in rows], float),
        seconds=found["processor_seconds"],
    )


def space_of(settings: Settings, source: Path = SPACE) -> Space:
    """The space whose points the table has."""
    return Benchmark(source, settings).evaluator.space


def look(benchmark: Benchmark, count: int) -> None:
    """Trains `count` random blueprints and prints how they differ: for choosing space and settings."""
    chosen = random.Random(0).sample(benchmark.candidates, count)
    rows = []
    for one in chosen:
        trials = [
            trained(benchmark.source, benchmark.settings, (one.values, one.ir_hash, seed))
            for seed in benchmark.settings.seeds
        ]
        accuracy = [trial.accuracy for trial in trials]
        rows.append(accuracy)
        seconds = sum(trial.seconds for trial in trials) / len(trials)
        print(f"{np.mean(accuracy):.4f} ± {np.std(accuracy, ddof=1):.4f}, {seconds:.2f} s, {one.values}")
    table = np.array(rows)
    error = np.sqrt(table.var(axis=1, ddof=1).mean() / table.shape[1])
    print(f"deviation of the means {table.mean(axis=1).std(ddof=1):.4f}, standard error {error:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--limit", type=int, help="trainings of this run at most; the table is left as it is")
    parser.add_argument("--look", type=int, help="train so many random blueprints, print, and keep nothing")
    asked = parser.parse_args()
    benchmark = Benchmark(SPACE, Settings())
    torch.set_num_threads(1)
    if asked.look is not None:
        look(benchmark, asked.look)
        return
    journal = Journal(asked.journal, benchmark.asked)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(asked.workers, context, torch.set_num_threads, (1,)) as pool:
        trials = run(benchmark, journal, pool, asked.workers + 1, asked.limit)
    if asked.limit is None:
        write_table(table_of(benchmark, trials), TABLE)


if __name__ == "__main__":
    main()
