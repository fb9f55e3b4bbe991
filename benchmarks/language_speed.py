"""How fast the language is read, from 10 KB to 1 MB, and what the commands cost from their start.

Three kinds of source: the library's blueprints with their documentation, in turn under other names until the
file has its size; the same without comments; and one blueprint of many statements. `parse` is text to syntax
tree; `elaborated` is that and the graph of each blueprint, as `esperc check` makes it. The slope is that of a
line through the logarithms of sizes and seconds: 1 is linear. All seconds are the process's own, the median
of several runs; a command is a process from start to end.

    python benchmarks/language_speed.py
"""

from __future__ import annotations

import argparse
import gc
import math
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from esper.lang import Source, library, parse_source
from esper.lang.elaborate import elaborate
from esper.lang.settings import Settings
from esper.lang.units import source_unit

RESULTS = Path(__file__).parent / "results"
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
PHASES = ("parse", "elaborated")
TARGETS = {"parse": 250.0, "elaborated": 60.0}
COLOURS = ("#1f6feb", "#c2410c", "#15803d")
STATEMENTS = (
    "    let rate_{0} = 0.1 * ({0} % 3)",
    "    q = x |> layer_norm() |> linear(width, bias=false)",
    "    g = sigmoid(linear(q, 2 * width) |> linear(width)) * q",
    '    require width % 2 == 0: "the width is even"',
    "    x = (x + dropout(g, rate_{0})) / 2 - q ** 2",
)
COMMANDS = {
    "esperc --help": (["--help"], 0.25),
    "esperc check of the library": (["check", *(entry.file for entry in library())], 0.8),
}


@dataclass(frozen=True)
class Row:
    """One file: its kind and size, and the seconds of each phase."""

    kind: str
    size: int
    seconds: dict[str, float]

    def rate(self, phase: str) -> float:
        """Kilobytes (1000 bytes) a second."""
        return self.size / 1000 / self.seconds[phase]


def _filled(size: int, piece: Callable[[int], str]) -> str:
    """`piece(0)`, `piece(1)` and so on, until there are `size` bytes or a few more."""
    pieces: list[str] = []
    held = 0
    while held < size:
        pieces.append(piece(len(pieces)))
        held += len(pieces[-1].encode())
    return "".join(pieces)


def library_source(size: int, change: Callable[[str], str] = str) -> str:
    """Blueprints of the library in turn, each under a name of its own."""
    texts = [(entry.name, Path(entry.file).read_text(encoding="utf-8")) for entry in library()]
    whole = [(name, change(text)) for name, text in texts if "import " not in text]

    def piece(index: int) -> str:
        name, text = whole[index % len(whole)]
        return re.sub(rf"\bblueprint {name}\b", f"blueprint {name}_{index}", text) + "\n"

    return _filled(size, piece)


def without_comments(text: str) -> str:
    """No comment, no empty line, no white space before a line or in rows."""
    lines = (re.sub(r" +", " ", re.sub(r"#.*", "", line)).strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def long_source(size: int) -> str:
    """One blueprint of many statements."""
    body = _filled(size, lambda index: "\n".join(STATEMENTS).format(index) + "\n")
    return f"blueprint long(width: dim = 64) {{\n    input x: f32[N, width]\n{body}    output x\n}}\n"


SOURCES: dict[str, Callable[[int], str]] = {
    "library": library_source,
    "without comments": lambda size: library_source(size, without_comments),
    "one blueprint": long_source,
}


def parsed(text: str) -> None:
    _, found = parse_source(text)
    assert not found, found[0]


def elaborated(text: str) -> None:
    unit, report = source_unit(Source("<source>", text))
    for blueprint in unit.program.blueprints:
        assert elaborate(unit, blueprint, Settings(symbolic=True), report).ir is not None
    assert not report.has_errors


WORK: dict[str, Callable[[str], None]] = {"parse": parsed, "elaborated": elaborated}


def seconds_of(work: Callable[[str], None], text: str, repeats: int) -> float:
    found = []
    for _ in range(repeats):
        gc.collect()
        start = time.process_time()
        work(text)
        found.append(time.process_time() - start)
    return statistics.median(found)


def measured(kind: str, size: int, repeats: int) -> Row:
    text = SOURCES[kind](size)
    seconds = {phase: seconds_of(WORK[phase], text, repeats) for phase in PHASES}
    return Row(kind, len(text.encode()), seconds)


def slope(rows: list[Row], phase: str) -> float:
    """Of the line through the logarithms of `rows`, by least squares."""
    sizes = [math.log(row.size) for row in rows]
    return statistics.linear_regression(sizes, [math.log(row.seconds[phase]) for row in rows]).slope


def command_seconds(arguments: list[str], repeats: int) -> float:
    """Processor seconds of `esperc` with `arguments`, Python's own start included."""
    found = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "esper.cli.esperc", *arguments], check=True, capture_output=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(found)


def table(rows: list[Row]) -> list[str]:
    lines = [
        "| source | bytes | parse, s | KB/s | with elaboration, s | KB/s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in SOURCES:
        found = [row for row in rows if row.kind == kind]
        for row in found:
            cells = (f"{row.seconds[phase]:.3f} | {row.rate(phase):.0f}" for phase in PHASES)
            lines.append(f"| {kind} | {row.size} | {' | '.join(cells)} |")
        cells = (f"slope {slope(found, phase):.2f} | –" for phase in PHASES)
        lines.append(f"| {kind} | – | {' | '.join(cells)} |")
    return lines


def plot(rows: list[Row]) -> str:
    """Seconds against bytes, both logarithmic, as SVG; the dashed lines are the targets."""
    left, top, width, height = 60, 20, 520, 330
    low_x, high_x = math.log10(SIZES[0]) - 0.1, math.log10(SIZES[-1]) + 0.1
    seconds = [row.seconds[phase] for row in rows for phase in PHASES]
    most = max(*seconds, rows[-1].size / 1000 / min(TARGETS.values()))
    low_y, high_y = math.floor(math.log10(min(seconds))), math.ceil(math.log10(most))

    def place(size: float, seconds: float) -> str:
        x = left + width * (math.log10(size) - low_x) / (high_x - low_x)
        y = top + height * (high_y - math.log10(seconds)) / (high_y - low_y)
        return f"{x:.1f},{y:.1f}"

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 410" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="640" height="410" fill="white"/>',
    ]
    for power in range(low_y, high_y + 1):
        y = float(place(SIZES[0], 10.0**power).split(",")[1])
        parts.append(f'<line x1="{left}" y1="{y}" x2="{left + width}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g} s</text>')
    for size in SIZES:
        x = place(size, 1.0).split(",")[0]
        parts.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{top + height}" stroke="#eee"/>')
        parts.append(f'<text x="{x}" y="{top + height + 18}" text-anchor="middle">{size // 1000} KB</text>')
    parts.append(f'<text x="{left + width / 2}" y="400" text-anchor="middle">size of the file</text>')
    for index, (kind, colour) in enumerate(zip(SOURCES, COLOURS, strict=True)):
        found = [row for row in rows if row.kind == kind]
        for phase in PHASES:
            points = " ".join(place(row.size, row.seconds[phase]) for row in found)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{left + 10}" y="{top + 16 + 16 * index}" fill="{colour}">{kind}</text>')
    for phase, target in TARGETS.items():
        ends = " ".join(place(size, size / 1000 / target) for size in (SIZES[0], SIZES[-1]))
        parts.append(f'<polyline points="{ends}" fill="none" stroke="#888" stroke-dasharray="4 4"/>')
        end, aim = map(float, ends.split()[-1].split(","))
        parts.append(f'<text x="{end}" y="{aim - 6}" text-anchor="end" fill="#555">aim: {phase}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    measured("library", 1000, 1)  # the grammar and the operator table are loaded before anything is timed
    rows = []
    for kind in SOURCES:
        for size in SIZES:
            rows.append(measured(kind, size, arguments.repeats))
            print(f"{kind}, {rows[-1].size} bytes: {rows[-1].seconds}", flush=True)
    commands = [
        f"| `{name}` | {command_seconds(given, arguments.repeats):.2f} | {target} |"
        for name, (given, target) in COMMANDS.items()
    ]
    text = [
        "# How fast the language is read",
        "",
        "`python benchmarks/language_speed.py`: processor seconds on one core, the median of "
        f"{arguments.repeats} runs. The files are",
        f"the {len(library())} blueprints of the library in turn, the same without comments and white space,",
        f"and one long blueprint. The aims (dashed) are {TARGETS['parse']:.0f} KB/s to parse and "
        f"{TARGETS['elaborated']:.0f} KB/s to parse and elaborate;",
        "a slope of 1 is linear growth.",
        "",
        *table(rows),
        "",
        "![seconds against bytes, both logarithmic](language_speed.svg)",
        "",
        "| command, from the start of the process to its end | seconds | aim, below |",
        "| --- | --- | --- |",
        *commands,
    ]
    (RESULTS / "language_speed.svg").write_text(plot(rows), encoding="utf-8")
    (RESULTS / "language_speed.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
