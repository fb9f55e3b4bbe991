"""The figures of a finished study: every arm's means, growth against each, and which claims hold.

Growth stands for the arm `GROWN`. Accuracies are in 0..1; what is said
of differences is in points, hundredths of that.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import fmean

from esper.simic.study.arms import GROWN
from esper.simic.study.errors import ArmsMissing
from esper.simic.study.jobs import FINAL, Study
from esper.simic.study.plan import Claim
from esper.simic.study.records import Outcome, Settings
from esper.simic.study.statistics import Interval, PairedTest, holm, interval, paired


@dataclass(frozen=True)
class Versus:
    """Growth minus an arm in test accuracy, seed by seed. `p_holm` is corrected for all rivals together."""

    test: PairedTest
    p_holm: float


@dataclass(frozen=True)
class ArmFigures:
    """One arm over all seeds."""

    name: str
    title: str
    is_grown: bool
    """Whether it is the growing arm that claims are about."""
    is_sunk: bool
    accuracy: Interval
    loss: Interval
    first_task: Interval | None
    """Accuracy on the first of two tasks, afterwards."""
    parameters: Interval
    flops: Interval
    purposes: dict[str, float]
    """Mean operations by purpose."""
    steps: float
    seconds: float
    """Of a run, on the machine that did it."""
    settings: Settings
    validation: tuple[float, ...]
    """Mean held-out accuracy of each trial on the tuning seeds."""
    planted: int
    kept: int
    starved: int
    """Of the seeds planted, those whose gradient was below a thousandth of the host's."""
    versus: Versus | None
    """None for growth itself, and for what came before."""


@dataclass(frozen=True)
class Verdict:
    """A claim, the difference it rests on, p of a difference that is the bound, and whether it holds.

    p: two-sided, by the paired t test; `p_holm` is corrected for all claims of the question together.
    """

    claim: Claim
    difference: Interval
    p: float
    p_holm: float
    holds: bool


@dataclass(frozen=True)
class Comparison:
    """All figures of a study."""

    study: Study
    arms: tuple[ArmFigures, ...]
    verdicts: tuple[Verdict, ...]
    forgotten: Interval | None
    """Points of the first task that growth has lost."""

    @property
    def grown(self) -> ArmFigures:
        return next(arm for arm in self.arms if arm.is_grown)

    def arm(self, name: str) -> ArmFigures:
        return next(arm for arm in self.arms if arm.name == name)


STARVED = 1e-3


def compare(study: Study) -> Comparison:
    """Raises `ArmsMissing` unless every arm has every seed, `StudyUnreadable`."""
    _require_all(study)
    outcomes = {arm.name: study.finals(arm) for arm in study.question.arms}
    grown = GROWN
    rivals = [arm.name for arm in study.question.arms if arm.name != grown and not arm.is_sunk]
    tests = [paired(_accuracies(outcomes[grown]), _accuracies(outcomes[name])) for name in rivals]
    corrected = holm([test.p for test in tests])
    versus = {name: Versus(test, p) for name, test, p in zip(rivals, tests, corrected, strict=True)}
    arms = tuple(
        _figures(study, arm.name, outcomes[arm.name], arm.name == grown, versus.get(arm.name))
        for arm in study.question.arms
    )
    return Comparison(study, arms, _verdicts(study, outcomes), _forgotten(study, outcomes, grown))


def _verdicts(study: Study, outcomes: dict[str, list[Outcome]]) -> tuple[Verdict, ...]:
    claims = study.question.claims
    grown = _accuracies(outcomes[GROWN])
    tests = [paired(grown, _accuracies(outcomes[claim.rival]), claim.above / 100) for claim in claims]
    corrected = holm([test.p for test in tests])
    return tuple(
        Verdict(claim, test.difference.in_points, test.p, p, test.difference.in_points.low > claim.above)
        for claim, test, p in zip(claims, tests, corrected, strict=True)
    )


def _require_all(study: Study) -> None:
    missing = Counter(
        arm.name
        for arm in study.question.arms
        for seed in study.seeds(FINAL)
        if not study.file(FINAL, arm, 0, seed).exists()
    )
    if missing:
        listed = ", ".join(f"`{name}` lacks {count} of its seeds" for name, count in missing.items())
        raise ArmsMissing(missing=f"arm {listed}")


def _figures(
    study: Study, name: str, outcomes: list[Outcome], is_grown: bool, versus: Versus | None
) -> ArmFigures:
    arm = study.question.arm(name)
    trials = range(len(study.trials(arm)))
    purposes: Counter[str] = Counter()
    for outcome in outcomes:
        purposes.update(outcome.flops)
    seeds = [seed for outcome in outcomes for seed in outcome.seeds]
    firsts = [outcome.first_task.accuracy for outcome in outcomes if outcome.first_task is not None]
    return ArmFigures(
        name=name,
        title=arm.title,
        is_grown=is_grown,
        is_sunk=arm.is_sunk,
        accuracy=interval(_accuracies(outcomes)),
        loss=interval([outcome.test.loss for outcome in outcomes]),
        first_task=interval(firsts) if firsts else None,
        parameters=interval([float(outcome.parameters) for outcome in outcomes]),
        flops=interval([float(outcome.total_flops) for outcome in outcomes]),
        purposes={purpose: count / len(outcomes) for purpose, count in purposes.items()},
        steps=fmean(outcome.steps for outcome in outcomes),
        seconds=fmean(outcome.seconds for outcome in outcomes),
        settings=study.trials(arm)[study.choice(arm)],
        validation=tuple(study.validation(arm, trial) for trial in trials),
        planted=len(seeds),
        kept=sum(seed.stage == "FOSSILIZED" for seed in seeds),
        starved=sum(seed.gradient_ratio is not None and seed.gradient_ratio < STARVED for seed in seeds),
        versus=versus,
    )


def _forgotten(study: Study, outcomes: dict[str, list[Outcome]], grown: str) -> Interval | None:
    if study.question.most_forgotten is None:
        return None
    before = _accuracies(outcomes["host"])
    after = [outcome.first_task.accuracy for outcome in outcomes[grown] if outcome.first_task is not None]
    return paired(before, after).difference.in_points


def _accuracies(outcomes: list[Outcome]) -> list[float]:
    return [outcome.test.accuracy for outcome in outcomes]
