"""What a graph takes by its plan, as one step sees it, and which of two graphs an objective prefers.

To the roofline of `esper.tezzeret.analysis` comes what each launch takes by itself: a plan of many small
kernels is slow though each has little to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue
from esper.passes import Law
from esper.tezzeret.analysis import Analysis, analyze

LAUNCH_SECONDS = 3.3e-6
"""Host time of one kernel in a program, as `benchmarks/launch.py` measures it."""

CALL_SECONDS = 3 * LAUNCH_SECONDS
"""Of a library's operator, an estimate: it finds its kernel, makes room for its result and launches it, and
often one more."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one training step, or of its forward pass alone.

    seconds: by the roofline. kernels, calls: launches of either kind. flops, and bytes that must be moved.
    saved: for the backward pass. peak: the most bytes that are held.
    """

    seconds: float
    kernels: int
    calls: int
    flops: int
    bytes: int
    saved: int
    peak: int

    @property
    def latency(self) -> float:
        """Seconds, launches included."""
        return self.seconds + self.kernels * LAUNCH_SECONDS + self.calls * CALL_SECONDS

    @property
    def nanoseconds(self) -> int:
        """`latency`, rounded: sums in another order differ in their last digits."""
        return round(self.latency * 1e9)


def figures_of(found: Analysis, is_trained: bool) -> Figures:
    """is_trained: whether the backward pass counts, and what is saved for it."""
    steps = found.steps if is_trained else found.of("forward")
    arenas = [one.size for name, one in found.memory.items() if is_trained or name == "forward"]
    saved = found.saved if is_trained else 0
    return Figures(
        seconds=sum(step.seconds for step in steps),
        kernels=sum(not step.is_call for step in steps),
        calls=sum(step.is_call for step in steps),
        flops=sum(step.flops for step in steps),
        bytes=sum(step.bytes for step in steps),
        saved=saved,
        peak=found.weights + saved + max(arenas, default=0),
    )


Rank = tuple[float, ...]
"""Less is better, the first figure first."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What an objective makes small, and which laws a rewrite may have that serves it."""

    rank: Callable[[Figures], Rank]
    laws: frozenset[Law]


SAME = frozenset({Law.EXACT, Law.REAL_EQUAL})
"""The function over the reals stays what it is."""

GOALS: Mapping[str, Goal] = {
    "latency": Goal(lambda f: (f.nanoseconds, f.flops, f.peak), SAME | {Law.TOLERANCE}),
    "memory": Goal(lambda f: (f.peak, f.saved, f.nanoseconds, f.flops), SAME | {Law.TOLERANCE}),
    "balanced": Goal(lambda f: (f.nanoseconds * f.peak, f.flops), SAME | {Law.TOLERANCE}),
    "accuracy": Goal(lambda f: (f.nanoseconds, f.flops, f.peak), SAME),
}
"""By objective. Accuracy allows no digits to be given up, and ranks what is left by latency."""


class Plans:
    """Graphs with their analyses, each planned once."""

    def __init__(self, sizes: Mapping[str, SizeValue] | None, target: str, is_trained: bool) -> None:
        self.sizes = sizes
        self.target = target
        self.is_trained = is_trained
        self._known: dict[str, Analysis] = {}

    def analysis(self, ir: BlueprintIR) -> Analysis:
        """Raises as `analyze` does."""
        found = self._known.get(ir.hash)
        if found is None:
            found = self._known[ir.hash] = analyze(ir, self.sizes, self.target)
        return found

    def figures(self, ir: BlueprintIR) -> Figures:
        return figures_of(self.analysis(ir), self.is_trained)

    def __len__(self) -> int:
        return len(self._known)
