"""A search in a slot: what the slot's tensor settles of a blueprint, what trains candidates there, and how
what they learned is shown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esper.cli.blueprint import Request
from esper.cli.train import HOST_NAMES

if TYPE_CHECKING:
    from esper.lang import ParameterValue, SizeValue
    from esper.simic.candidates import SlotTask
    from esper.tezzeret import Candidate, Ladder, Learned, SearchResult

STEPS = 360
"""Of a full training: about as few as tell good blueprints from bad in the hosts there are."""


@dataclass(frozen=True)
class SearchedSlot:
    """A slot that blueprints are searched for, and what its tensor settles of one."""

    place: SlotTask
    params: Mapping[str, ParameterValue]
    sizes: Mapping[str, SizeValue]

    def ladder(self, steps: int, seed: int) -> Ladder:
        """What candidates climb in this slot."""
        from esper.tezzeret import ladder_of

        return ladder_of(self.place, steps, seed, about=self.about).screened()

    @property
    def about(self) -> dict[str, Any]:
        """What candidates' accuracies depend on beside the candidates."""
        place = self.place
        return {
            "task": place.task,
            "host": place.host,
            "slot": place.slot,
            "data_seed": place.data_seed,
            "lr": place.lr,
            "batch_size": place.probe.shape[0],
        }

    def planting(self, blueprint: str | Path) -> str:
        """The command that grows the host with `blueprint` in the slot."""
        place = self.place
        words = ["--task", place.task, "--host", place.host, "--slots", place.slot]
        words += ["--blueprints", str(blueprint), "--seed", str(place.data_seed)]
        return f"esper train {shlex.join(words)}"


def searched_slot(
    task: str | None,
    host: str | None,
    slot: str | None,
    steps: int | None,
    seed: int,
    request: Request,
    settled: Mapping[str, ParameterValue],
) -> SearchedSlot | None:
    """The slot that the options name, None where they name none.

    settled: parameters that --set gives. Raises `UsageError` for options that do not go together,
    `DoesNotFit` and `SeedDoesNotFit` for a blueprint that the slot has no use for, and what `SlotTask`
    raises.
    """
    if task is None:
        for option, given in (("--host", host), ("--slot", slot), ("--steps", steps)):
            if given is not None:
                raise click.UsageError(f"{option} is about a task's host: add --task, as in --task mnist1d")
        return None
    for option, is_given in (("--size", bool(request.sizes)), ("--precision", bool(request.precision))):
        if is_given:
            raise click.UsageError(f"{option} is for searches without --task: the slot's tensor settles it")
    if seed < 0:
        raise click.UsageError("--seed draws the task's data, too, and has to be 0 or more")
    place = _place(task, host, slot, seed)
    params, sizes = place.fitted(request.file, settled, name=request.blueprint)
    return SearchedSlot(place, params, sizes)


def _place(task: str, host: str | None, slot: str | None, seed: int) -> SlotTask:
    """The host is the first that takes the task, and the slot the host's first, where none is named."""
    from esper.simic.candidates import SlotTask
    from esper.simic.hosts import HOSTS, host_named, is_import_path
    from esper.simic.tasks import task_named

    if host is None:
        has_tokens = task_named(task, seed).has_tokens
        host = next(one.name for one in HOSTS.values() if one.reads_tokens == has_tokens)
    if slot is None:
        if is_import_path(host):
            known = ", ".join(HOST_NAMES)
            raise click.UsageError(f"--slot names a module of {host}: only {known} have slots of their own")
        slot = host_named(host).slots[0]
    return SlotTask(task, host, slot, data_seed=seed)


HEADINGS = ("accuracy %", "steps")


def cells(candidate: Candidate) -> list[str]:
    """A candidate's accuracy on held-out data, and after how many steps; dashes where it was not trained."""
    found = candidate.learned
    return ["-", "-"] if found is None else [percent(found), f"{found.steps}"]


def percent(found: Learned) -> str:
    """The mean over the seeds, and its standard error where there are several."""
    error = found.standard_error
    return f"{100 * found.accuracy:.1f}" + ("" if error is None else f" ± {100 * error:.1f}")


def record(found: Learned | None) -> dict[str, Any] | None:
    """What was learned as JSON; None where nothing was trained."""
    if found is None:
        return None
    return {
        "accuracy": found.accuracy,
        "standard_error": found.standard_error,
        "accuracies": list(found.accuracies),
        "seeds": list(found.seeds),
        "steps": found.steps,
        "rung": found.rung,
    }


@dataclass(frozen=True)
class Training:
    """How candidates were trained in a slot, and what the host learns without any, where that was tried."""

    slot: SearchedSlot
    result: SearchResult
    alone: Learned | None

    def document(self) -> dict[str, Any]:
        """As JSON."""
        rungs = zip(self.result.rungs, self.result.trained, strict=True)
        return {
            **self.slot.about,
            "rungs": [
                {"steps": rung.steps, "seeds": list(rung.seeds), "candidates": count} for rung, count in rungs
            ],
            "steps": self.result.steps,
            "alone": record(self.alone),
        }

    def story(self) -> list[str]:
        """How much was trained, what accuracy is of, and whether the best is worth its place."""
        place, result = self.slot.place, self.result
        where = f"{place.slot} of {place.host}, which learns {place.task}"
        if not result.rungs:
            return [f"dims and sizes are those of {where}; nothing was trained"]
        rungs = [
            (count, rung) for count, rung in zip(result.trained, result.rungs, strict=True) if rung.steps
        ]
        counts = [f"{count:,}" for count, _ in rungs]
        lengths = [
            f"{rung.steps:,}" if len(rung.seeds) == 1 else f"{len(rung.seeds)} x {rung.steps:,}"
            for _, rung in rungs
        ]
        lines = [
            *(f"screened {n:,} by a zero-cost proxy (ZiCo)" for n in result.trained[: -len(rungs)]),
            f"trained {_listed(counts)} for {_listed(lengths)} steps, {result.steps:,} in all, in {where}",
            "accuracy is of held-out examples; what was chosen by it does a little worse on others",
        ]
        best = result.best.learned
        if self.alone is None or best is None:
            return lines
        lines.append(f"the host alone comes to {percent(self.alone)} %")
        if best.accuracy <= self.alone.accuracy:
            lines.append("nothing is worth its place here: try another blueprint, or another slot")
        return lines


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
