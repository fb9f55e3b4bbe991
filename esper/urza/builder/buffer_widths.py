"""How wide each buffer is read and written, told from PTX by following addresses back to parameters.

A kernel's accesses to a tensor and to a vector that many threads share look alike in an instruction count;
weighed by the bytes of the buffers behind them, the vector's no longer drown the tensor's. Registers of 64
bits carry addresses; what parameters a register's value comes from follows from the instructions that write
it, over loops until nothing changes. The address of a parameter, of which one may be chosen before it is
read, counts as its value.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from esper.urza.builder.resources import accesses

_PARAMETER = re.compile(r"\b(?:ld\.param|mov)\S*\s+(\{[^}]*\}|%\w+),\s*\[?\w+_param_(\d+)(?:\+\d+)?\s*\]?;")
_REGISTER = re.compile(r"%rd\d+")
_WRITES = re.compile(r"^\s*(?:@!?%p\d+\s+)?(?!ld\.(?!param)|st|cp|@)[a-z][\w.]*\s+(%rd\d+)\s*,(.*);")
_ADDRESS = re.compile(r"\[\s*(%rd\d+)")


def buffer_widths(ptx: str, trips: int) -> dict[int, dict[int, int]]:
    """Bytes a thread moves to and from each buffer, by the width of the access in bits.

    Buffers are numbered as the kernel's parameters are. An access to one of several, as where members of a
    launch share code, counts for each of them; what comes from no parameter has the number -1. trips: how
    often the longest loop turns.
    """
    lines = ptx.splitlines()
    origins = _origins(lines)
    found: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for number, bits, turns in accesses(lines, trips):
        address = _ADDRESS.findall(lines[number])[-1:]  # a copy's source stands behind its destination
        for parameter in (origins[address[0]] if address else None) or {-1}:
            found[parameter][bits] += bits // 8 * turns
    return {parameter: dict(widths) for parameter, widths in found.items()}


def wide_share(widths: dict[int, int]) -> float:
    """The part of the bytes that moves in accesses of 128 bits or more, 0 to 1."""
    total = sum(widths.values())
    return sum(size for bits, size in widths.items() if bits >= 128) / total if total else 0.0


def _origins(lines: list[str]) -> defaultdict[str, frozenset[int]]:
    """The parameters that each register's value is computed from."""
    given: defaultdict[str, frozenset[int]] = defaultdict(frozenset)
    steps: list[tuple[str, list[str]]] = []
    for line in lines:
        if parameter := _PARAMETER.search(line):
            for register in _REGISTER.findall(parameter[1]):
                given[register] |= {int(parameter[2])}
        elif written := _WRITES.match(line):
            steps.append((written[1], _REGISTER.findall(written[2])))
    return followed(given, steps)


def followed(
    given: Mapping[str, frozenset[int]], steps: Sequence[tuple[str, list[str]]]
) -> defaultdict[str, frozenset[int]]:
    """The parameters that each value comes from: those that are `given`, and those of what it is made of.

    steps: (value, what it is computed from), a value several times where several instructions write it.
    """
    origins: defaultdict[str, frozenset[int]] = defaultdict(frozenset, given)
    changed = True
    while changed:
        changed = False
        for register, sources in steps:
            known = origins[register].union(*(origins[source] for source in sources))
            if known != origins[register]:
                origins[register] = known
                changed = True
    return origins
