"""The processor that runs the torch tier: its name, and its peak rates as they are measured here."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from esper.tezzeret.costs.figures import Device

CPU_FACTS = Path("/proc/cpuinfo")
MATRIX_SIDE = 512
STREAM_BYTES = 64 << 20
"""Of each of the two buffers of a copy: more than caches hold."""

SECONDS = 0.3
"""How long each rate is measured, at least."""


def cpu_name(facts: Path = CPU_FACTS) -> str:
    """The processor's name with family, model and stepping, where the system tells them."""
    found: dict[str, str] = {}
    if facts.exists():
        for line in facts.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            found.setdefault(name.strip(), value.strip())
    if "model name" not in found:
        return platform.processor() or platform.machine()
    numbers = (f"{word} {found[key]}" for word, key in _NUMBERS if key in found)
    return ", ".join([found["model name"], " ".join(numbers)]).rstrip(", ")


_NUMBERS = (("family", "cpu family"), ("model", "model"), ("stepping", "stepping"))


@dataclass(frozen=True, slots=True)
class Rates:
    """Of one thread: FLOP/s of float32 products of matrices, bytes/s of a copy out of memory, both ways."""

    flops_per_second: float
    bytes_per_second: float

    def device(self, name: str) -> Device:
        return Device(f"{name}, one thread, measured", self.flops_per_second, self.bytes_per_second)


def measured_rates() -> Rates:
    """The rates of this machine, in processor time, the best of several turns."""
    import torch

    side = MATRIX_SIDE
    left, right, product = (torch.ones(side, side) for _ in range(3))
    source, target = (torch.ones(STREAM_BYTES // 4) for _ in range(2))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        multiplied = _least_seconds(lambda: torch.mm(left, right, out=product))
        copied = _least_seconds(lambda: target.copy_(source))
    finally:
        torch.set_num_threads(before)
    return Rates(2 * side**3 / multiplied, 2 * STREAM_BYTES / copied)


def _least_seconds(turn: Callable[[], object]) -> float:
    found: list[float] = []
    while sum(found) < SECONDS or len(found) < 4:
        begun = time.process_time()
        turn()
        found.append(time.process_time() - begun)
    return min(found[1:])


def torch_version() -> str:
    """As its package tells it, without importing it."""
    return version("torch")
