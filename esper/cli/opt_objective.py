"""`esperc opt --objective`: the question to the optimizer, and what is told of its answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from esper.cli.analyze import variants
from esper.cli.opt_figures import table

if TYPE_CHECKING:
    from esper.cli.blueprint import Request
    from esper.ir.graph import BlueprintIR
    from esper.tezzeret.analysis import Relief
    from esper.tezzeret.optimizer import Figures, Fork, Optimized, Step

OBJECTIVES = ("latency", "memory", "accuracy", "balanced")
TARGETS = ("sm_80", "sm_90")
NAMED = 4
"""Branches that are named at a fork."""

WORTH = 0.99
"""Advice leaves no more of a figure than this share."""


@dataclass(frozen=True, slots=True)
class Question:
    """What `optimize` is asked; a budget of None is its own."""

    objective: str
    target: str
    budget: float | None
    is_trained: bool

    def arguments(self) -> list[str]:
        """The options as they are written on the command line."""
        budget = [] if self.budget is None else ["--budget", str(self.budget)]
        forward = [] if self.is_trained else ["--forward"]
        return ["--objective", self.objective, "--target", self.target, *budget, *forward]

    def answered(self, ir: BlueprintIR, request: Request) -> Answer:
        """The rewrites of `ir`, and changes of the function that would serve it too. Raises as `optimize`."""
        from esper.tezzeret.analysis import reliefs
        from esper.tezzeret.optimizer import BUDGET, optimize

        sizes = request.size_values()
        budget = BUDGET if self.budget is None else self.budget
        found = optimize(
            ir,
            self.objective,
            target=self.target,
            sizes=sizes,
            budget=budget,
            is_trained=self.is_trained,
        )
        advice = reliefs(found.analysis, sizes, variants(request)) if self.is_trained else ()
        return Answer(self, found, [one for one in advice if self._serves(one, found)], budget)

    def _serves(self, relief: Relief, found: Optimized) -> bool:
        """Whether a change is worth a word: it serves the objective, and is not decided already."""
        from esper.passes import Law
        from esper.tezzeret.analysis.relief import PRECISION
        from esper.tezzeret.optimizer import GOALS

        if relief.change == PRECISION and Law.TOLERANCE in GOALS[self.objective].laws:
            return False
        seconds = relief.seconds / found.analysis.total
        peak = relief.peak / found.analysis.peak
        by = {"memory": peak, "balanced": seconds * peak}
        return by.get(self.objective, seconds) < WORTH


@dataclass(frozen=True, slots=True)
class Answer:
    """What was found, and `advice`: changes of what is computed or how, which are not applied."""

    question: Question
    found: Optimized
    advice: Sequence[Relief]
    budget: float

    def document(self) -> dict[str, Any]:
        """The JSON document: bytes, seconds and counts are plain numbers."""
        found = self.found
        return {
            "objective": self.question.objective,
            "target": self.question.target,
            "device": found.analysis.device,
            "trained": self.question.is_trained,
            "measured": False,
            "error_budget": self.budget,
            "graphs_planned": found.planned,
            "before": _numbers(found.before),
            "after": _numbers(found.after),
            "steps": [_step(step) for step in found.steps],
            "bottleneck": found.analysis.bottleneck and found.analysis.bottleneck.name,
            "declined": [_step(step) for step in found.declined],
            "forks": [asdict(fork) for fork in found.forks],
            "advice": [
                {
                    "change": one.change,
                    "seconds": one.seconds,
                    "saved_bytes": one.saved,
                    "peak_bytes": one.peak,
                }
                for one in self.advice
            ],
        }

    def text(self) -> str:
        """The effect of each rewrite, those that were declined, the branches, the advice."""
        found = self.found
        what = "a training step" if self.question.is_trained else "a forward pass"
        lines = [
            f"for {self.question.objective}, {what} on {found.analysis.device}: by plans; only errors are "
            "measured",
            "",
            _effects(found),
        ]
        if not found.steps:
            lines += ["", "no rewrite serves it"]
        if (worst := found.analysis.bottleneck) is not None and found.analysis.total:
            share = worst.seconds / found.analysis.total
            lines += [
                "",
                f"bottleneck: {worst.name} ({worst.direction}), {share:.0%} of the work, by {worst.bound}",
            ]
        if found.declined:
            lines += ["", "declined:", *(f"  {step.entry}: {_change(step)}" for step in found.declined)]
        if found.forks:
            lines += ["", "parallel paths:", *(f"  {_fork(fork)}" for fork in found.forks)]
        if self.advice:
            lines += ["", "would change what runs, and is not applied:"]
            lines += [
                f"  {one.change}: {one.seconds * 1e6:.1f} us of work, {_mib(one.peak)} MiB at the peak"
                for one in self.advice
            ]
        return "\n".join(lines)


def _effects(found: Optimized) -> str:
    rows = [["technique", "latency us", "peak MiB", "kernels", "calls", "Mflop", "error", "pass"]]
    rows.append(["", *_cells(found.before), "", "as given"])
    for step in found.steps:
        error = f"{step.error:.2g}" if step.error else ""
        rows.append([step.technique, *_cells(step.after), error, step.entry])
    return table(rows)


def _cells(figures: Figures) -> list[str]:
    return [
        f"{figures.latency * 1e6:.1f}",
        _mib(figures.peak),
        str(figures.kernels),
        str(figures.calls),
        f"{figures.flops / 1e6:.1f}",
    ]


def _change(step: Step) -> str:
    before, after = step.before, step.after
    return (
        f"latency {before.latency * 1e6:.1f} to {after.latency * 1e6:.1f} us, "
        f"peak {_mib(before.peak)} to {_mib(after.peak)} MiB"
    )


def _fork(fork: Fork) -> str:
    names = [branch.nodes[0] for branch in fork.branches[:NAMED]]
    more = len(fork.branches) - len(names)
    rest = f" and {more} more" if more else ""
    return f"{fork.at} to {fork.join or 'the results'}: {', '.join(names)}{rest}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.2f}"


def _numbers(figures: Figures) -> dict[str, Any]:
    return {
        "latency_seconds": figures.latency,
        "roofline_seconds": figures.seconds,
        "kernels": figures.kernels,
        "calls": figures.calls,
        "flops": figures.flops,
        "bytes": figures.bytes,
        "saved_bytes": figures.saved,
        "peak_bytes": figures.peak,
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "technique": step.technique,
        "pass": step.entry,
        "law": step.law.value,
        "error": step.error,
        "before": _numbers(step.before),
        "after": _numbers(step.after),
    }
