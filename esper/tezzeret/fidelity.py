"""How well a candidate learns, as far as it was found out, and who finds it out.

Accuracy can be had at several fidelities: a few steps of training say something, many say more and cost more.
What trains is growth's affair, which this wing must not know: a search is handed a `Judge`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Protocol

from esper.ir.graph import BlueprintIR
from esper.tezzeret.costs import Quantities

if TYPE_CHECKING:
    from torch import Tensor


class Trial(Protocol):
    """How one training came out. accuracy: the share of held-out examples classified rightly, 0..1.

    flops: operations that training and scoring took.
    """

    @property
    def accuracy(self) -> float: ...
    @property
    def flops(self) -> int: ...


class Judge(Protocol):
    """A place where graphs are tried: a slot of a host, with a task that host and graph learn together."""

    def accuracy(self, blueprint: BlueprintIR | None, steps: int, seed: int, /) -> Trial:
        """Trains for `steps` steps; equal for equal arguments. `seed`: of all that chance decides.

        blueprint: None for the place as it is, with nothing there.

        Raises `EsperError` for a graph that does not fit the place.
        """

    def gradients(
        self, blueprint: BlueprintIR | None, seed: int, batches: int, /
    ) -> Iterable[Sequence[Tensor]]:
        """Of the loss on each of so many batches before the first step, a tensor for each weight.

        Raises as `accuracy` does.
        """


@dataclass(frozen=True, slots=True)
class Rung:
    """A fidelity: training for `steps` steps, once for each of `seeds`; 0 steps: a zero-cost proxy."""

    steps: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Learned:
    """What training told of a candidate: `accuracies` on held-out examples, 0..1, one for each of `seeds`.

    rung: of the search's ladder, from 1; the higher, the longer the training. steps: of each training.
    flops: operations that all of them took.
    """

    rung: int
    steps: int
    seeds: tuple[int, ...]
    accuracies: tuple[float, ...]
    flops: int

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Learned:
        """From what `dataclasses.asdict` made of it. Raises `KeyError`, `TypeError` or `ValueError`."""
        lists = {name: tuple(found[name]) for name in ("seeds", "accuracies")}
        return cls(**{**found, **lists})

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return fmean(self.accuracies)

    @property
    def error(self) -> float:
        """The share of held-out examples classified wrongly, 0..1, the mean over the seeds."""
        return 1.0 - self.accuracy

    @property
    def standard_error(self) -> float | None:
        """Of `accuracy`, by how the seeds differ; None of a single one."""
        if len(self.accuracies) < 2:
            return None
        return stdev(self.accuracies) / math.sqrt(len(self.accuracies))


def learned(judge: Judge, graph: BlueprintIR | None, number: int, rung: Rung) -> Learned:
    """Trains `graph`, or nothing, as `rung`, the ladder's `number`-th, says. Raises what the judge raises."""
    tried = [judge.accuracy(graph, rung.steps, seed) for seed in rung.seeds]
    accuracies = tuple(one.accuracy for one in tried)
    return Learned(number, rung.steps, rung.seeds, accuracies, sum(one.flops for one in tried))


@dataclass(frozen=True, slots=True)
class Judged(Quantities):
    """What a candidate costs, and how badly it learns: what an objective that counts accuracy looks at.

    error: see `esper.tezzeret.ladder.Ladder.judged`.
    """

    error: float

    @property
    def balanced(self) -> float:
        """The geometric mean of error, latency in microseconds and memory in MiB."""
        return float((self.error * self.latency * 1e6 * self.memory / 2**20) ** (1 / 3))
