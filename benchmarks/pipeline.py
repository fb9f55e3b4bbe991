"""How long the default pipeline takes on graphs of 100 to 10,000 nodes, on one core.

Two families, built by `Builder` as elaboration would build them: a transformer (attention and feed-forward
blocks) and a network of inverted bottlenecks (convolutions, batch norms, updates). Each graph is run several
times; the table has the fastest, in seconds for each pass and the verifier, and the slope of their logarithms
between neighbouring sizes: 1 is linear.

    python benchmarks/pipeline.py
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from esper.ir import BlueprintIR, Builder, DType, TensorType, Value, symbol, verify
from esper.ir.canonical import canonical_hash
from esper.passes import DEFAULT, joint_graph, parse_pipeline, partition

Result = TypeVar("Result")
RESULTS = Path(__file__).parent / "results"
SIZES = (100, 300, 1000, 3000, 10_000)
F32 = DType.F32
STAGES = ("verify", *DEFAULT.split(","))


def transformer(nodes: int) -> BlueprintIR:
    """Pre-norm blocks on `f32[N, T, 64]` until there are `nodes` nodes."""
    build = Builder("transformer")
    n, t, features, heads = symbol("N"), symbol("T"), 64, 4
    x = build.input("x", TensorType(F32, (n, t, features)))

    def linear(x: Value, out: int) -> Value:
        weight = build.param(
            build.fresh("weight"), TensorType(F32, (out, build.type(x).shape[-1])), init="normal"
        )
        return build.op("linear", x, weight, build.param(build.fresh("bias"), TensorType(F32, (out,))))

    def norm(x: Value) -> Value:
        scale = build.param(build.fresh("scale"), TensorType(F32, (features,)), "ones")
        return build.op(
            "layer_norm", x, scale, build.param(build.fresh("shift"), TensorType(F32, (features,)))
        )

    def split(x: Value) -> Value:
        rows = build.op("reshape", x, shape=(n, t, heads, features // heads))
        return build.op("permute", rows, axes=(0, 2, 1, 3))

    while len(build.nodes) < nodes:
        h = norm(x)
        q, k, v = (split(linear(h, features)) for _ in range(3))
        a = build.op("scaled_dot_product_attention", q, k, v, None, None)
        a = build.op("permute", a, axes=(0, 2, 1, 3))
        x = build.op("add", x, linear(build.op("reshape", a, shape=(n, t, features)), features))
        h = linear(build.op("gelu", linear(norm(x), 4 * features)), features)
        x = build.op("add", x, build.op("dropout", h, build.seed(), p=0.1, offset=len(build.nodes)))
        x = build.op("mul", x, build.op("mul", build.constant(2.0), build.constant(0.5)))
    return build.finish({"y": x})


def convolutions(nodes: int) -> BlueprintIR:
    """Inverted bottlenecks on `f32[N, 32, H, W]` until there are `nodes` nodes."""
    build = Builder("convolutions")
    channels = 32
    x = build.input("x", TensorType(F32, (symbol("N"), channels, symbol("H"), symbol("W"))))
    updates: dict[str, Value] = {}

    def norm(x: Value, count: int) -> Value:
        scale, shift = (build.param(build.fresh(n), TensorType(F32, (count,))) for n in ("scale", "shift"))
        mean, var = (build.buffer(build.fresh(n), TensorType(F32, (count,))) for n in ("mean", "var"))
        results = build.ops("batch_norm", x, scale, shift, mean, var, training=True)
        updates[mean.node], updates[var.node] = results[3], results[4]
        return results[0]

    def conv(x: Value, count: int, kernel: int, groups: int = 1) -> Value:
        have = build.type(x).shape[1]
        assert isinstance(have, int)
        shape = (count, have // groups, kernel, kernel)
        weight = build.param(build.fresh("weight"), TensorType(F32, shape), "kaiming_normal")
        pad = kernel // 2
        return build.op("convolution", x, weight, stride=1, padding=pad, dilation=1, groups=groups)

    while len(build.nodes) < nodes:
        h = build.op("relu6", norm(conv(x, 4 * channels, 1), 4 * channels))
        h = build.op("relu6", norm(conv(h, 4 * channels, 3, groups=4 * channels), 4 * channels))
        x = build.op("add", build.op("mul", norm(conv(h, channels, 1), channels), 1.0), x)
    return build.finish({"y": x}, updates)


FAMILIES: dict[str, Callable[[int], BlueprintIR]] = {"transformer": transformer, "convolutions": convolutions}


@dataclass
class Row:
    """Seconds for each stage of one graph; `verify` is all runs of the verifier that the pipeline makes."""

    family: str
    nodes: int
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def pipeline(self) -> float:
        return sum(self.seconds[stage] for stage in STAGES)


def measure(family: str, size: int, repeats: int) -> Row:
    ir = FAMILIES[family](size)
    row = Row(family, len(ir.nodes))
    for _ in range(repeats):
        once: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        graph = BlueprintIR(ir.name, ir.nodes, ir.outputs, ir.updates)  # with nothing cached
        timed(once, "verify", verify, graph)
        for entry in parse_pipeline(DEFAULT):
            graph = timed(once, entry.name, entry.run, graph)
            timed(once, "verify", verify, graph)
        joint = timed(once, "joint_graph", joint_graph, ir)
        timed(once, "partition", partition, joint)
        timed(once, "hash", canonical_hash, ir)
        row.seconds = {name: min(s, row.seconds.get(name, s)) for name, s in once.items()}
    return row


def timed(into: dict[str, float], stage: str, work: Callable[..., Result], *arguments: object) -> Result:
    start = time.process_time()
    result = work(*arguments)
    into[stage] = into.get(stage, 0.0) + time.process_time() - start
    return result


def slope(before: Row, after: Row, seconds: Callable[[Row], float]) -> float:
    return math.log(seconds(after) / seconds(before)) / math.log(after.nodes / before.nodes)


def table(rows: list[Row]) -> list[str]:
    stages = list(rows[0].seconds)
    lines = [
        "| graph | nodes | pipeline | slope | " + " | ".join(stages) + " |",
        "| --- | --- | --- | --- |" + " --- |" * len(stages),
    ]
    for index, row in enumerate(rows):
        before = rows[index - 1] if index and rows[index - 1].family == row.family else None
        steep = "–" if before is None else f"{slope(before, row, lambda r: r.pipeline):.2f}"
        cells = " | ".join(f"{row.seconds[stage]:.3f}" for stage in stages)
        lines.append(f"| {row.family} | {row.nodes} | {row.pipeline:.3f} | {steep} | {cells} |")
    return lines


def plot(rows: list[Row]) -> str:
    """Seconds against nodes, both logarithmic, as SVG; the dashed line is linear growth."""
    left, top, width, height = 60, 20, 520, 330
    low_x, high_x = 2.0, 4.1
    seconds = [row.pipeline for row in rows]
    low_y, high_y = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))

    def place(nodes: float, seconds: float) -> str:
        x = left + width * (math.log10(nodes) - low_x) / (high_x - low_x)
        y = top + height * (high_y - math.log10(seconds)) / (high_y - low_y)
        return f"{x:.1f},{y:.1f}"

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 410" font-family="sans-serif" '
        'font-size="12">',
        '<rect width="640" height="410" fill="white"/>',
    ]
    for power in range(low_y, high_y + 1):
        x, y = place(100, 10.0**power).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{left + width}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{float(y) + 4}" text-anchor="end">{10.0**power:g} s</text>')
    for nodes in SIZES:
        x = place(nodes, 1.0).split(",")[0]
        parts.append(f'<line x1="{x}" y1="{top}" x2="{x}" y2="{top + height}" stroke="#eee"/>')
        parts.append(f'<text x="{x}" y="{top + height + 18}" text-anchor="middle">{nodes}</text>')
    parts.append(f'<text x="{left + width / 2}" y="400" text-anchor="middle">nodes</text>')
    for colour, family, gap in zip(("#1f6feb", "#c2410c"), FAMILIES, (-8, 18), strict=True):
        found = [row for row in rows if row.family == family]
        points = " ".join(place(row.nodes, row.pipeline) for row in found)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = points.split()[-1].split(",")
        parts.append(f'<text x="{x}" y="{float(y) + gap}" text-anchor="end" fill="{colour}">{family}</text>')
    first = rows[0]
    ends = [place(nodes, first.pipeline * nodes / first.nodes) for nodes in (first.nodes, SIZES[-1])]
    parts.append(f'<polyline points="{" ".join(ends)}" fill="none" stroke="#888" stroke-dasharray="4 4"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    FAMILIES["transformer"](50)  # the operator table is loaded before anything is timed
    rows = []
    for family in FAMILIES:
        for size in SIZES:
            rows.append(measure(family, size, arguments.repeats))
            print(f"{family} {rows[-1].nodes} nodes: {rows[-1].pipeline:.3f} s", flush=True)
    lines = table(rows)
    (RESULTS / "pipeline.svg").write_text(plot(rows), encoding="utf-8")
    text = [
        "# The default pipeline on large graphs",
        "",
        f"`python benchmarks/pipeline.py`: seconds of processor time on one core, the fastest of "
        f"{arguments.repeats} runs. `pipeline` is `{DEFAULT}`,",
        "with the verifier before and after each pass. The last three columns are not part of it:",
        "`joint_graph`, `partition` and `hash` of the same graph.",
        "",
        *lines,
        "",
        "![seconds against nodes, both logarithmic](pipeline.svg)",
    ]
    (RESULTS / "pipeline.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
