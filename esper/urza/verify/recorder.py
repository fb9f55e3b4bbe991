"""Simulated global memory that records each access a kernel makes.

Each buffer lives in an address range of its own, a terabyte wide with the data in the middle, so the top
bits of an address name the buffer a pointer came from and any stray offset, however far, is caught and
charged to that buffer. Nothing outside a buffer is ever touched: a bad read yields poison, a bad write
goes nowhere, and both are findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Fault = Literal[
    "read out of bounds",
    "write out of bounds",
    "read of an unwritten element",
    "double write",
    "missing write",
    "unexpected write",
    "race",
]

_RANGE_BITS = 40
_BASE = 1 << (_RANGE_BITS - 1)
_NOBODY, _SEVERAL = -1, -2


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in how `kernel` accessed the buffer bound to `argument`.

    count: elements concerned. element: the first of them, as a flat index.
    """

    kernel: str
    argument: str
    fault: Fault
    count: int
    element: int

    def __str__(self) -> str:
        plural = "" if self.count == 1 else "s"
        return (
            f"{self.kernel}: {self.fault} in `{self.argument}` "
            f"({self.count} element{plural}, first at {self.element})"
        )


class Region:
    """One buffer: its elements, which of them were ever written, and the traffic of the current launch.

    data: flat array, changed in place. written: bool mask of elements with a value.
    """

    def __init__(self, data: NDArray[Any], written: bool) -> None:
        self.data = data
        self.written = np.full(data.shape, written)
        self.start_launch()

    def start_launch(self) -> None:
        """Forgets the traffic of earlier launches."""
        self.writes = np.zeros(self.data.shape, np.int32)
        self.writer = np.full(self.data.shape, _NOBODY, np.int64)
        self.reader = np.full(self.data.shape, _NOBODY, np.int64)


class Recorder:
    """The memory of a sequence of launches; `findings` grows as they run."""

    def __init__(self) -> None:
        self.regions: dict[str, Region] = {}
        self.findings: list[Finding] = []
        self._bound: dict[int, tuple[str, Region]] = {}
        self._faults: dict[tuple[str, Fault], set[int]] = {}
        self._program = 0

    def add(self, name: str, data: NDArray[Any], written: bool) -> None:
        """A buffer of flat `data`; `written` says that it holds values from the start."""
        self.regions[name] = Region(data, written)

    def start_launch(self, buffers: Mapping[str, str]) -> dict[str, int]:
        """Binds pointer arguments to buffers; returns each argument's base address."""
        self._faults = {}
        self._bound = {}
        addresses = {}
        for index, (argument, buffer) in enumerate(buffers.items(), start=1):
            region = self.regions[buffer]
            region.start_launch()
            self._bound[index] = (argument, region)
            addresses[argument] = (index << _RANGE_BITS) + _BASE
        return addresses

    def start_program(self, number: int) -> None:
        """What follows is done by this program of the grid."""
        self._program = number

    def load(
        self, addresses: NDArray[np.uint64], mask: NDArray[np.bool_], other: NDArray[Any]
    ) -> NDArray[Any]:
        """The elements at `addresses` where `mask` holds, `other` elsewhere, poison where none exist."""
        result = np.array(np.broadcast_to(other, addresses.shape))
        for argument, region, where, element, inside in self._resolve(addresses, mask):
            self._fault(argument, "read out of bounds", element[~inside])
            valid = element[inside]
            self._fault(argument, "read of an unwritten element", valid[~region.written[valid]])
            self._race(argument, valid, region.writer[valid])
            known = region.reader[valid]
            region.reader[valid] = np.where(
                (known == _NOBODY) | (known == self._program), self._program, _SEVERAL
            )
            values = np.full(element.shape, _poison(region.data.dtype), region.data.dtype)
            values[inside] = region.data[valid]
            result.reshape(-1)[where] = values
        return result

    def store(self, addresses: NDArray[np.uint64], values: NDArray[Any], mask: NDArray[np.bool_]) -> None:
        """Writes `values` to `addresses` where `mask` holds."""
        values = np.broadcast_to(values, addresses.shape).reshape(-1)
        for argument, region, where, element, inside in self._resolve(addresses, mask):
            self._fault(argument, "write out of bounds", element[~inside])
            valid = element[inside]
            self._race(argument, valid, region.reader[valid])
            np.add.at(region.writes, valid, 1)
            region.writer[valid] = self._program
            region.written[valid] = True
            region.data[valid] = values[where][inside].astype(region.data.dtype)

    def end_launch(self, kernel: str, writes: Mapping[str, bool]) -> None:
        """Judges the launch; `writes` says of each argument whether the kernel writes all of it.

        Two arguments may mean one buffer, as when a kernel works in place.
        """
        written = {id(region) for argument, region in self._bound.values() if writes[argument]}
        for argument, region in self._bound.values():
            if writes[argument]:
                self._fault(argument, "double write", np.flatnonzero(region.writes > 1))
                self._fault(argument, "missing write", np.flatnonzero(region.writes == 0))
            elif id(region) not in written:
                self._fault(argument, "unexpected write", np.flatnonzero(region.writes))
        for (argument, fault), elements in self._faults.items():
            self.findings.append(Finding(kernel, argument, fault, len(elements), min(elements)))

    def _resolve(self, addresses: NDArray[np.uint64], mask: NDArray[np.bool_]) -> Any:
        """(argument, region, positions, element of each, whether it exists), for each buffer met."""
        active = np.flatnonzero(np.broadcast_to(mask, addresses.shape))
        flat = addresses.reshape(-1)[active]
        owners = flat >> np.uint64(_RANGE_BITS)
        for owner in np.unique(owners):
            if int(owner) not in self._bound:
                raise ValueError("a pointer strayed from every buffer")
            argument, region = self._bound[int(owner)]
            mine = owners == owner
            offset = (flat[mine] & np.uint64((1 << _RANGE_BITS) - 1)).astype(np.int64) - _BASE
            element = offset // region.data.itemsize
            inside = (element >= 0) & (element < region.data.size)
            yield argument, region, active[mine], element, inside

    def _race(self, argument: str, elements: NDArray[np.int64], others: NDArray[np.int64]) -> None:
        """Elements that another program of the same launch has read or written, one of the two a write."""
        self._fault(argument, "race", elements[(others != _NOBODY) & (others != self._program)])

    def _fault(self, argument: str, fault: Fault, elements: NDArray[np.int64]) -> None:
        if elements.size:
            self._faults.setdefault((argument, fault), set()).update(elements.tolist())


def _poison(dtype: np.dtype[Any]) -> Any:
    """A value no kernel should pass on: NaN, or bits of ones."""
    return dtype.type(np.nan) if dtype.kind == "f" else np.iinfo(dtype).max if dtype.kind in "iu" else True
