"""Bayesian optimisation by Optuna: a tree-structured Parzen estimator (TPE; arXiv:2304.11127).

It models where good points lie and where others do, jointly over all parameters, and asks for what the first
makes likelier than the second. What breaks a constraint counts among the others, by how much it breaks it.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from esper.errors import MissingPackage
from esper.lang import Interval
from esper.tezzeret.algorithms.protocol import Outcome
from esper.tezzeret.algorithms.unseen import Unseen
from esper.tezzeret.space import Domain, Point, Space
from esper.tezzeret.space.domains import are_numbers

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

VIOLATION = "violation"


class BayesianSearch:
    """TPE, multivariate and grouped; one objective or several. A suggestion that was met is walked away from.

    Sets of numbers are modelled by their order, others as categories. Raises `MissingPackage`.
    """

    def __init__(self, space: Space, rng: random.Random, objectives: int = 1, start: int = 10) -> None:
        """start: so many points are random before the model is asked."""
        self._values = {name: _ordered(domain) for name, domain in space.domains.items()}
        self._unseen = Unseen(space, rng)
        self._space = space
        self._optuna = _optuna()
        self._distributions = {name: self._distribution(domain) for name, domain in self._values.items()}
        self._trials: dict[str, optuna.Trial] = {}
        self._objectives = objectives
        with _quiet(self._optuna):
            sampler = self._optuna.samplers.TPESampler(
                n_startup_trials=start, seed=rng.getrandbits(32), multivariate=True, group=True
            )
            self._study = self._optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)

    def ask(self) -> Point | None:
        """A point to evaluate next; None where the space has no other."""
        trial = self._study.ask(self._distributions)
        suggested = self._space.settled(self._point(trial.params))
        point = self._unseen.take(_first_then(suggested, self._unseen.walk(suggested)))
        if point != suggested:
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        if point is None:
            return None
        if point != suggested:
            self._study.enqueue_trial(self._parameters(point))
            trial = self._study.ask(self._distributions)
        self._trials[self._space.encode(point)] = trial
        return point

    def tell(self, point: Point, outcome: Outcome) -> None:
        """How `point` turned out, whether it was asked for or not."""
        self._unseen.mark(point)
        # Of what is infeasible only the violation counts; Optuna still wants figures.
        values = list(outcome.objectives) or [0.0] * self._objectives
        trial = self._trials.pop(self._space.encode(point), None)
        if trial is not None:
            trial.set_constraint(VIOLATION, outcome.violation)
            self._study.tell(trial, values)
            return
        parameters = self._parameters(point)
        told = self._optuna.trial.create_trial(
            values=values,
            params=parameters,
            distributions={name: self._distributions[name] for name in parameters},
            constraints={VIOLATION: outcome.violation},
        )
        self._study.add_trial(told)

    def _distribution(self, domain: Domain) -> BaseDistribution:
        kinds = self._optuna.distributions
        found: BaseDistribution
        if isinstance(domain, Interval):
            found = kinds.FloatDistribution(domain.low, domain.high, log=domain.is_log)
        elif are_numbers(domain):
            found = kinds.IntDistribution(0, len(domain) - 1)
        else:
            found = kinds.CategoricalDistribution(range(len(domain)))
        return found

    def _point(self, parameters: Mapping[str, Any]) -> Point:
        return {
            name: parameters[name] if isinstance(domain, Interval) else domain[parameters[name]]
            for name, domain in self._values.items()
        }

    def _parameters(self, point: Point) -> dict[str, Any]:
        """Those that matter at `point`: where one does not, it may have a default outside its domain."""
        return {
            name: point[name] if isinstance(domain, Interval) else domain.index(point[name])
            for name, domain in self._values.items()
            if point[name] in domain
        }


def _first_then(first: Point, others: Iterator[Point]) -> Iterator[Point]:
    yield first
    yield from others


def _ordered(domain: Domain) -> Domain:
    if isinstance(domain, Interval) or not are_numbers(domain):
        return domain
    return tuple(sorted(domain))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingPackage(package="optuna", purpose="the algorithm `bayesian`", extra="search") from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna tells on stderr that a study was made, and warns that groups are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
