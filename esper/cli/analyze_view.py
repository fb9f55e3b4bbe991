"""What `esperc analyze` shows: a page with one line a step, or a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from esper.tezzeret.analysis import Analysis, Relief, Step
from esper.tezzeret.analysis.relief import CHECKPOINT, PRECISION

if TYPE_CHECKING:
    from esper.tezzeret.prediction import Prediction

SCHEMA_VERSION = 1
SHOWN = 3
"""Values that are named at a peak."""

_WORDS = {
    PRECISION: "products in bf16 (esperc opt --passes precision)",
    CHECKPOINT: f"save nothing, run forward twice ({CHECKPOINT})",
}


def document(
    found: Analysis, relief: Sequence[Relief], predicted: Prediction | None = None
) -> dict[str, Any]:
    """The JSON document: bytes, seconds and counts are plain numbers."""
    worst, width = found.bottleneck, found.width
    return {
        "schema_version": SCHEMA_VERSION,
        "blueprint": found.ir.name,
        "ir_hash": found.ir.hash,
        "sizes": dict(found.sizes),
        "target": found.target,
        "device": found.device,
        "measured": False,
        "parameters": found.parameters,
        "weight_bytes": found.weights,
        "saved_bytes": found.saved,
        "peak_bytes": found.peak,
        "depth": len(found.chain),
        "chain": list(found.chain),
        "width": width
        and {
            "alive": width.alive,
            "at": width.at,
            "widest": str(width.widest),
            "type": str(found.ir.type(width.widest)),
            "bytes": width.widest_bytes,
        },
        "directions": {
            direction: {
                "flops": found.flops[direction],
                "bytes": found.bytes(direction),
                "seconds": found.seconds(direction),
                "arena_bytes": memory.size,
                "returned_bytes": memory.returned,
                "peak_bytes": memory.peak,
                "peak_at": memory.at,
                "living": [{"value": name, "bytes": size} for name, size in memory.living],
            }
            for direction, memory in found.memory.items()
        },
        "steps": [_step(step) for step in found.steps],
        "bottleneck": None
        if worst is None
        else {
            "step": found.steps.index(worst),
            "name": worst.name,
            "direction": worst.direction,
            "bound": worst.bound,
            "share": worst.seconds / found.total if found.total else 0.0,
        },
        "relief": [
            {
                "change": one.change,
                "seconds": one.seconds,
                "saved_bytes": one.saved,
                "peak_bytes": one.peak,
            }
            for one in relief
        ],
        "prediction": None if predicted is None else _prediction(predicted),
    }


def _prediction(found: Prediction) -> dict[str, Any]:
    return {
        "device": found.device,
        "level": found.level,
        "families": found.families,
        "unmeasured": list(found.unmeasured),
        **{
            name: {
                "seconds": one.seconds,
                "low_seconds": one.low if one.has_interval else None,
                "high_seconds": one.high if one.has_interval else None,
            }
            for name, one in (("forward", found.forward), ("step", found.step))
        },
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "direction": step.direction,
        "name": step.name,
        "kind": "call" if step.is_call else "kernel",
        "nodes": list(step.nodes),
        "flops": step.flops,
        "bytes": step.bytes,
        "bytes_moved": step.moved,
        "seconds": step.seconds,
        "bound": step.bound,
        "alive_bytes": step.alive,
    }


def page(found: Analysis, relief: Sequence[Relief], predicted: Prediction | None = None) -> str:
    """The page for people: figures of the whole, a line a step, peaks, the bottleneck and its relief."""
    at = ", ".join(f"{name} = {value}" for name, value in found.sizes.items())
    lines = [f"{found.ir.name}{f' at {at}' if at else ''}, one training step", ""]
    lines += [*_whole(found), "", *_steps(found), "", *_peaks(found), *_worst(found), ""]
    lines += [*_relief(found, relief), ""]
    lines.append(
        f"latency is an estimate by the roofline of {found.device}, launches apart; nothing was measured"
    )
    lines += [] if predicted is None else ["", *_predicted(predicted)]
    return "\n".join(lines)


def _predicted(found: Prediction) -> list[str]:
    """What the torch tier takes on this machine's processor, as it was learned of measurements."""
    # Loaded only where something was predicted: NumPy comes with it.
    from esper.tezzeret.prediction.conformal import least_families

    times = (("forward", found.forward), ("training step", found.step))
    lines = [f"predicted by measurements, for the torch tier on {found.device}, one thread:"]
    for name, one in times:
        interval = f", {_us(one.low)} to {_us(one.high)} us" if one.has_interval else ""
        lines.append(f"  {name:<13} {_us(one.seconds)} us{interval}")
    needed = least_families(found.level)
    if found.step.has_interval:
        lines.append(
            f"  {found.level:.0%} of blueprints lie in such an interval, by {found.families} families "
            "that were each predicted without themselves"
        )
    else:
        lines.append(
            f"  no interval: {found.families} families of blueprints are measured, {needed} are needed "
            "(esperc bench --record)"
        )
    if found.unmeasured:
        lines.append(f"  not measured, so known by their roofline alone: {', '.join(found.unmeasured)}")
    return lines


def _whole(found: Analysis) -> list[str]:
    both = found.memory
    flops = ", ".join(f"{direction} {found.flops[direction] / 1e9:.4g}" for direction in both)
    moved = ", ".join(f"{direction} {found.bytes(direction) / 1e6:.4g}" for direction in both)
    times = ", ".join(f"{direction} {_us(found.seconds(direction))}" for direction in both)
    lines = [
        ["parameters", f"{found.parameters:,}, {_mb(found.weights)} MB"],
        ["GFLOP", flops],
        ["MB moved", moved],
        ["roofline us", times],
        ["MB saved", f"{_mb(found.saved)} for the backward pass"],
        ["MB at most", f"{_mb(found.peak)}: weights, what is saved, and what a direction makes for itself"],
        ["depth", f"{len(found.chain)} operators: {' > '.join(found.chain)}"],
    ]
    if (width := found.width) is not None:
        widest = f"{width.widest}, {found.ir.type(width.widest)}, {_mb(width.widest_bytes)} MB"
        lines.append(["width", f"{width.alive} values alive at {width.at}; the widest is {widest}"])
    return [f"{name:<12} {text}" for name, text in lines]


def _steps(found: Analysis) -> list[str]:
    rows = [["step", "kernel or call", "GFLOP", "MB", "roofline us", "bound by", "MB alive"]]
    for direction in found.memory:
        for number, step in enumerate(found.of(direction)):
            figures = [f"{step.flops / 1e9:.4g}", _mb(step.bytes), _us(step.seconds)]
            label = f"{direction} {number}"
            rows.append([label, step.name, *figures, step.bound, _mb(step.alive)])
    return _table(rows, left=(0, 1, 5))


def _peaks(found: Analysis) -> list[str]:
    lines = []
    for direction, memory in found.memory.items():
        if not memory.living:
            lines.append(f"{direction} memory: it makes nothing for itself")
            continue
        made = ", ".join(f"{name} {_mb(size)} MB" for name, size in memory.living[:SHOWN])
        rest = len(memory.living) - SHOWN
        more = f", and {rest} more" if rest > 0 else ""
        place = f"the peak of {_mb(memory.peak)} MB is at step {memory.at}"
        beside = f" and {_mb(memory.returned)} MB that library calls return" if memory.returned else ""
        lines.append(f"{direction} memory: an arena of {_mb(memory.size)} MB{beside}; {place}: {made}{more}")
    return lines


def _worst(found: Analysis) -> list[str]:
    worst = found.bottleneck
    if worst is None or not found.total:
        return ["bottleneck: none, since no kernel and no call does any work"]
    share = worst.seconds / found.total
    number = found.of(worst.direction).index(worst)
    where = f"{worst.direction} {number}, {worst.name}"
    return [f"bottleneck: {where}: {share:.0%} of the time, bound by {worst.bound}"]


def _relief(found: Analysis, relief: Sequence[Relief]) -> list[str]:
    if not relief:
        return ["relief: nothing that was tried takes less time or memory"]
    rows = [["relief, each as planned", "roofline us", "MB saved", "MB at most"]]
    rows.append(["as it is", *_figures(found.total, found.saved, found.peak)])
    for one in relief:
        change = _WORDS.get(one.change, one.change)
        rows.append([change, *_figures(one.seconds, one.saved, one.peak)])
    return _table(rows, left=(0,))


def _figures(seconds: float, saved: int, peak: int) -> list[str]:
    return [_us(seconds), _mb(saved), _mb(peak)]


def _mb(size: int) -> str:
    return f"{size / 1e6:.4g}"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.4g}"


def _table(rows: Sequence[Sequence[str]], left: Sequence[int]) -> list[str]:
    """Columns with two spaces between; those of `left` begin at their edges, the others end at theirs."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
