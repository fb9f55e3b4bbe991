"""A device's profile: how long each operator took there, alone, at sizes of a sweep.

Measurements are what is kept; what is fitted to them can be fitted again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esper.tezzeret.prediction.device import Rates
from esper.tezzeret.prediction.errors import ProfileForeign
from esper.tezzeret.prediction.sweep import Use

CHAIN = 9
"""Operators in a row of which the cost of one, and of the call around them, is told."""

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Direction = Literal["forward", "backward"]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Both(_Closed):
    """Seconds of a call, forward and backward."""

    forward: Seconds
    backward: Seconds

    def __getitem__(self, direction: Direction) -> float:
        return self.forward if direction == "forward" else self.backward


class Measured(_Closed):
    """A use and its least time."""

    op: str
    inputs: tuple[tuple[Annotated[int, Field(ge=1)], ...], ...]
    expression: str
    time: Both

    @property
    def use(self) -> Use:
        return Use(self.op, self.inputs, self.expression)


class Profile(_Closed):
    """Of one thread of the processor `device`.

    torch: the version. flops_per_second, bytes_per_second: as in `Rates`. single, chained: a tiny operator
    alone, and `CHAIN` of them in a row.
    """

    schema_version: Literal[1] = 1
    device: str
    torch: str
    flops_per_second: Seconds
    bytes_per_second: Seconds
    single: Both
    chained: Both
    uses: tuple[Measured, ...]

    @property
    def rates(self) -> Rates:
        return Rates(self.flops_per_second, self.bytes_per_second)

    def operator(self, direction: Direction) -> float:
        """Seconds that an operator costs the host, however small its tensors."""
        return max((self.chained[direction] - self.single[direction]) / (CHAIN - 1), 1e-7)

    def around(self, direction: Direction) -> float:
        """Seconds that a call of a seed costs apart from its operators."""
        return max(self.single[direction] - self.operator(direction), 0.0)

    @staticmethod
    def from_json(text: str, path: object) -> Profile:
        """Raises `ProfileForeign`, which names `path`."""
        try:
            return Profile.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the document"
            raise ProfileForeign(path=path, reason=f"{place}: {first['msg']}") from None


def tiny(count: int) -> Use:
    """So many operators in a row, on a few elements."""
    return Use("sigmoid", ((2, 4, 8),), "sigmoid(" * count + "x" + ")" * count)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is to be measured, in an order that spreads each operator over the time it takes."""

    uses: tuple[Use, ...]

    @staticmethod
    def shuffled(uses: Iterable[Use], seed: int) -> Sweep:
        found = [tiny(1), tiny(CHAIN), *uses]
        random.Random(seed).shuffle(found)
        return Sweep(tuple(found))

    def measured(self, seconds: float, measure: Callable[[Use, float], Both]) -> Iterator[tuple[Use, Both]]:
        """Each use with its least time in so many seconds."""
        for use in self.uses:
            yield use, measure(use, seconds)


def merged(before: dict[Use, Both], use: Use, found: Both) -> None:
    """Keeps the lesser of each direction."""
    known = before.get(use)
    before[use] = (
        found
        if known is None
        else Both(forward=min(known.forward, found.forward), backward=min(known.backward, found.backward))
    )


def profile_of(device: str, torch: str, rates: Rates, times: dict[Use, Both]) -> Profile:
    """Raises `KeyError` unless the tiny uses are among `times`."""
    single, chained = times[tiny(1)], times[tiny(CHAIN)]
    uses = tuple(
        Measured(op=use.op, inputs=use.inputs, expression=use.expression, time=time)
        for use, time in times.items()
        if use not in (tiny(1), tiny(CHAIN))
    )
    return Profile(
        device=device,
        torch=torch,
        flops_per_second=rates.flops_per_second,
        bytes_per_second=rates.bytes_per_second,
        single=single,
        chained=chained,
        uses=uses,
    )
