"""What `esperc bench` shows: a table by part, or a JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esper.ir.graph import BlueprintIR
from esper.tezzeret.prediction.bench import PARTS, SEED, Bench, Row

SCHEMA_VERSION = 1


def document(ir: BlueprintIR, sizes: Mapping[str, int], found: Bench) -> dict[str, Any]:
    """The JSON document: seconds are plain numbers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "blueprint": ir.name,
        "ir_hash": ir.hash,
        "sizes": dict(sizes),
        "device": found.device,
        "tier": found.tier,
        "rows": [
            {
                "contender": row.contender,
                "part": row.part,
                "median_seconds": row.median,
                "low_seconds": row.low,
                "high_seconds": row.high,
                "least_seconds": row.least,
                "repeatability": row.repeatability,
                "rounds": row.rounds,
                "ratio": _ratio(found, row),
            }
            for row in found.rows
        ],
        "absent": dict(found.absent),
    }


def page(ir: BlueprintIR, sizes: Mapping[str, int], found: Bench) -> str:
    """The page for people: a line for each contender and part."""
    at = ", ".join(f"{name} = {value}" for name, value in sizes.items())
    how = "one thread, processor time" if found.tier == "torch" else "wall time"
    lines = [
        f"{ir.name}{f' at {at}' if at else ''} on {found.device}, {how}; the seed ran on {found.tier}",
        "",
    ]
    rows = [("contender", "part", "least us", "median us", "interval", "repeats", "of the seed")]
    for row in sorted(found.rows, key=lambda row: PARTS.index(row.part)):
        interval = f"{_us(row.low)} to {_us(row.high)}"
        times = _us(row.least), _us(row.median), interval
        rows.append(
            (row.contender, row.part, *times, f"{row.repeatability:.1%}", f"{_ratio(found, row):.3f}")
        )
    lines += [
        f"{name:<14} {part:<9} {least:>9} {median:>9} {interval:>18} {repeats:>8} {ratio:>12}"
        for name, part, least, median, interval, repeats, ratio in rows
    ]
    lines += ["", *(f"{name} did not run: {why}" for name, why in found.absent.items())]
    return "\n".join(lines).rstrip("\n")


def _ratio(found: Bench, row: Row) -> float:
    """The least of `row` by the seed's."""
    seed = found.row(SEED, row.part)
    return row.least / seed.least if seed is not None else 1.0


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.4g}"
