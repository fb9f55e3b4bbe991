"""One parameter's domain as a search sees it: a finite set of values, or an interval of numbers."""

from __future__ import annotations

import math
import random

from esper.lang import Interval, ParameterValue

Domain = tuple[ParameterValue, ...] | Interval

STEPS = 16
"""Into how many parts neighbours divide an interval."""


def drawn(domain: Domain, rng: random.Random) -> ParameterValue:
    """A value of `domain`, uniformly; from an interval marked `log`, evenly by magnitude."""
    if not isinstance(domain, Interval):
        return domain[rng.randrange(len(domain))]
    return _at(domain, rng.random())


def mutated_value(domain: Domain, value: ParameterValue, rng: random.Random) -> ParameterValue:
    """Another value of `domain` than `value`, if there is one.

    Of ordered numbers the next smaller or greater half of the time, else any: a search then both refines and
    leaps. Of an interval, a normal step of a sixteenth of its width, or any value.
    """
    if isinstance(domain, Interval):
        return _another_number(domain, value, rng)
    others = [other for other in domain if not is_same(other, value)]
    if not others:
        return value
    near = beside(domain, value)
    return rng.choice(near if near and rng.random() < 0.5 else others)


def _another_number(domain: Interval, value: ParameterValue, rng: random.Random) -> ParameterValue:
    if domain.low == domain.high:
        return value
    while True:
        place = rng.random()
        if rng.random() < 0.5:
            place = min(max(_place(domain, value) + rng.gauss(0.0, 1 / STEPS), 0.0), 1.0)
        found = _at(domain, place)
        if found != value:
            return found


def beside(domain: Domain, value: ParameterValue) -> list[ParameterValue]:
    """The values next to `value`: of numbers the next smaller and greater, of names all others."""
    if isinstance(domain, Interval):
        step, place = 1 / STEPS, _place(domain, value)
        found = [_at(domain, p) for p in (place - step, place + step) if 0.0 <= p <= 1.0]
        return [other for other in found if other != value]
    numbers = [v for v in domain if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(domain):
        return [other for other in domain if not is_same(other, value)]
    ordered = sorted(numbers)
    index = next((i for i, other in enumerate(ordered) if is_same(other, value)), None)
    return [] if index is None else [*ordered[max(index - 1, 0) : index], *ordered[index + 1 : index + 2]]


def holds(domain: Domain, value: ParameterValue) -> bool:
    """Whether `value`, of the right kind, is one of `domain`: 1 is not True, and 2.0 is not 2."""
    if isinstance(domain, Interval):
        return not isinstance(value, bool) and isinstance(value, float) and value in domain
    return any(is_same(other, value) for other in domain)


def is_same(one: ParameterValue, other: ParameterValue) -> bool:
    return type(one) is type(other) and one == other


def _at(domain: Interval, place: float) -> float:
    """The number at `place` from 0 to 1; rounding never leaves the interval."""
    if not domain.is_log:
        found = domain.low + (domain.high - domain.low) * place
    else:
        low, high = math.log(domain.low), math.log(domain.high)
        found = math.exp(low + (high - low) * place)
    return min(max(found, domain.low), domain.high)


def _place(domain: Interval, value: ParameterValue) -> float:
    assert isinstance(value, int | float)
    if domain.low == domain.high:
        return 0.0
    if not domain.is_log:
        return (value - domain.low) / (domain.high - domain.low)
    return math.log(value / domain.low) / math.log(domain.high / domain.low)
