"""The six gate levels, and what a gate reports: every figure, its bound, and whether it holds.

A figure that was not measured is None and fails its check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class GateLevel(IntEnum):
    """One gate before each forward transition."""

    G0 = 0
    """DORMANT to GERMINATED: the seed fits the slot."""
    G1 = 1
    """GERMINATED to TRAINING: the seed runs."""
    G2 = 2
    """TRAINING to BLENDING: the seed learns."""
    G3 = 3
    """BLENDING to SHADOWING: the blend is complete."""
    G4 = 4
    """SHADOWING to PROBATIONARY: the host is stable with it."""
    G5 = 5
    """PROBATIONARY to FOSSILIZED: the host is better with it than the same host trained without."""


@dataclass(frozen=True)
class GateCheck:
    """One figure against its bound: `figure` `comparison` `bound`, such as `age_steps >= 100`."""

    name: str
    figure: float | None
    comparison: str
    bound: float
    passed: bool

    def __str__(self) -> str:
        found = "not measured" if self.figure is None else f"{self.figure:.4g}"
        return f"{self.name} is {found}, expected {self.comparison} {self.bound:.4g}"


@dataclass(frozen=True)
class GateResult:
    """What a gate found. It passes when every check does."""

    level: GateLevel
    checks: tuple[GateCheck, ...]
    waived: bool = False
    """It did not pass, and the seed goes on all the same: the gates were asked to be permissive."""

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def is_open(self) -> bool:
        """Whether the seed goes on."""
        return self.passed or self.waived

    @property
    def failures(self) -> tuple[GateCheck, ...]:
        return tuple(check for check in self.checks if not check.passed)

    @property
    def figures(self) -> Mapping[str, float | None]:
        """Each figure by its name."""
        return {check.name: check.figure for check in self.checks}
