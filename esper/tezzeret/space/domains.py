"""One parameter's domain as a search sees it: a finite set of values, or an interval of numbers."""

from __future__ import annotations

import functools
import math
import random
from typing import TypeGuard

from esper.lang import Interval, ParameterValue

Domain = tuple[ParameterValue, ...] | Interval

STEPS = 16
"""Into how many parts neighbours divide an interval."""
TRIES = 64
"""Draws of another number, where rounding leaves an interval few."""


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
    place = _places(domain, tuple(map(type, domain))).get((type(value), value), len(domain))
    others = len(domain) - (place < len(domain))
    if not others:
        return value
    near = beside(domain, value)
    if near and rng.random() < 0.5:
        return rng.choice(near)
    chosen = rng.randrange(others)
    return domain[chosen + (chosen >= place)]


def _another_number(domain: Interval, value: ParameterValue, rng: random.Random) -> ParameterValue:
    if domain.low == domain.high:
        return value
    for _ in range(TRIES):
        place = rng.random()
        if rng.random() < 0.5:
            place = min(max(place_of(domain, value) + rng.gauss(0.0, 1 / STEPS), 0.0), 1.0)
        found = _at(domain, place)
        if found != value:
            return found
    return domain.high if value == domain.low else domain.low


def beside(domain: Domain, value: ParameterValue) -> list[ParameterValue]:
    """The values next to `value`: of numbers the next smaller and greater, of names all others."""
    if isinstance(domain, Interval):
        step, place = 1 / STEPS, place_of(domain, value)
        found = [_at(domain, p) for p in (place - step, place + step) if 0.0 <= p <= 1.0]
        return [other for other in found if other != value]
    if not are_numbers(domain):
        return [other for other in domain if not is_same(other, value)]
    ordered, index = sorted(domain), rank(domain, value)
    return [] if index is None else [*ordered[max(index - 1, 0) : index], *ordered[index + 1 : index + 2]]


def rank(domain: tuple[ParameterValue, ...], value: ParameterValue) -> int | None:
    """How many of the numbers of `domain` are smaller; None for what is none of them."""
    return _ranks(domain, tuple(map(type, domain))).get((type(value), value))


Typed = tuple[type, ParameterValue]
"""What tells 1 from 1.0 and True as a key, which are equal."""


@functools.lru_cache(maxsize=512)
def _places(domain: tuple[ParameterValue, ...], types: tuple[type, ...]) -> dict[Typed, int]:
    return {one: place for place, one in enumerate(zip(types, domain, strict=True))}


@functools.lru_cache(maxsize=512)
def _ranks(domain: tuple[ParameterValue, ...], types: tuple[type, ...]) -> dict[Typed, int]:
    if not are_numbers(domain):
        return {}
    ordered = sorted(zip(domain, types, strict=True), key=lambda pair: pair[0])
    return {(kind, value): place for place, (value, kind) in enumerate(ordered)}


def holds(domain: Domain, value: ParameterValue) -> bool:
    """Whether `value`, of the right kind, is one of `domain`: 1 is not True, and 2.0 is not 2."""
    if isinstance(domain, Interval):
        return not isinstance(value, bool) and isinstance(value, float) and value in domain
    return any(is_same(other, value) for other in domain)


def are_numbers(domain: tuple[ParameterValue, ...]) -> TypeGuard[tuple[int | float, ...]]:
    """Whether all values are numbers, so that they have an order; truth values are none."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in domain)


def is_same(one: ParameterValue, other: ParameterValue) -> bool:
    return type(one) is type(other) and one == other


def _at(domain: Interval, place: float) -> float:
    """The number at `place` from 0 to 1; rounding never leaves the interval."""
    if not domain.is_log:
        found = domain.low * (1.0 - place) + domain.high * place  # their difference may be infinite
    else:
        found = math.exp(math.log(domain.low) * (1.0 - place) + math.log(domain.high) * place)
    return min(max(found, domain.low), domain.high)


def place_of(domain: Interval, value: ParameterValue) -> float:
    """Where `value` lies between the ends, 0 to 1; in an interval marked `log`, by magnitude."""
    assert isinstance(value, int | float)
    if domain.low == domain.high:
        return 0.0
    if domain.is_log:
        low, found, high = map(math.log, (domain.low, value, domain.high))
    else:
        scale = max(abs(domain.low), abs(domain.high))
        low, found, high = domain.low / scale, value / scale, domain.high / scale
    return (found - low) / (high - low) if low < high else 0.0
