"""A study's pictures: accuracy over operations and over parameters, each arm a point with its interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from esper.nissa.svg import Frame, padded, rule, text, ticks, y_axis
from esper.simic.study.comparison import ArmFigures
from esper.simic.study.statistics import Interval

HEIGHT, LABELS = 380, 330
SPACING = 18
"""Between two labels, in pixels."""
STANDALONE = (
    "<style>text{font:12px ui-sans-serif,system-ui,sans-serif;fill:#1d2125}.tick{fill:#5d666e}"
    ".grid{stroke:#e3e5e6}.axis{stroke:#5d666e}.dashed{stroke-dasharray:2 5}"
    ".whisker{stroke:#0b62a8;stroke-width:2}.dot.c1{fill:#0b62a8}.dot.c2{fill:#b45309}"
    "@media (prefers-color-scheme:dark){text{fill:#e4e6e7}.tick{fill:#9aa4ac}.grid{stroke:#2b3136}}</style>"
)


def accuracy_over_flops(arms: Sequence[ArmFigures]) -> str:
    """Test accuracy over the operations of the whole run, in units of 10⁹."""
    return _scatter(arms, lambda arm: _scaled(arm.flops, 1e-9), "GFLOP", "accuracy over training FLOPs")


def accuracy_over_parameters(arms: Sequence[ArmFigures]) -> str:
    """Test accuracy over the parameters of the final network."""
    return _scatter(arms, lambda arm: arm.parameters, "parameters", "accuracy over parameters")


def standalone(svg: str) -> str:
    """A picture as a file of its own, with its colours in it."""
    head, _, rest = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg">{STANDALONE}{rest}\n'


def _scatter(
    arms: Sequence[ArmFigures], x_of: Callable[[ArmFigures], Interval], unit: str, label: str
) -> str:
    ys = [end for arm in arms for end in (arm.accuracy.low, arm.accuracy.high)]
    xs = [end for arm in arms for end in (x_of(arm).low, x_of(arm).high)]
    frame = Frame(padded(xs), padded(ys), height=HEIGHT, right=LABELS)
    body = [y_axis(frame, percent=True), _x_axis(frame, unit)]
    right = frame.width - frame.right
    places = _spread([frame.y(arm.accuracy.mean) for arm in arms], frame.top, frame.floor)
    for arm, place in zip(arms, places, strict=True):
        along, up = x_of(arm), arm.accuracy
        x, y = frame.x(along.mean), frame.y(up.mean)
        body.append(rule(x, y, right + 8, place, "axis dashed"))
        body.append(rule(x, frame.y(up.low), x, frame.y(up.high), "whisker"))
        body.append(rule(frame.x(along.low), y, frame.x(along.high), y, "whisker"))
        css = "c2" if arm.is_grown else "c1"
        body.append(f'<circle class="dot {css}" cx="{x}" cy="{y}" r="5"/>')
        body.append(text(right + 12, place + 4, arm.title))
    return frame.wrap(body, label)


def _x_axis(frame: Frame, unit: str) -> str:
    labels = [
        text(frame.x(value), frame.floor + 17, f"{value:g}", "tick", "middle")
        for value in ticks(*frame.x_range, count=8)
    ]
    base = rule(frame.left, frame.floor, frame.width - frame.right, frame.floor, "axis")
    return base + "".join(labels) + text(frame.width - frame.right + 12, frame.floor + 17, unit, "tick")


def _spread(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Heights near those wanted, in their order, `SPACING` apart, between `top` and `bottom` if they fit."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = [0.0] * len(wanted)
    above = top
    for index in order:
        placed[index] = above = max(wanted[index], above)
        above += SPACING
    below = bottom
    for index in reversed(order):
        placed[index] = min(placed[index], below)
        below = placed[index] - SPACING
    return [round(place, 2) for place in placed]


def _scaled(found: Interval, scale: float) -> Interval:
    return Interval(found.mean * scale, found.low * scale, found.high * scale)
