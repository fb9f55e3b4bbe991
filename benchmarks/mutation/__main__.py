"""Draws mutants of esper/passes and esper/ops and runs the tests that can see each.

    python -m benchmarks.mutation --count 60 --seed 0 --workers 2

Works on copies of the last commit under a temporary folder, one a worker; what is there already is not done
again, so a run that was stopped goes on where it was. A mutant is killed when a test fails or when the tests
take many times as long as they should. Survivors that cannot change any behaviour are named in
`equivalent.json`, each with its reason, and do not count.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmarks.mutation.mutants import Mutant, mutants
from benchmarks.mutation.selection import Recording

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MUTATED = ("esper/passes", "esper/ops")
SUITES = ("tests/ir", "tests/ops", "tests/passes", "tests/testing", "tests/lang")
BUDGET_S = 150.0  # of tests for one mutant
SLOWER = 4.0  # times its usual time, beside a minute, that a mutant's tests may take
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "benchmarks.mutation.profile",
          "--hypothesis-profile=mutation", "--durations=0")  # fmt: skip
TESTS_FAILED, INTERRUPTED, INTERNAL_ERROR, USAGE_ERROR = 1, 2, 3, 4


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: `killed`, `timeout` or `survived`; by which test; after how many seconds."""

    mutant: Mutant
    text: str  # of its line
    outcome: str
    by: str
    tests: int
    seconds: float

    @property
    def key(self) -> dict[str, str]:
        """What says in `equivalent.json` which mutant is meant, wherever its line stands."""
        found = self.mutant
        return {"file": found.file, "line": self.text, "before": found.before, "after": found.after}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutation", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=60, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="draw from the files whose path holds this")
    parser.add_argument("--fresh", action="store_true", help="run mutants again that have an outcome")
    arguments = parser.parse_args()
    commit = _git("rev-parse", "HEAD").decode().strip()
    folder = Path(tempfile.gettempdir()) / f"esper-mutation-{commit[:12]}"
    trees = [_tree(folder, commit, index) for index in range(arguments.workers)]
    recording = _record(folder, trees[0], arguments.workers)
    drawn = _draw(trees[0], arguments.count, arguments.seed, arguments.only)
    outcomes = run(drawn, trees, recording, folder / "outcomes.jsonl", arguments.fresh)
    if not arguments.only:
        _report(outcomes, commit, arguments.seed)


def run(
    drawn: list[Mutant], trees: list[Path], recording: Recording, log: Path, fresh: bool = False
) -> list[Outcome]:
    """The outcome of each mutant, in order; those in `log` are taken from it, the others are added to it."""
    known: dict[Mutant, Outcome] = {}
    if log.exists() and not fresh:
        for line in log.read_text(encoding="utf-8").splitlines():
            raw = json.loads(line)
            function = raw["mutant"].pop("function")
            mutant = Mutant(**raw.pop("mutant"), function=None if function is None else tuple(function))
            known[mutant] = Outcome(mutant, **raw)
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def judge(mutant: Mutant) -> Outcome:
        if mutant in known:
            return known[mutant]
        tree = free.get()
        try:
            outcome = _judge(mutant, tree, recording)
        finally:
            free.put(tree)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")
        print(f"{outcome.outcome:9} {outcome.seconds:6.1f} s  {mutant}", flush=True)
        return outcome

    with ThreadPoolExecutor(len(trees)) as pool:
        return list(pool.map(judge, drawn))


def _judge(mutant: Mutant, tree: Path, recording: Recording) -> Outcome:
    path = tree / mutant.file
    source = path.read_bytes()
    text = source.splitlines()[mutant.line - 1].decode().strip()
    tests = recording.tests_for(mutant, BUDGET_S)
    start = time.monotonic()
    if not tests:
        return Outcome(mutant, text, "survived", "no test runs it", 0, 0.0)
    path.write_bytes(mutant.applied(source))
    try:
        limit = 60 + SLOWER * sum(recording.seconds[test] for test in tests)
        code, output = _pytest(tree, ["-x", *tests], limit)
        if code == USAGE_ERROR:  # the mutant took a test's parameters away
            code, output = _pytest(tree, ["-x", *dict.fromkeys(t.partition("::")[0] for t in tests)], limit)
    finally:
        path.write_bytes(source)
    seconds = time.monotonic() - start
    if code is None:
        return Outcome(mutant, text, "timeout", "", len(tests), seconds)
    if code in (TESTS_FAILED, INTERRUPTED, INTERNAL_ERROR, USAGE_ERROR):
        failed = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        by = failed[0].split(" - ")[0].partition(" ")[2] if failed else f"exit code {code}"
        return Outcome(mutant, text, "killed", by, len(tests), seconds)
    assert code == 0, output
    return Outcome(mutant, text, "survived", "", len(tests), seconds)


def _pytest(tree: Path, arguments: list[str], limit_s: float | None = None) -> tuple[int | None, str]:
    """Pytest's exit code, None past the limit, and what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(tree), str(ROOT))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, *PYTEST, *arguments],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return None, ""
    return process.returncode, output


def _tree(folder: Path, commit: str, index: int) -> Path:
    """A copy of the commit's files; unpacked anew each time, since a run may have been stopped within one."""
    tree = folder / f"tree{index}"
    tree.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as archive:
        archive.extractall(tree, filter="data")
    return tree


def _record(folder: Path, tree: Path, workers: int) -> Recording:
    database, junit = folder / "coverage", folder / "junit.xml"
    if not (folder / "recorded").exists():
        print(f"recording which tests run which lines, in {folder}", flush=True)
        os.environ["COVERAGE_FILE"] = str(database)
        covered = [f"--cov={path}" for path in MUTATED]
        code, output = _pytest(
            tree,
            [
                "-n",
                str(workers),
                *covered,
                "--cov-context=test",
                "--cov-report=",
                f"--junitxml={junit}",
                *SUITES,
            ],
        )
        if code not in (0, TESTS_FAILED):  # a test that fails by itself is selected for no mutant
            sys.exit(output)
        del os.environ["COVERAGE_FILE"]
        (folder / "recorded").touch()
    recording = Recording.read(tree, database, junit)
    print(f"{len(recording.seconds)} tests, {sum(recording.seconds.values()):.0f} s", flush=True)
    return recording


def _draw(tree: Path, count: int, seed: int, only: str) -> list[Mutant]:
    files = sorted(str(p.relative_to(tree)) for part in MUTATED for p in (tree / part).rglob("*.py"))
    found = [mutant for file in files if only in file for mutant in _valid(tree, file)]
    print(f"{len(found)} mutants in {len(files)} files; {min(count, len(found))} drawn", flush=True)
    return random.Random(seed).sample(found, min(count, len(found)))


def _valid(tree: Path, file: str) -> Iterator[Mutant]:
    """Those that still compile."""
    source = (tree / file).read_bytes()
    for mutant in mutants(tree, file):
        try:
            compile(mutant.applied(source), file, "exec", dont_inherit=True)
        except SyntaxError:
            continue
        yield mutant


def _report(outcomes: list[Outcome], commit: str, seed: int) -> None:
    listed = json.loads(Path(__file__).with_name("equivalent.json").read_text(encoding="utf-8"))
    reasons = {
        tuple(sorted((k, v) for k, v in item.items() if k != "reason")): item["reason"] for item in listed
    }
    survivors = [outcome for outcome in outcomes if outcome.outcome == "survived"]
    equivalent = [(o, reasons[key]) for o in survivors if (key := tuple(sorted(o.key.items()))) in reasons]
    left = [o for o in survivors if tuple(sorted(o.key.items())) not in reasons]
    counted = len(outcomes) - len(equivalent)
    killed = counted - len(left)
    lines = [
        "# Mutation testing of esper/passes and esper/ops",
        "",
        f"{len(outcomes)} mutants drawn with seed {seed} at {commit[:12]}: {killed} of {counted} killed "
        f"({100 * killed / max(1, counted):.0f} %), {len(equivalent)} equivalent.",
        "",
        "    python -m benchmarks.mutation" + (f" --seed {seed}" if seed else ""),
        "",
        "| mutant | outcome | by | seconds |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_cell(o.mutant)} | {o.outcome} | {_cell(o.by)} | {o.seconds:.0f} |"
            for o in sorted(outcomes, key=lambda o: (o.outcome == "killed", o.mutant.file, o.mutant.start))
        ),
        "",
        "## Survivors that are equivalent",
        "",
        *(f"- {outcome.mutant}: {reason}" for outcome, reason in equivalent),
    ]
    (RESULTS / "mutation.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    raw = {"commit": commit, "seed": seed, "killed": killed, "counted": counted,
           "outcomes": [asdict(outcome) for outcome in outcomes]}  # fmt: skip
    (RESULTS / "mutation.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines[2:3]))


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


if __name__ == "__main__":
    main()
