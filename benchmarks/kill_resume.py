"""A run is killed at moments uniform over its wall time and resumed: does it end as it would have?

Each trial starts the same run in a process of its own, which writes a checkpoint every few steps, kills it
with SIGKILL, and resumes it by what `--resume auto` calls. All that its last checkpoint holds (weights,
optimizers, counters, random generators) must equal the unbroken run's bit for bit, and its events must be the
same, without gap or repeat. Then processes that do nothing but write checkpoints are killed: every checkpoint
that is left must be readable, its digest checked. Killed itself, this goes on where it stopped, unless
Esper's code or torch have changed since.

    python benchmarks/kill_resume.py --write
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from esper.errors import EsperError
from esper.files import write_whole
from esper.kasmina.attach import attach
from esper.kasmina.checkpoints.checkpoint import save_checkpoint
from esper.kasmina.checkpoints.file import alike, read_checkpoint
from esper.kasmina.checkpoints.values import Encoder
from esper.kasmina.training.growth import Growth
from esper.kasmina.training.optimizer import GrowthOptimizer
from esper.nissa.stream import read_stream
from esper.simic.checkpoints import newest_checkpoint
from esper.simic.config import load_config
from esper.simic.run import plan_run, run_planned
from esper.simic.study.records import made_by

RESULTS = Path(__file__).parent / "results"
OPTIONS: dict[str, Any] = {
    "task": "digits",
    "host": "cnn",
    "epochs": 17,
    "checkpoint_every": 5,
    "policy_options": {"warmup_epochs": 1, "wait_epochs": 1},
}
"""The first seed is planted, blended in, judged against its control and kept within these epochs."""
PARTS, STRIDE = 100, 37
"""The wall time is cut into so many parts, and a kill falls into each in turn, far ones after each other."""
WRITE_S = 0.1
"""A process that does nothing but write checkpoints is killed within this time of its first."""


@dataclass(frozen=True)
class Trial:
    """One kill of a run. `step`: of the newest checkpoint at that moment, None before the first."""

    moment_s: float
    step: int | None
    is_in_a_write: bool
    is_finished: bool
    ends_equal: bool
    events_equal: bool


@dataclass(frozen=True)
class Write:
    """One kill of a process that writes checkpoints."""

    is_in_a_write: bool
    readable: int
    unreadable: int


def started(work: Callable[[], object]) -> int:
    """A process that does `work`, and exits with 0 unless it fails."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:  # noqa: BLE001 (a forked process must not return into its parent's code)
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> int:
    """Its exit status."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_after(pid: int, seconds: float) -> int:
    """Its exit status after SIGKILL, or what it had before."""
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return ended(pid)


def contents(checkpoint: Path) -> tuple[str, list[bytes]]:
    """All that a checkpoint holds, bit for bit."""
    encoder = Encoder()
    text = json.dumps(encoder.encode(read_checkpoint(checkpoint), "checkpoint"))
    return text, [t.reshape(-1).view(torch.uint8).numpy().tobytes() for t in encoder.tensors.values()]


def partials(folder: Path) -> list[Path]:
    """Files whose write was under way."""
    return [entry for entry in folder.glob(".*") if entry.suffix == ".partial"]


def run_in(folder: Path, options: dict[str, Any]) -> None:
    """The run in `folder`, from its newest checkpoint if it has one."""
    run_planned(plan_run(None, options, folder, "auto"))


def trial(folder: Path, whole: Path, moment: float, options: dict[str, Any]) -> Trial:
    """Kills a run in `folder` after `moment` seconds, resumes it, and compares it with the one in `whole`."""
    status = killed_after(started(lambda: run_in(folder, options)), moment)
    newest = newest_checkpoint(folder)
    step = None if newest is None else int(newest.stem.removeprefix("step-"))
    in_a_write = bool(partials(folder / "checkpoints"))
    resumed = ended(started(lambda: run_in(folder, options)))
    last, expected = newest_checkpoint(folder), newest_checkpoint(whole)
    equal = (
        resumed == 0 and last is not None and expected is not None and contents(last) == contents(expected)
    )
    events = [[(e.seq, e.event) for e in read_stream(run)] for run in (folder, whole)]
    return Trial(
        round(moment, 3), step, in_a_write, status == 0, equal, resumed == 0 and events[0] == events[1]
    )


def growing_host() -> Growth:
    """A host with optimizer state: checkpoints of some 1.6 MB."""
    model = attach(
        nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128)), "1", torch.ones(2, 128)
    )
    optimizer = GrowthOptimizer(torch.optim.AdamW(model.parameters()))
    growth = Growth(model, optimizer, "never")
    model(torch.ones(2, 128)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return growth


def writer(folder: Path, growth: Growth, ready: int) -> None:
    """Says that it begins, and writes checkpoints, one after another, until it is killed."""
    found = alike(folder / "step-0.safetensors")
    number = int(found[-1].stem.removeprefix("step-")) if found else 0
    os.write(ready, b"1")
    while True:
        number += 1
        save_checkpoint(folder / f"step-{number}.safetensors", growth=growth, keep=3)


def write(folder: Path, growth: Growth, seconds: float) -> Write:
    """Kills a writer `seconds` after it began, and reads every checkpoint that is there."""
    for left in partials(folder):
        left.unlink()
    here, there = os.pipe()
    pid = started(lambda: writer(folder, growth, there))
    os.close(there)
    os.read(here, 1)
    os.close(here)
    killed_after(pid, seconds)
    readable = unreadable = 0
    for path in alike(folder / "step-0.safetensors"):
        try:
            read_checkpoint(path)
            readable += 1
        except EsperError:
            traceback.print_exc()
            unreadable += 1
    return Write(bool(partials(folder)), readable, unreadable)


class Progress:
    """What was counted, in a file, so that a later start of the same code goes on with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.made_by = made_by()
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if found and found.get("made_by") != self.made_by:
            print(f"{path} counts kills of other code, and is begun anew", file=sys.stderr)
            found = {}
        self.trials = [Trial(**entry) for entry in found.get("trials", [])]
        self.writes = [Write(**entry) for entry in found.get("writes", [])]
        self.seconds = float(found.get("seconds", 0.0))
        self._since = time.monotonic()

    def save(self) -> None:
        now = time.monotonic()
        self.seconds, self._since = self.seconds + now - self._since, now
        entries = {
            "made_by": self.made_by,
            "seconds": round(self.seconds, 1),
            "trials": [asdict(entry) for entry in self.trials],
            "writes": [asdict(entry) for entry in self.writes],
        }
        write_whole(self.path, json.dumps(entries, indent=1) + "\n")


def report(done: Progress, whole_s: float) -> str:
    """The counts as Markdown."""
    kills = [entry for entry in done.trials if not entry.is_finished]
    rows = [
        ("runs killed and resumed", len(kills)),
        ("of these while a checkpoint was being written", sum(k.is_in_a_write for k in kills)),
        ("of these before the first checkpoint", sum(k.step is None for k in kills)),
        ("finished before the kill", len(done.trials) - len(kills)),
        ("ended bit-equal to the unbroken run", sum(entry.ends_equal for entry in done.trials)),
        ("with its events, no gap and no repeat", sum(entry.events_equal for entry in done.trials)),
        ("writers killed while they wrote checkpoints without pause", len(done.writes)),
        ("of these with a file that was not yet whole", sum(entry.is_in_a_write for entry in done.writes)),
        ("checkpoints read after these kills", sum(entry.readable for entry in done.writes)),
        ("unreadable checkpoints", sum(entry.unreadable for entry in done.writes)),
    ]
    table = "\n".join(f"| {name} | {count} |" for name, count in rows)
    facts = f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    return (
        "# SIGKILL at random moments, and resume\n\n"
        f"`python benchmarks/kill_resume.py --write`: an unbroken run takes {whole_s:.1f} s and writes a "
        f"checkpoint every {OPTIONS['checkpoint_every']} steps; kills are uniform over its wall time; "
        f"{done.seconds:.0f} s in all on {facts}.\n\n| | count |\n| --- | ---: |\n{table}\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100, help="runs that are killed and resumed")
    parser.add_argument("--writes", type=int, default=1000, help="writers that are killed")
    parser.add_argument(
        "--state", type=Path, default=RESULTS / "kill_resume.json", help="where counts are kept"
    )
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/kill_resume.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    load_config(None, OPTIONS)
    done = Progress(arguments.state)
    chance = random.Random(f"{len(done.trials)}-{len(done.writes)}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "writes").mkdir()
        growth = growing_host()
        while len(done.writes) < arguments.writes:
            done.writes.append(write(place / "writes", growth, WRITE_S * chance.random()))
            if len(done.writes) % 50 == 0 or len(done.writes) == arguments.writes:
                done.save()
                print(f"{len(done.writes)}/{arguments.writes} writers killed", file=sys.stderr)
        began = time.monotonic()
        if ended(started(lambda: run_in(place / "whole", OPTIONS))):
            return 1
        whole_s = time.monotonic() - began
        while len(done.trials) < arguments.trials:
            part = STRIDE * len(done.trials) % PARTS
            moment = whole_s * (part + chance.random()) / PARTS
            done.trials.append(trial(place / "run", place / "whole", moment, OPTIONS))
            shutil.rmtree(place / "run")
            done.save()
            print(f"{len(done.trials)}/{arguments.trials}  {done.trials[-1]}", file=sys.stderr)
    text = report(done, whole_s)
    print(text)
    if arguments.write:
        (RESULTS / "kill_resume.md").write_text(text, encoding="utf-8")
    fine = all(entry.ends_equal and entry.events_equal for entry in done.trials)
    return 0 if fine and not any(entry.unreadable for entry in done.writes) else 1


if __name__ == "__main__":
    sys.exit(main())
