"""What every graph of a box has at least, and which constraints that breaks."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace

from esper.tezzeret.constraints import Constraint
from esper.tezzeret.costs.figures import DEVICES, REFERENCE_DEVICE, Work

REFERENCE_TARGET = next(target for target, device in DEVICES.items() if device == REFERENCE_DEVICE)


@dataclass(frozen=True, slots=True)
class Least:
    """What each graph of a box has at least: parameters, their bytes; of its products FLOPs, bytes, and
    seconds by each of `DEVICES`."""

    params: float = 0
    weight_bytes: float = 0
    flops: float = 0
    bytes: float = 0
    seconds: tuple[float, ...] = (0.0,) * len(DEVICES)

    def __add__(self, other: Least) -> Least:
        return self._with(operator.add, other)

    def least(self, other: Least) -> Least:
        return self._with(min, other)

    def _with(self, join: Callable[[float, float], float], other: Least) -> Least:
        return Least(
            join(self.params, other.params),
            join(self.weight_bytes, other.weight_bytes),
            join(self.flops, other.flops),
            join(self.bytes, other.bytes),
            tuple(map(join, self.seconds, other.seconds)),
        )

    @property
    def products(self) -> Least:
        """Without the weights."""
        return replace(self, params=0, weight_bytes=0)

    @property
    def weights(self) -> Least:
        return Least(self.params, self.weight_bytes)

    def of(self, constraint: Constraint) -> float:
        """What the figure that `constraint` bounds is at least; 0 where nothing is known of it."""
        match constraint.quantity:
            case "params" | "flops" | "bytes":
                return float(getattr(self, constraint.quantity))
            case "memory":
                return self.weight_bytes
            case "memory_mb":
                return self.weight_bytes / 2**20
            case "latency_ms":
                target = constraint.target or REFERENCE_TARGET
                # Times are rounded when they are summed: a bound that is only just broken is left open.
                return self.seconds[[*DEVICES].index(target)] * 1e3 * (1 - 1e-9)
        return 0.0

    def breaks(self, constraint: Constraint) -> bool:
        """Whether every figure from this on up is beyond the bound."""
        return constraint.comparison in ("<", "<=") and not constraint.holds(self.of(constraint))


NONE_FITS = Least(math.inf, math.inf, math.inf, math.inf, (math.inf,) * len(DEVICES))
"""Of a box whose points are all refused."""


def of_work(work: Work) -> Least:
    seconds = tuple(work.seconds(device) for device in DEVICES.values())
    return Least(0, 0, work.flops, work.bytes, seconds)
