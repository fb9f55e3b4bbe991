"""How long an operator takes: the roofline of the device, times a correction that is learned.

An operator's time is what it costs the host, plus the longer of its arithmetic and its memory traffic
(Williams et al. 2009), times the exponential of a Gaussian process in its figures. Backward has twice the
arithmetic and the traffic, and a process of its own. Kernels are predicted apart and summed, as nn-Meter does
(Zhang et al. 2021, "nn-Meter", MobiSys). Of an operator that was not measured the roofline alone is known,
and how far others lie from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from esper.tezzeret.prediction.calls import ACCUMULATE, VIEWS, Call, calls_of
from esper.tezzeret.prediction.gaussian import Gaussian, fitted
from esper.tezzeret.prediction.profile import Direction, Profile

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
_PASSES = {"forward": 1, "backward": 2}
RESOLUTION = 4e-7
"""Seconds by which the time of a use is uncertain, however short."""

SHIFT = 4e-6
"""Seconds that are added to a time before its logarithm is taken: of views next to nothing is left once
the call around them is taken off, and its logarithm would be noise."""

RELATIVE = 0.01
LEAST_USES = 6

REMEMBERED = 100_000
"""Calls whose times are kept."""


@dataclass(frozen=True, slots=True)
class Time:
    """Seconds, and their standard deviation."""

    seconds: float
    deviation: float


@dataclass(frozen=True)
class Operators:
    """What a profile teaches of operators. host: seconds of an operator, whatever its sizes."""

    flops_per_second: float
    bytes_per_second: float
    host: Mapping[Direction, float]
    models: Mapping[str, Mapping[Direction, Gaussian]]
    _known: dict[Call, tuple[Time, Time]] = field(default_factory=dict, compare=False, repr=False)

    def roofline(self, call: Call, direction: Direction) -> float:
        """Seconds that nothing has corrected."""
        passes = _PASSES[direction]
        work = max(call.flops / self.flops_per_second, call.bytes / self.bytes_per_second)
        if call.op == ACCUMULATE and direction == "forward":
            return 0.0
        return self.host[direction] + passes * work

    def times(self, calls: Sequence[Call]) -> list[tuple[Time, Time]]:
        """Of each call, forward and backward."""
        missing: dict[str, list[Call]] = {}
        for call in dict.fromkeys(calls):
            if call not in self._known:
                missing.setdefault(call.op, []).append(call)
        if len(self._known) > REMEMBERED:
            self._known.clear()
            return self.times(calls)
        for op, unseen in missing.items():
            both = [self._times(op, unseen, direction) for direction in DIRECTIONS]
            self._known.update(zip(unseen, zip(*both, strict=True), strict=True))
        return [self._known[call] for call in calls]

    def _times(self, op: str, calls: Sequence[Call], direction: Direction) -> list[Time]:
        base = [self.roofline(call, direction) for call in calls]
        if op == ACCUMULATE and direction == "forward":
            return [Time(0.0, 0.0) for _ in calls]
        model = self.models.get(op, {}).get(direction)
        if model is None:
            offset, deviation = self.unknown(direction)
            means, deviations = np.full(len(calls), offset), np.full(len(calls), deviation)
        else:
            points = [_point(call, seconds) for call, seconds in zip(calls, base, strict=True)]
            means, deviations = model(np.array(points, dtype=np.float64))
        found = []
        for seconds, mean, deviation in zip(base, means, deviations, strict=True):
            shifted = (seconds + SHIFT) * math.exp(mean)
            found.append(Time(max(shifted - SHIFT, 0.0), shifted * math.hypot(deviation, RELATIVE)))
        return found

    def unknown(self, direction: Direction) -> tuple[float, float]:
        """Mean and deviation of the logarithm of an operator's time by its roofline, over operators."""
        offsets = [found[direction].offset for op, found in self.models.items() if direction in found]
        if len(offsets) < 2:
            return 0.0, math.log(4)
        return float(np.mean(offsets)), float(np.std(offsets, ddof=1))

    def to_document(self) -> dict[str, Any]:
        return {
            "flops_per_second": self.flops_per_second,
            "bytes_per_second": self.bytes_per_second,
            "host": dict(self.host),
            "models": {
                op: {direction: model.to_document() for direction, model in found.items()}
                for op, found in self.models.items()
            },
        }

    @staticmethod
    def from_document(found: Mapping[str, Any]) -> Operators:
        """Raises `KeyError`, `TypeError` or `ValueError` for what `to_document` did not give."""
        models = {
            str(op): {
                direction: Gaussian.from_document(by[direction])
                for direction in DIRECTIONS
                if direction in by
            }
            for op, by in found["models"].items()
        }
        host = {direction: float(found["host"][direction]) for direction in DIRECTIONS}
        rates = float(found["flops_per_second"]), float(found["bytes_per_second"])
        return Operators(*rates, host, models)


def learned(profile: Profile) -> Operators:
    """What `profile` teaches. Takes seconds. Raises `MissingPackage`."""
    host = {direction: profile.operator(direction) for direction in DIRECTIONS}
    found = Operators(profile.flops_per_second, profile.bytes_per_second, host, {})
    samples = _samples(profile)
    for stage in _STAGES:
        models = dict(found.models)
        for op in sorted({op for op in samples if stage(op)}):
            models[op] = {
                direction: model
                for direction in DIRECTIONS
                if (model := _model(found, samples[op], direction, profile)) is not None
            }
        found = Operators(profile.flops_per_second, profile.bytes_per_second, host, models)
    return found


@dataclass(frozen=True, slots=True)
class _Sample:
    """The call that a use was drawn for, the other calls around it, and the time of all."""

    call: Call
    others: tuple[Call, ...]
    time: Mapping[Direction, float]


_STAGES = (
    lambda op: op in VIEWS,
    lambda op: op not in VIEWS and op != ACCUMULATE,
    lambda op: op == ACCUMULATE,
)
"""Each is learned with the time of the stages before it taken off."""


def _samples(profile: Profile) -> dict[str, list[_Sample]]:
    found: dict[str, list[_Sample]] = {}
    for measured in profile.uses:
        calls = calls_of(measured.use.lower(), {}).calls
        place = next(number for number, call in enumerate(calls) if call.op == measured.op)
        others = calls[:place] + calls[place + 1 :]
        times = {direction: measured.time[direction] for direction in DIRECTIONS}
        found.setdefault(measured.op, []).append(_Sample(calls[place], others, times))
    return found


def _point(call: Call, roofline: float) -> tuple[float, ...]:
    """What a model sees: a call's figures, and all of its work together."""
    return *call.figures, math.log2(roofline * 1e6)


def _model(
    known: Operators, samples: Iterable[_Sample], direction: Direction, profile: Profile
) -> Gaussian | None:
    points, targets, noises = [], [], []
    for sample in samples:
        base = known.roofline(sample.call, direction)
        if not base:
            continue
        around = [pair[DIRECTIONS.index(direction)].seconds for pair in known.times(sample.others)]
        net = max(sample.time[direction] - profile.around(direction) - sum(around), 0.0) + SHIFT
        points.append(_point(sample.call, base))
        targets.append(math.log(net / (base + SHIFT)))
        noises.append(math.hypot(RELATIVE, RESOLUTION / net))
    return fitted(points, targets, noises) if len(points) >= LEAST_USES else None
