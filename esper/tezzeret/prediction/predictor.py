"""The time of a training step on the torch tier: a sum over operators, corrected, with an interval.

The sum takes what each operator takes alone. What the sum gets wrong (tensors that caches have lost by the
time they are read, say) is learned of measured blueprints by ridge regression of the logarithm on a few
figures of the whole. How wrong that still is, in units of the uncertainty that the parts
bring along, is known of the families of blueprints that were measured, each predicted without itself; that
gives intervals which hold for a further family.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, size_values
from esper.tezzeret.prediction.calls import Calls, calls_of
from esper.tezzeret.prediction.conformal import bound
from esper.tezzeret.prediction.errors import PredictorForeign
from esper.tezzeret.prediction.operators import DIRECTIONS, Operators, learned
from esper.tezzeret.prediction.profile import Profile

SCHEMA_VERSION = 1
LEVEL = 0.9
RIDGE = 3.0
"""How many measured blueprints the assumption of no correction is worth."""

LEAST_FAMILIES = 9
"""With fewer nothing is corrected: a family's own trait would pass for everyone's."""

FLOOR = 0.02
"""Deviation of the logarithm that no prediction is better than."""

Quantity = Literal["forward", "step"]
QUANTITIES: tuple[Quantity, ...] = ("forward", "step")
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Observation:
    """A blueprint that was measured: the family that it belongs to, its calls, seconds by quantity."""

    family: str
    calls: Calls
    seconds: Mapping[Quantity, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds, and the interval that holds a further family's with probability `level` of the prediction.

    low is 0 and high infinite where too few families were measured to tell.
    """

    seconds: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.high)


@dataclass(frozen=True, slots=True)
class Prediction:
    """forward, step: of one call, and of one with its gradients. families: on how many the level rests.

    unmeasured: the operators of the blueprint that the profile does not have.
    """

    device: str
    forward: Estimate
    step: Estimate
    level: float
    families: int
    unmeasured: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Of a blueprint's parts: seconds, their uncertainty as a deviation of the logarithm, and its figures."""

    seconds: float
    deviation: float
    figures: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """log(measured / sum) is offset + (figures - centre) / scale · slopes; figures are a `Sum`'s."""

    offset: float
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    slopes: tuple[float, ...]

    def __call__(self, found: Sum) -> float:
        """The logarithm of the corrected time."""
        steps = zip(found.figures, self.centre, self.scale, self.slopes, strict=True)
        change = sum((figure - centre) / scale * slope for figure, centre, scale, slope in steps)
        return math.log(found.seconds) + self.offset + change


NO_CORRECTION = Correction(0.0, (0.0,) * 4, (1.0,) * 4, (0.0,) * 4)


@dataclass(frozen=True)
class Predictor:
    """Predicts for one thread of the processor `device`; made by `fit`, or read by `from_json`.

    scores: by quantity, of each observation: its family, and by how many deviations it was missed.
    """

    device: str
    torch: str
    operators: Operators
    around: Mapping[Quantity, float]
    corrections: Mapping[Quantity, Correction]
    scores: Mapping[Quantity, tuple[tuple[str, float], ...]]

    def __call__(
        self, ir: BlueprintIR, sizes: Mapping[str, SizeValue] | None = None, level: float = LEVEL
    ) -> Prediction:
        """Of `ir` at `sizes`; sizes not given are the defaults of `size_values`.

        Raises `UnmeasuredType`, and what `size_values` raises.
        """
        return self.of(calls_of(ir, size_values(ir, sizes)), level)

    def of(self, calls: Calls, level: float = LEVEL) -> Prediction:
        sums = self.sums(calls)
        estimates = {quantity: self._estimate(quantity, sums[quantity], level) for quantity in QUANTITIES}
        families = len({family for family, _ in self.scores["step"]})
        unmeasured = tuple(sorted({call.op for call in calls.calls} - set(self.operators.models)))
        return Prediction(self.device, estimates["forward"], estimates["step"], level, families, unmeasured)

    def _estimate(self, quantity: Quantity, found: Sum, level: float) -> Estimate:
        middle = self.corrections[quantity](found)
        reach = bound(self.scores[quantity], level) * found.deviation
        low, high = (math.exp(middle - reach), math.exp(middle + reach)) if reach < 50 else (0.0, math.inf)
        return Estimate(math.exp(middle), low, high)

    def sums(self, calls: Calls) -> dict[Quantity, Sum]:
        """Before any correction."""
        times = self.operators.times(calls.calls)
        found: dict[Quantity, Sum] = {}
        for quantity in QUANTITIES:
            parts = [part for pair in times for part in (pair[:1] if quantity == "forward" else pair)]
            seconds = self.around[quantity] + sum(part.seconds for part in parts)
            spread = sum(part.deviation for part in parts) / seconds
            host = sum(self.operators.host[direction] for direction in DIRECTIONS) * len(calls.calls)
            figures = (
                math.log2(seconds * 1e3),
                math.log2(1 + calls.held / 2**20),
                math.log2(1 + len(calls.calls)),
                min(1.0, (self.around[quantity] + host) / seconds),
            )
            found[quantity] = Sum(seconds, math.hypot(FLOOR, spread), figures)
        return found

    def to_json(self) -> str:
        """All of it as one JSON document: numbers and names."""
        corrections = {
            quantity: {
                "offset": one.offset,
                "centre": list(one.centre),
                "scale": list(one.scale),
                "slopes": list(one.slopes),
            }
            for quantity, one in self.corrections.items()
        }
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "device": self.device,
                "torch": self.torch,
                "operators": self.operators.to_document(),
                "around": dict(self.around),
                "corrections": corrections,
                "scores": {quantity: [list(one) for one in found] for quantity, found in self.scores.items()},
            },
            allow_nan=False,
        )

    @staticmethod
    def from_json(text: str, path: object) -> Predictor:
        """What `to_json` wrote. Raises `PredictorForeign`, which names `path`, for anything else."""
        try:
            found: dict[str, Any] = json.loads(text)
            if found["schema_version"] != SCHEMA_VERSION:
                raise ValueError(f"schema version {found['schema_version']}, expected {SCHEMA_VERSION}")
            return Predictor(
                str(found["device"]),
                str(found["torch"]),
                Operators.from_document(found["operators"]),
                {quantity: float(found["around"][quantity]) for quantity in QUANTITIES},
                {quantity: _correction(found["corrections"][quantity]) for quantity in QUANTITIES},
                {
                    quantity: tuple(
                        (str(family), float(score)) for family, score in found["scores"][quantity]
                    )
                    for quantity in QUANTITIES
                },
            )
        except KeyError as error:
            raise PredictorForeign(path=path, reason=f"{error} is missing") from None
        except (ValueError, TypeError, AttributeError) as error:
            raise PredictorForeign(path=path, reason=str(error)) from None


def _correction(found: Mapping[str, Any]) -> Correction:
    width = len(NO_CORRECTION.slopes)
    vectors = [tuple(map(float, found[name])) for name in ("centre", "scale", "slopes")]
    if any(len(vector) != width for vector in vectors):
        raise ValueError(f"a correction has {width} figures")
    return Correction(float(found["offset"]), *vectors)


def fit(profile: Profile, observations: Sequence[Observation] = ()) -> Predictor:
    """What `profile` and measured blueprints teach. Takes seconds. Raises `MissingPackage`."""
    around: dict[Quantity, float] = {
        "forward": profile.around("forward"),
        "step": profile.around("forward") + profile.around("backward"),
    }
    bare = Predictor(
        profile.device,
        profile.torch,
        learned(profile),
        around,
        dict.fromkeys(QUANTITIES, NO_CORRECTION),
        dict.fromkeys(QUANTITIES, ()),
    )
    return corrected(bare, observations)


def corrected(bare: Predictor, observations: Sequence[Observation]) -> Predictor:
    """`bare` with the correction and the scores that `observations` give."""
    sums = [bare.sums(one.calls) for one in observations]
    families = [one.family for one in observations]
    corrections: dict[Quantity, Correction] = {}
    scores: dict[Quantity, tuple[tuple[str, float], ...]] = {}
    for quantity in QUANTITIES:
        found = [one[quantity] for one in sums]
        seconds = [one.seconds[quantity] for one in observations]
        corrections[quantity] = ridge(found, seconds, families)
        scores[quantity] = tuple(_left_out(found, seconds, families))
    return Predictor(bare.device, bare.torch, bare.operators, bare.around, corrections, scores)


def _left_out(
    sums: Sequence[Sum], seconds: Sequence[float], families: Sequence[str]
) -> list[tuple[str, float]]:
    """By how many deviations each is missed by a correction that does not know its family."""
    found: list[tuple[str, float]] = []
    for family in dict.fromkeys(families):
        rest = [place for place, other in enumerate(families) if other != family]
        correction = ridge(
            [sums[place] for place in rest],
            [seconds[place] for place in rest],
            [families[place] for place in rest],
        )
        found += [
            (family, abs(math.log(seconds[place]) - correction(sums[place])) / sums[place].deviation)
            for place, other in enumerate(families)
            if other == family
        ]
    return found


def ridge(sums: Sequence[Sum], seconds: Sequence[float], families: Sequence[str]) -> Correction:
    """The correction by ridge regression, weighted by how certain each sum is, a family counting as one.

    `NO_CORRECTION` with fewer than `LEAST_FAMILIES` families.
    """
    if len(set(families)) < LEAST_FAMILIES:
        return NO_CORRECTION
    figures: Floats = np.array([one.figures for one in sums])
    targets: Floats = np.log(np.array(seconds)) - np.log(np.array([one.seconds for one in sums]))
    sizes = {family: families.count(family) for family in set(families)}
    certain = np.array(
        [1 / (one.deviation**2 * sizes[family]) for one, family in zip(sums, families, strict=True)]
    )
    weights = certain / certain.sum() * len(set(families))
    centre = np.average(figures, axis=0, weights=weights)
    scale = np.maximum(np.sqrt(np.average((figures - centre) ** 2, axis=0, weights=weights)), 1e-6)
    standard = (figures - centre) / scale
    offset = float(np.average(targets, weights=weights)) * weights.sum() / (weights.sum() + RIDGE)
    penalty = RIDGE * np.eye(standard.shape[1])
    gram = standard.T @ (weights[:, None] * standard) + penalty
    slopes = np.linalg.solve(gram, standard.T @ (weights * (targets - offset)))
    vectors = (tuple(map(float, vector)) for vector in (centre, scale, slopes))
    return Correction(offset, *vectors)
