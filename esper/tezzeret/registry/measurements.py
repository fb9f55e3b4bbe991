"""What was measured of blueprints, and whether a re-measurement is worse beyond its noise.

A measurement has a standard error, so it stands for an interval of `WIDTH` standard errors to each side. One
is worse than an earlier one where its whole interval lies beyond the other's. It is compared with the best
of all earlier ones, so that many small losses, each within the noise, are told in the end; the intervals are
wide because the best of many is lucky: of a hundred equal normal measurements the best lies some 2.5 standard
errors off, and the next must then lie 3.5 off on the other side, which happens once in four thousand times.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from esper.errors import WrongArgument
from esper.lang.names import did_you_mean
from esper.tezzeret.costs.figures import QUANTITIES
from esper.tezzeret.database import Database
from esper.tezzeret.errors import UnknownQuantity
from esper.tezzeret.registry.clock import Clock
from esper.tezzeret.registry.versions import Versions

WIDTH = 3.0
"""Standard errors to each side of a measurement, see above."""

IS_MORE_BETTER = {**dict.fromkeys(QUANTITIES, False), "power_w": False, "accuracy": True}
"""The quantities that can be measured."""

TABLES = """
CREATE TABLE measurements (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    ir_hash TEXT NOT NULL REFERENCES blueprints,
    quantity TEXT NOT NULL,
    device TEXT NOT NULL,
    conditions TEXT NOT NULL,
    value REAL NOT NULL,
    standard_error REAL NOT NULL,
    time REAL NOT NULL
) STRICT;
CREATE INDEX measurements_of ON measurements (ir_hash, quantity, device, conditions);
"""

_COLUMNS = "ir_hash, quantity, device, conditions, value, standard_error, time"


@dataclass(frozen=True, slots=True)
class Measurement:
    """device: as its driver names it. conditions: all else that a re-measurement has to share, such as sizes,
    precision and threads; JSON can hold them. value, standard_error: in the quantity's unit. time: seconds
    since 1970."""

    ir_hash: str
    quantity: str
    device: str
    conditions: Mapping[str, Any]
    value: float
    standard_error: float
    time: float

    def is_worse_than(self, other: Measurement) -> bool:
        """Whether it is so beyond the noise of both."""
        sign = -1.0 if IS_MORE_BETTER[self.quantity] else 1.0
        least = sign * self.value - WIDTH * self.standard_error
        return least > sign * other.value + WIDTH * other.standard_error


@dataclass(frozen=True, slots=True)
class Regression:
    """`found` is worse than `best`, the best measurement of the same before it."""

    best: Measurement
    found: Measurement

    @property
    def share(self) -> float:
        """By how much, as a share of the best; infinite where that is 0."""
        change = abs(self.found.value - self.best.value)
        return change / abs(self.best.value) if self.best.value else math.inf


class Measurements:
    """The measurements of a registry's blueprints; none is ever changed."""

    def __init__(self, database: Database, versions: Versions, clock: Clock) -> None:
        self._database = database
        self._versions = versions
        self._clock = clock

    def add(
        self,
        ir_hash: str,
        quantity: str,
        value: float,
        *,
        standard_error: float,
        device: str,
        conditions: Mapping[str, Any] | None = None,
    ) -> Regression | None:
        """Keeps a measurement; the regression that it shows, if it is one.

        standard_error: of `value`, 0 for what is counted. Raises `UnregisteredBlueprint`, `UnknownQuantity`,
        and `WrongArgument` for a number that is not finite, or an error below 0.
        """
        _require_quantity(quantity)
        _require_number("value", value)
        _require_number("standard_error", standard_error)
        if standard_error < 0:
            raise WrongArgument(argument="standard_error", found=standard_error, expected="0 or more")
        under = json.dumps(dict(conditions or {}), sort_keys=True, allow_nan=False)
        row = (ir_hash, quantity, device, under, float(value), float(standard_error), self._clock())
        found = self._measurement(row)
        with self._database.writing() as connection:
            self._versions.require_blueprint(ir_hash)
            best = self._best(found, under, None)
            connection.execute(
                f"INSERT INTO measurements ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        return _regression(best, found)

    def of(self, ir_hash: str) -> list[Measurement]:
        """All of one blueprint, in the order in which they were made; empty where it is unknown."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM measurements WHERE ir_hash = ? ORDER BY number", ir_hash
        )
        return [self._measurement(row) for row in rows]

    def on(self, device: str, quantity: str) -> list[Measurement]:
        """All of one quantity on one device, in the order in which they were made."""
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM measurements WHERE device = ? AND quantity = ? ORDER BY number",
            *(device, quantity),
        )
        return [self._measurement(row) for row in rows]

    def regressions(self) -> list[Regression]:
        """Where the last measurement of its kind is worse than the best before it, the worst share first."""
        found = []
        for number, *row in self._database.rows(
            f"SELECT max(number), {_COLUMNS} FROM measurements"
            " GROUP BY ir_hash, quantity, device, conditions HAVING count(*) > 1"
        ):
            last = self._measurement(tuple(row))
            regression = _regression(self._best(last, row[3], number), last)
            if regression is not None:
                found.append(regression)
        return sorted(found, key=lambda regression: -regression.share)

    def _best(self, like: Measurement, under: str, before: int | None) -> Measurement | None:
        """The one whose interval ends best, of those of the same kind before a number."""
        worst_end = (
            "value - ? * standard_error" if IS_MORE_BETTER[like.quantity] else "-value - ? * standard_error"
        )
        rows = self._database.rows(
            f"SELECT {_COLUMNS} FROM measurements"
            " WHERE ir_hash = ? AND quantity = ? AND device = ? AND conditions = ?"
            f" AND (? IS NULL OR number < ?) ORDER BY {worst_end} DESC, number LIMIT 1",
            *(like.ir_hash, like.quantity, like.device, under, before, before, WIDTH),
        )
        return self._measurement(rows[0]) if rows else None

    def _measurement(self, row: tuple[Any, ...]) -> Measurement:
        ir_hash, quantity, device, conditions, value, standard_error, time = row
        try:
            under = json.loads(conditions)
            if quantity not in IS_MORE_BETTER:
                raise ValueError(quantity)
        except ValueError as error:
            reason = "a measurement in it cannot be read"
            raise self._database.format.foreign(path=self._database.path, reason=reason) from error
        return Measurement(ir_hash, quantity, device, under, value, standard_error, time)


def _regression(best: Measurement | None, found: Measurement) -> Regression | None:
    return None if best is None or not found.is_worse_than(best) else Regression(best, found)


def _require_quantity(name: str) -> None:
    if name not in IS_MORE_BETTER:
        fallback = f"there are {', '.join(IS_MORE_BETTER)}"
        raise UnknownQuantity(name=name, suggestion=did_you_mean(name, IS_MORE_BETTER, fallback))


def _require_number(argument: str, value: float) -> None:
    if not math.isfinite(value):
        raise WrongArgument(argument=argument, found=value, expected="a finite number")
