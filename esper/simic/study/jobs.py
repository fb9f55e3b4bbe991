"""A study's jobs: one arm with one seed and one trial, one file each, done side by side in processes.

A file that is there is done, so a study goes on where it was stopped. First each arm's trials run on the
tuning seeds, and the best by held-out accuracy is chosen; then each arm runs with its choice on the study's
seeds. Arms that build on others come after them.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import save_file

from esper.errors import EsperError
from esper.kasmina.attach import host_state_dict
from esper.leyline.stages import SeedStage
from esper.simic.evaluation import score
from esper.simic.study import second_task
from esper.simic.study.arms import HOST_OF, Made, Place
from esper.simic.study.errors import ArmsMissing, StudyDiffers, StudyTaken, TaskWithoutStudy
from esper.simic.study.plan import QUESTIONS, Arm, Question
from esper.simic.study.records import Outcome, Score, Settings, StudyConfig, read_record, write_record
from esper.simic.study.sizes import parameters
from esper.simic.study.training import in_place
from esper.simic.tasks import Split, Task

CONFIG = "study.json"
WEIGHTS = ".safetensors"
TUNING, FINAL = "tuning", "final"
FIRST_SEED = {TUNING: 1300, FINAL: 4000}
"""Seeds begin here, so that those of the figures served for nothing before. On seeds below 1300, and on those
from 3000 to 3019, gates and trials were thought out."""
SHOWN = 3
"""Failures told; the others are counted."""


@dataclass(frozen=True)
class Job:
    """One arm, one seed, one trial. `prior` has the files of the outcomes that the arm builds on."""

    question: str
    arm: str
    seed: int
    settings: Settings
    file: Path
    prior: tuple[tuple[str, Path], ...]
    weights: Path
    config: StudyConfig


class Study:
    """A study in its folder: `study.json`, and one file for each job that is done."""

    def __init__(self, folder: Path, config: StudyConfig) -> None:
        self.folder = folder
        self.config = config
        self.question: Question = QUESTIONS[config.question]
        self.host = HOST_OF[config.task]

    def trials(self, arm: Arm) -> tuple[Settings, ...]:
        """The settings that are tried for `arm`."""
        return arm.trials[self.host][: self.config.trials]

    def seeds(self, phase: str) -> range:
        """The seeds of a phase."""
        count = self.config.tuning_seeds if phase == TUNING else self.config.seeds
        return range(FIRST_SEED[phase], FIRST_SEED[phase] + count)

    def file(self, phase: str, arm: Arm, trial: int, seed: int) -> Path:
        """Where the outcome of a job lies."""
        name = f"{trial}-{seed}" if phase == TUNING else f"{seed}"
        return self.folder / "jobs" / phase / arm.name / f"{name}.json"

    def outcomes(self, phase: str, arm: Arm, trial: int) -> list[Outcome]:
        """The outcomes of one arm and trial, in the order of the seeds. Raises `StudyUnreadable`."""
        return [read_record(self.file(phase, arm, trial, seed), Outcome) for seed in self.seeds(phase)]

    def validation(self, arm: Arm, trial: int) -> float:
        """The mean held-out accuracy of a trial over the tuning seeds."""
        return fmean(outcome.held_out.accuracy for outcome in self.outcomes(TUNING, arm, trial))

    def choice(self, arm: Arm) -> int:
        """The arm's best trial by held-out accuracy; the first of equals."""
        trials = range(len(self.trials(arm)))
        return trials[0] if len(trials) == 1 else max(trials, key=lambda trial: self.validation(arm, trial))

    def finals(self, arm: Arm) -> list[Outcome]:
        """The outcomes that the figures rest on, in the order of the seeds."""
        return self.outcomes(FINAL, arm, self.choice(arm))

    def jobs(self, phase: str, arms: Iterable[Arm]) -> Iterator[Job]:
        """The jobs of these arms in one phase; those of arms that they build on are done."""
        for arm in arms:
            trials = range(len(self.trials(arm))) if phase == TUNING else [self.choice(arm)]
            for trial in trials:
                for seed in self.seeds(phase):
                    yield self._job(phase, arm, trial, seed)

    def _job(self, phase: str, arm: Arm, trial: int, seed: int) -> Job:
        prior = []
        weights = self.folder
        for name in arm.builds_on:
            before = self.question.arm(name)
            file = self.file(phase, before, self.choice(before), seed)
            prior.append((name, file))
            if before.is_sunk:
                weights = file.with_suffix(WEIGHTS)
        file = self.file(phase, arm, trial, seed)
        if arm.is_sunk:
            weights = file.with_suffix(WEIGHTS)
        return Job(
            question=self.question.name,
            arm=arm.name,
            seed=seed,
            settings=self.trials(arm)[trial],
            file=file,
            prior=tuple(prior),
            weights=weights,
            config=self.config,
        )


def open_study(folder: Path, config: StudyConfig, *, resume: bool) -> Study:
    """The study in `folder`, begun if there is none.

    Raises `StudyTaken` if there is one and `resume` is false, `StudyDiffers` if it asks something else,
    `StudyUnreadable`, `FileUnwritable`, `TaskWithoutStudy`.
    """
    question = QUESTIONS[config.question]
    if config.task not in question.tasks:
        raise TaskWithoutStudy(question=question.name, task=config.task, choices=", ".join(question.tasks))
    file = folder / CONFIG
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_record(file, config)
        return Study(folder, config)
    if not resume:
        raise StudyTaken(path=folder)
    found = read_record(file, StudyConfig)
    for name in StudyConfig.model_fields:
        if getattr(found, name) != getattr(config, name):
            raise StudyDiffers(
                path=folder, name=name, found=getattr(found, name), expected=getattr(config, name)
            )
    return Study(folder, config)


def run_study(
    study: Study, workers: int = 1, progress: Callable[[str, int, int], None] = lambda phase, done, all: None
) -> None:
    """Does every job that is not done. `progress` is told the phase, and how many of its jobs are done.

    Raises `ArmsMissing` with what failed, once everything that could be done is, and `StudyDiffers` for a
    file of a job with other settings.
    """
    with _pool(workers) as pool:
        for phase in (TUNING, FINAL):
            count = _Count(phase, _total(study, phase), progress)
            for arms in levels(study.question):
                _do(pool, list(study.jobs(phase, arms)), count)


def levels(question: Question) -> list[list[Arm]]:
    """The arms in an order in which each comes after those that it builds on, as rows that need no order."""
    level: dict[str, int] = {}

    def of(arm: Arm) -> int:
        if arm.name not in level:
            level[arm.name] = 1 + max((of(question.arm(name)) for name in arm.builds_on), default=-1)
        return level[arm.name]

    rows: list[list[Arm]] = [[] for _ in range(1 + max(map(of, question.arms)))]
    for arm in question.arms:
        rows[level[arm.name]].append(arm)
    return rows


def perform(job: Job) -> None:
    """Does one job, and writes its file. Equal jobs give equal outcomes but for the seconds."""
    arm = QUESTIONS[job.question].arm(job.arm)
    prior = {name: read_record(file, Outcome) for name, file in job.prior}
    place = Place(job.config, job.seed, job.settings, prior, job.weights)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.perf_counter()
    try:
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(job.seed)
            made = arm.run(place)
            outcome = _outcome(job, place, made, time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    job.file.parent.mkdir(parents=True, exist_ok=True)
    if arm.is_sunk:
        save_file(host_state_dict(made.model), job.weights)
    write_record(job.file, outcome)


def _outcome(job: Job, place: Place, made: Made, seconds: float) -> Outcome:
    host = place.host
    size = parameters(made.model) + _undecided(made)
    first = None
    if place.config.question == "second-task" and made.model._modules.get("first_head") is not None:
        with second_task.as_before(made.model):
            first = _score(made, place.first, place.first.test)
    return Outcome(
        arm=job.arm,
        seed=job.seed,
        settings=job.settings,
        test=_score(made, place.task, place.task.test),
        held_out=_score(made, place.task, place.task.held_out),
        first_task=first,
        parameters=size,
        added=max(size - parameters(host.build(place.task)), 0),
        steps=made.steps,
        flops=dict(place.objective.meter.counts),
        width=made.width or host.width,
        depth=made.depth or host.depth,
        seeds=made.seeds,
        seconds=seconds,
    )


def _score(made: Made, task: Task, split: Split) -> Score:
    found = score(made.model, task, split)
    return Score(accuracy=found.accuracy, loss=found.loss)


def _undecided(made: Made) -> int:
    """Parameters of the seeds that are in place, but not yet part of the host."""
    fossilized = SeedStage.FOSSILIZED.name
    return sum(seed.params for seed in in_place(made.seeds) if seed.stage != fossilized)


class _Count:
    """How many of a phase's jobs are done."""

    def __init__(self, phase: str, all: int, progress: Callable[[str, int, int], None]) -> None:
        self.phase, self.all, self.progress, self.done = phase, all, progress, 0

    def add(self) -> None:
        self.done += 1
        self.progress(self.phase, self.done, self.all)


def _total(study: Study, phase: str) -> int:
    arms = study.question.arms
    trials = sum(len(study.trials(arm)) if phase == TUNING else 1 for arm in arms)
    return trials * len(study.seeds(phase))


def _do(pool: ProcessPoolExecutor | None, jobs: list[Job], count: _Count) -> None:
    """Does what is not done, side by side where there is a pool; raises `ArmsMissing` if anything failed."""
    failures: list[str] = []
    waiting: dict[Future[None], Job] = {}
    for job in jobs:
        if _is_done(job):
            count.add()
        elif pool is not None:
            waiting[pool.submit(perform, job)] = job
        else:
            failures += _failure(job, perform)
            count.add()
    while waiting:
        ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in ended:
            job = waiting.pop(future)
            failures += _failure(job, lambda job, future=future: future.result())  # type: ignore[misc]
            count.add()
    if failures:
        shown = "; ".join(failures[:SHOWN])
        more = f"; and {len(failures) - SHOWN} more" if len(failures) > SHOWN else ""
        raise ArmsMissing(missing=shown + more)


def _is_done(job: Job) -> bool:
    if not job.file.exists():
        return False
    found = read_record(job.file, Outcome)
    if found.settings != job.settings:
        raise StudyDiffers(
            path=job.file,
            name="settings",
            found=found.settings.model_dump(),
            expected=job.settings.model_dump(),
        )
    return True


def _failure(job: Job, attempt: Callable[[Job], None]) -> list[str]:
    """What went wrong with a job, if anything: other jobs do not depend on it, and go on."""
    try:
        attempt(job)
    except Exception as error:  # noqa: BLE001 - whatever an arm raised, its job is missing, and is told so
        reason = str(error) if isinstance(error, EsperError) else f"{type(error).__name__}: {error}"
        return [f"arm `{job.arm}` with seed {job.seed}: {reason}"]
    return []


@contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes of one thread each; none for one worker, which is this process."""
    if workers == 1:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_signals_to_the_parent)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _leave_signals_to_the_parent() -> None:
    """A terminal sends SIGINT to every process: here the job at hand is finished first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
