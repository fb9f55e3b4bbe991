"""What a built kernel costs, read off the assembler's log and its PTX: no GPU is asked.

ptxas -v tells registers and spills (`cuobjdump -res-usage` hides spills). Widths of global accesses are
read from the PTX, each weighted by its bytes and by how often its loop turns.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from esper.urza.kernel import Resources

_REGISTERS = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_LABEL = re.compile(r"^(\$\w+):")
_BRANCH = re.compile(r"\bbra(?:\.uni)?\s+(\$\w+)")
_MATRIX = re.compile(r"\b(wgmma\.mma_async|mma\.sync|tcgen05\.mma)\b")
_ACCESS = re.compile(r"\b(?:ld|st)\.(?:weak\.|relaxed\.|volatile\.)?global((?:\.[\w:]+)*)\s")
_ASYNC_COPY = re.compile(
    r"\bcp\.async\.c[ag]\.shared\.global(?:\.[\w:]+)*\s+\[[^]]*\],\s*\[[^]]*\],\s*(0x[\da-f]+|\d+)"
)

_MATRIX_KINDS = {"wgmma.mma_async": "wgmma", "mma.sync": "mma", "tcgen05.mma": "tcgen05"}


def resources(ptxas_log: str, ptx: str, shared_bytes: int, trips: int) -> Resources:
    """The resources of one kernel; `trips` is how often its longest loop turns.

    ptxas_log: stderr of `ptxas -v`. Raises ValueError when the log says nothing of registers or spills:
    an unread figure must not pass for zero.
    """
    registers, spills = _REGISTERS.findall(ptxas_log), _SPILLS.findall(ptxas_log)
    if not registers or not spills:
        raise ValueError("the log of ptxas -v names no registers and spills")
    # Here and below `in` picks the few lines that an expression could match: it is a hundred times as fast.
    lines = (line for line in ptx.splitlines() if "mma" in line)
    matrix = Counter(_MATRIX_KINDS[name] for line in lines for name in _MATRIX.findall(line))
    kind = matrix.most_common(1)[0][0] if matrix else ""
    widths = access_bytes(ptx, trips)
    total = sum(widths.values())
    return Resources(
        registers=max(map(int, registers)),
        spill_bytes=sum(int(stores) + int(loads) for stores, loads in spills),
        shared_bytes=shared_bytes,
        matrix_instructions=sum(matrix.values()),
        matrix_kind=kind,
        vector_bits=round(sum(bits * size for bits, size in widths.items()) / total) if total else 0,
        wide_share=sum(size for bits, size in widths.items() if bits >= 128) / total if total else 0.0,
    )


def access_bytes(ptx: str, trips: int) -> dict[int, int]:
    """Bytes a thread moves to and from global memory, by the width of the access in bits."""
    sizes: Counter[int] = Counter()
    for _, bits, turns in accesses(ptx.splitlines(), trips):
        sizes[bits] += bits // 8 * turns
    return dict(sizes)


def accesses(lines: list[str], trips: int) -> Iterator[tuple[int, int, int]]:
    """(line, width in bits, how often it runs) of each access to global memory."""
    loops = _loops(lines)
    for number, line in enumerate(lines):
        bits = _access_bits(line) if "global" in line else 0
        if bits:
            yield number, bits, trips if any(first <= number <= last for first, last in loops) else 1


def _access_bits(line: str) -> int:
    """The width of the global access on this line of PTX; 0 where there is none."""
    if copy := _ASYNC_COPY.search(line):
        return int(copy[1], 0) * 8
    if access := _ACCESS.search(line):
        words = access[1].split(".")
        element = re.search(r"\d+$", words[-1])
        vector = next((int(word[1:]) for word in words if re.fullmatch(r"v\d", word)), 1)
        return int(element[0]) * vector if element else 0
    return 0


def _loops(lines: list[str]) -> list[tuple[int, int]]:
    """(first, last) line of each loop: a branch back to a label above it."""
    labels = {
        match[1]: number
        for number, line in enumerate(lines)
        if line.startswith("$") and (match := _LABEL.match(line))
    }
    return [
        (labels[match[1]], number)
        for number, line in enumerate(lines)
        if "bra" in line and (match := _BRANCH.search(line)) and labels.get(match[1], number) < number
    ]
