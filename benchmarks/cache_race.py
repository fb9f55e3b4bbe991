"""Eight processes race on one kernel cache and are killed at random moments: is every entry whole and right?

A few tiny kernels are built once; what Triton made of them is what every process then stores, loads and
prunes, by the same calls that a compile makes. Most processes are killed with SIGKILL while they do so. After
each round every entry must be readable and hold the code of the kernel that its key names. In the last rounds
the processes build the kernels themselves. Any unreadable entry, wrong kernel or failed survivor fails this.

    python benchmarks/cache_race.py
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from esper.urza.builder.ahead_of_time import build_kernels, kernel_key
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.toolchain import versions
from esper.urza.kernel import Argument, KernelSource

RESULTS = Path(__file__).parent / "results"
PROCESSES = 8
KILLED_SHARES = (0.75, 1.0)
"""What share of a round's processes is killed; where nobody survives, nobody mends what the dead left."""
TARGET = "sm_90"
RACE_S = 0.12
"""Processes that are to be killed die within this time of their start."""
BUILD_S = 12.0
"""The same for rounds in which they run Triton."""
TURNS = 60
"""What a process that is not killed does: look a kernel up, store it if it is absent, sometimes prune."""

Files = Mapping[str, bytes]
Known = Mapping[str, tuple[Mapping[str, object], Files]]
"""What Triton made of each kernel, by key: description and files."""

SOURCE = """
import triton
import triton.language as tl

@triton.jit
def scale(x, y, FACTOR: tl.constexpr):
    index = tl.program_id(0) * 128 + tl.arange(0, 128)
    tl.store(y + index, tl.load(x + index) * FACTOR)
"""


def kernels(count: int) -> list[KernelSource]:
    """Kernels that differ in a constant, and so in code and key."""
    arguments = (
        Argument("x", "pointer", "f32", divisible_by=16),
        Argument("y", "pointer", "f32", divisible_by=16, writes=True),
    )
    first = KernelSource("scale", "forward", SOURCE, "scale", arguments, (1,), {"FACTOR": 2.0})
    return [replace(first, constexprs={"FACTOR": 2.0 + number}) for number in range(count)]


def use(folder: Path, known: Known, seed: int, doomed: bool) -> None:
    """A process's part in a round: what compiles do with the cache, as fast as it goes; doomed, for ever."""
    draw = random.Random(seed)
    cache = KernelCache(folder)
    for _ in itertools.count() if doomed else range(TURNS):
        key = draw.choice(sorted(known))
        description, files = known[key]
        found = cache.load(key)
        if found is None:
            cache.store(key, description, files)
        elif found[1] != files:
            raise AssertionError(f"{key} holds the code of another kernel")
        if draw.random() < 0.1:
            cache.prune(draw.choice([0, 20_000, 50_000]))


def build(folder: Path, sources: Sequence[KernelSource], seed: int, doomed: bool) -> None:
    """The same where the cache has nothing and Triton must run."""
    build_kernels(sources, [TARGET], cache=KernelCache(folder), jobs=1)


def start(work: Callable[[], object]) -> int:
    """A child process that does `work`; its exit code is 0 unless that raises."""
    process = os.fork()
    if process:
        return process
    try:
        work()
    except BaseException:  # noqa: BLE001 - a child must not go on as its parent
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def race(draw: random.Random, within_s: float, work: Callable[[int, bool], object]) -> Counter[str]:
    """One round: `work(seed, doomed)` in each process, most or all of which are killed."""
    share = draw.choice(KILLED_SHARES)
    begun_s = time.monotonic()
    deaths: dict[int, float] = {}
    survivors: list[int] = []
    for _ in range(PROCESSES):
        seed, doomed = draw.getrandbits(32), draw.random() < share
        process = start(partial(work, seed, doomed))
        if doomed:
            deaths[process] = draw.uniform(0, within_s)
        else:
            survivors.append(process)
    ends: Counter[str] = Counter()
    for process, moment_s in sorted(deaths.items(), key=lambda item: item[1]):
        time.sleep(max(0.0, begun_s + moment_s - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    for process in (*deaths, *survivors):
        _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        ends["killed" if code == -signal.SIGKILL else "finished" if code == 0 else "failed"] += 1
    return ends


def judge(folder: Path, known: Known) -> Counter[str]:
    """What the entries are: whole, unreadable, wrong."""
    cache = KernelCache(folder)
    found: Counter[str] = Counter()
    for entry in cache.entries():
        loaded = cache.load(entry.key)
        if loaded is None:
            found["unreadable"] += 1
        elif entry.key not in known or loaded[1] != known[entry.key][1]:
            found["wrong"] += 1
        elif not cache.vouches_for(loaded[0], loaded[1]["kernel.cubin"]):
            found["not in the ledger"] += 1
        else:
            found["whole"] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200, help="rounds on what was built before")
    parser.add_argument("--builds", type=int, default=5, help="rounds in which processes run Triton")
    parser.add_argument("--kernels", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/cache_race.md")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)
    sources = kernels(arguments.kernels)
    total: Counter[str] = Counter()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="esper-race-") as place:
        home = KernelCache(Path(place) / "home")
        build_kernels(sources, [TARGET], cache=home)
        known = {}
        for key in (kernel_key(kernel, TARGET) for kernel in sources):
            found = home.load(key)
            assert found is not None
            known[key] = found
        if len({files["kernel.cubin"] for _, files in known.values()}) != len(sources):
            raise SystemExit("the kernels' codes are equal, so a wrong one would not be seen")
        shared = Path(place) / "shared"
        for _ in range(arguments.rounds):
            total += race(draw, RACE_S, partial(use, shared, known)) + judge(shared, known)
        for number in range(arguments.builds):
            folder = Path(place) / f"built-{number}"
            total += race(draw, BUILD_S, partial(build, folder, sources)) + judge(folder, known)
    seconds = time.monotonic() - begun_s
    counted = ("killed", "finished", "failed", "whole", "unreadable", "wrong", "not in the ledger")
    lines = ["| | count |", "| --- | ---: |", *(f"| {name} | {total[name]} |" for name in counted)]
    print("\n".join(lines))
    if arguments.write:
        told = versions([TARGET])
        (RESULTS / "cache_race.md").write_text(
            "# Eight processes, one kernel cache, SIGKILL at random moments\n\n"
            f"`python benchmarks/cache_race.py --write`: {arguments.rounds} rounds that store, load and "
            f"prune {len(sources)} built kernels, then {arguments.builds} in which each process builds them; "
            f"seed {arguments.seed}, {seconds:.0f} s on {os.cpu_count()} cores, "
            f"Python {platform.python_version()}, Triton {told['triton']}. "
            "Killed, finished and failed are processes; the others are entries, judged after each round.\n\n"
            + "\n".join(lines)
            + "\n"
        )
    faults = ("failed", "unreadable", "wrong", "not in the ledger")
    if any(total[name] for name in faults) or not total["killed"] or not total["whole"]:
        sys.exit("the cache does not hold: " + ", ".join(f"{total[name]} {name}" for name in faults))


if __name__ == "__main__":
    main()
