"""Small pieces of SVG: a plotting frame with ticks, lines, bands, marks. Text is escaped here, always.

Colours are CSS classes, never values, so that the page decides what light and dark look like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """A plotting area in pixels, and the data ranges it shows."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width: int = 960
    height: int = 240
    left: int = 72
    right: int = 16
    top: int = 12
    bottom: int = 30

    def x(self, value: float) -> float:
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return round(self.left + share * (self.width - self.left - self.right), 2)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / (high - low) if high > low else 0.5
        return round(
            self.height - self.bottom - share * (self.height - self.top - self.bottom),
            2,
        )

    @property
    def floor(self) -> int:
        return self.height - self.bottom

    def wrap(self, body: Iterable[str], label: str) -> str:
        """The finished picture, which grows and shrinks with the page. `label` is for screen readers."""
        inner = "".join(body)
        size = f'viewBox="0 0 {self.width} {self.height}"'
        return (
            f'<svg {size} role="img" aria-label="{escape(label)}"><title>{escape(label)}</title>{inner}</svg>'
        )


@dataclass(frozen=True)
class Series:
    """A line: `css` is its colour's class, `dashed` for what is not to be confused with the first."""

    name: str
    points: tuple[Point, ...]
    css: str
    dashed: bool = field(default=False)


def line(series: Series, frame: Frame) -> str:
    """The series as one path; with a single point, a dot."""
    dash = " dashed" if series.dashed else ""
    places = [(frame.x(x), frame.y(y)) for x, y in series.points if math.isfinite(y)]
    if not places:
        return ""
    if len(places) == 1:
        return f'<circle class="dot {series.css}" cx="{places[0][0]}" cy="{places[0][1]}" r="3"/>'
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    return f'<path class="line {series.css}{dash}" d="{path}"><title>{escape(series.name)}</title></path>'


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> str:
    return f'<text class="{css}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(content)}</text>'


def rectangle(x: float, y: float, width: float, height: float, css: str, title: str = "") -> str:
    tip = f"<title>{escape(title)}</title>" if title else ""
    place = f'x="{x}" y="{y}" width="{round(max(width, 0), 2)}" height="{round(height, 2)}"'
    return f'<rect class="{css}" {place}>{tip}</rect>'


def rule(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line class="{css}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1.0, 2.0, 5.0, 10.0) if m * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def y_axis(frame: Frame, percent: bool = False) -> str:
    """Horizontal rules with their values at the left."""
    pieces = []
    for value in ticks(*frame.y_range):
        y = frame.y(value)
        shown = f"{100 * value:g} %" if percent else f"{value:g}"
        pieces.append(rule(frame.left, y, frame.width - frame.right, y, "grid"))
        pieces.append(text(frame.left - 8, y + 4, shown, "tick", "end"))
    return "".join(pieces)


def x_axis(frame: Frame, name: str) -> str:
    """Values below the floor, whole numbers only, and the axis' name at the right end."""
    values = [value for value in ticks(*frame.x_range, count=10) if value == int(value)]
    labels = [text(frame.x(v), frame.floor + 17, f"{int(v)}", "tick", "middle") for v in values]
    base = rule(frame.left, frame.floor, frame.width - frame.right, frame.floor, "axis")
    return base + "".join(labels) + text(frame.left - 8, frame.floor + 17, name, "tick", "end")


def padded(values: Sequence[float], margin: float = 0.06) -> tuple[float, float]:
    """A range around the finite `values` with room at both ends; (0, 1) if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    room = (high - low) * margin or abs(high) * margin or 0.5
    return low - room, high + room
