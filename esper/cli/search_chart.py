"""The front of a search as a picture: each candidate by two of its figures, the best ones numbered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from esper.nissa.svg import Frame, padded, rule, text, ticks
from esper.tezzeret import Candidate, SearchResult

WIDE = 20.0
"""Where the greatest figure is so many times the least, an axis is logarithmic."""
NEAR = 14.0
"""Pixels between two numbers, at least: of nearer ones the better candidate's stands."""


@dataclass(frozen=True)
class Axis:
    """A figure of candidates: what it is called, and how it is read."""

    name: str
    figure: Callable[[Candidate], float]


LATENCY = Axis("latency, us", lambda one: one.figures.latency * 1e6)
MEMORY = Axis("memory, MB", lambda one: one.figures.memory / 1e6)
PARAMETERS = Axis("parameters", lambda one: float(one.figures.params))
ERROR = Axis("held-out error, %", lambda one: 100 * (one.learned.error if one.learned else math.nan))


def front_chart(result: SearchResult) -> str:
    """Latency and memory; where candidates were trained, the parameters and errors of those."""
    x, y = (PARAMETERS, ERROR) if result.rungs else (LATENCY, MEMORY)
    shown = [trial for trial in result.trials if math.isfinite(y.figure(trial))]
    across, up = _Scale.of(map(x.figure, shown)), _Scale.of(map(y.figure, shown))
    frame = Frame(across.range, up.range, height=430, left=84, top=30, bottom=46)

    def place(trial: Candidate) -> tuple[float, float]:
        return frame.x(across.at(x.figure(trial))), frame.y(up.at(y.figure(trial)))

    body = [*_axes(frame, x.name, across, y.name, up)]
    front = {trial.ir_hash for trial in result.front}
    seen: set[tuple[int, int, str]] = set()
    for trial in sorted(shown, key=lambda one: one.ir_hash in front):  # which is drawn over the others
        css = "hollow" if not trial.is_feasible else "c1" if trial.ir_hash in front else "c3 faint"
        left, top = place(trial)
        if css == "c1" or (round(left), round(top), css) not in seen:
            seen.add((round(left), round(top), css))
            body.append(_dot(left, top, css, 4.5 if css == "c1" else 3.0, _told(trial, x, y)))
    body += _numbers(result.top, place)
    return frame.wrap(body, f"{y.name} over {x.name}, front and all other candidates")


def legend(result: SearchResult) -> str:
    """What the marks mean."""
    others = (
        "other candidates, also such as were cut after fewer steps" if result.rungs else "other candidates"
    )
    marks = [("c1", "the front"), ("c3 faint", others)]
    marks += [("hollow", "breaks a constraint")] if result.infeasible else []
    dots = [
        f'<span class="key"><svg class="mark" viewBox="0 0 12 12"><circle class="{css}" cx="6" cy="6" r="4"/>'
        f"</svg>{escape(name)}</span>"
        for css, name in marks
    ]
    return f'<p class="legend">{"".join(dots)}numbers: the best, in order</p>'


@dataclass(frozen=True)
class _Scale:
    is_log: bool
    range: tuple[float, float]

    @classmethod
    def of(cls, figures: Iterable[float]) -> _Scale:
        found = [*figures]
        is_log = bool(found) and min(found) > 0 and max(found) / min(found) > WIDE
        return cls(is_log, padded([math.log10(one) for one in found] if is_log else found))

    def at(self, figure: float) -> float:
        return math.log10(figure) if self.is_log else figure

    def ticks(self) -> Iterator[tuple[float, str]]:
        """Places on the axis, and what stands there: of a logarithmic one 1, 2 and 5 times powers of ten."""
        low, high = self.range
        if not self.is_log:
            yield from ((value, f"{value:,g}") for value in ticks(low, high))
            return
        steps = (1, 2, 5) if high - low < 3 else (1,)
        for power in range(math.floor(low), math.ceil(high) + 1):
            for step in steps:
                value = step * 10.0**power
                if low <= math.log10(value) <= high:
                    yield math.log10(value), f"{value:,g}"


def _axes(frame: Frame, x_name: str, across: _Scale, y_name: str, up: _Scale) -> Iterator[str]:
    for value, shown in up.ticks():
        y = frame.y(value)
        yield rule(frame.left, y, frame.width - frame.right, y, "grid")
        yield text(frame.left - 8, y + 4, shown, "tick", "end")
    for value, shown in across.ticks():
        yield rule(frame.x(value), frame.top, frame.x(value), frame.floor, "grid")
        yield text(frame.x(value), frame.floor + 17, shown, "tick", "middle")
    yield rule(frame.left, frame.floor, frame.width - frame.right, frame.floor, "axis")
    yield text(frame.width - frame.right, frame.floor + 36, _named(x_name, across), "tick", "end")
    yield text(0, 14, _named(y_name, up), "tick")


def _named(name: str, scale: _Scale) -> str:
    return f"{name} (logarithmic)" if scale.is_log else name


def _dot(x: float, y: float, css: str, radius: float, title: str) -> str:
    return f'<circle class="{css}" cx="{x}" cy="{y}" r="{radius}"><title>{escape(title)}</title></circle>'


def _told(trial: Candidate, x: Axis, y: Axis) -> str:
    values = " ".join(f"{name}={value}" for name, value in trial.values.items())
    values += "" if trial.learned is None else f" after {trial.learned.steps} steps"
    return f"{values}: {x.name} {x.figure(trial):,.5g}, {y.name} {y.figure(trial):,.5g}"


def _numbers(best: Sequence[Candidate], place: Callable[[Candidate], tuple[float, float]]) -> Iterator[str]:
    taken: list[tuple[float, float]] = []
    for number, trial in enumerate(best, start=1):
        x, y = place(trial)
        if all(math.hypot(x - other, y - above) >= NEAR for other, above in taken):
            taken.append((x, y))
            yield text(round(x + 7, 2), round(y - 6, 2), str(number), "note")
