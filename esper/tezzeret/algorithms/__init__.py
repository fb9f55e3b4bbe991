"""The algorithms of a search, each behind `ask` and `tell`.

They know a space, random numbers and outcomes: neither blueprints, nor what an outcome was counted from.
"""

from __future__ import annotations

import random

from esper.tezzeret.algorithms.bayesian import BayesianSearch
from esper.tezzeret.algorithms.evolution import RegularizedEvolution
from esper.tezzeret.algorithms.local import LocalSearch
from esper.tezzeret.algorithms.nsga2 import NSGA2
from esper.tezzeret.algorithms.protocol import REFUSED, Algorithm, Outcome, surpasses
from esper.tezzeret.algorithms.random_search import RandomSearch
from esper.tezzeret.algorithms.started import Started
from esper.tezzeret.space import Space

__all__ = [
    "ALGORITHMS",
    "NSGA2",
    "ONE_OBJECTIVE",
    "REFUSED",
    "Algorithm",
    "BayesianSearch",
    "LocalSearch",
    "Outcome",
    "RandomSearch",
    "RegularizedEvolution",
    "Started",
    "make_algorithm",
    "surpasses",
]

ALGORITHMS = ("evolutionary", "random", "bayesian", "local")
"""By the names that commands take. `evolutionary` is NSGA-II where there are several objectives."""

ONE_OBJECTIVE = ("local",)
"""What climbs one figure, and is to be told a single one where there are several objectives."""


def make_algorithm(name: str, space: Space, seed: int, objectives: int = 1) -> Algorithm:
    """The algorithm called `name`, one of `ALGORITHMS`, at its start.

    objectives: how many figures an outcome has; `local` is one of `ONE_OBJECTIVE`, and takes but one.
    Raises `MissingPackage` for `bayesian` without Optuna.
    """
    rng = random.Random(seed)
    if name == "random":
        return RandomSearch(space, rng)
    if name == "bayesian":
        return BayesianSearch(space, rng, objectives)
    if name == "local":
        return LocalSearch(space, rng)
    assert name == "evolutionary", name
    return NSGA2(space, rng) if objectives > 1 else RegularizedEvolution(space, rng)
