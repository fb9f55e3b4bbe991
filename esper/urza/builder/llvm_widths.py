"""How wide each buffer is read and written on AMD's GPUs, told from LLVM IR by following addresses.

What `buffer_widths` reads off PTX, AMDGCN does not tell: its registers hold one address after another. The
LLVM IR that it is made of names each value once, and its accesses are as wide as those of the assembly.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

from esper.urza.builder.buffer_widths import followed

_KERNEL = re.compile(r"^define [^\n]*\bamdgpu_kernel void @\S+?\((.*)\) [^\n]*\{$", re.MULTILINE)
_COMMA = re.compile(r",\s*(?![^()]*\))")
_POINTER = re.compile(r"^ptr addrspace\(1\).*(%[\w.]+)$")
_VALUE = re.compile(r"%[\w.]+")
_WRITES = re.compile(r"^  (%[\w.]+) = (.*)$")
_TYPE = r"(?:<(\d+) x )?(i\d+|half|bfloat|float|double|ptr)\b>?"
_LOAD = re.compile(rf"^  %[\w.]+ = load (?:volatile )?{_TYPE}, ptr addrspace\(1\) (%[\w.]+)")
_STORE = re.compile(rf"^  store (?:volatile )?{_TYPE} .*, ptr addrspace\(1\) (%[\w.]+), align")
_BUFFER = r"@llvm\.amdgcn\.raw\.ptr\.buffer"
_BUFFER_LOAD = re.compile(
    rf"^  %[\w.]+ = (?:tail )?call {_TYPE} {_BUFFER}\.load[^(]*\(ptr addrspace\(8\) (%[\w.]+)"
)
_BUFFER_STORE = re.compile(
    rf"^  (?:tail )?call void {_BUFFER}\.store[^(]*\({_TYPE} .*?ptr addrspace\(8\) (%[\w.]+)"
)
_ALIGNED = re.compile(r", align (\d+)")
_LABEL = re.compile(r"^(\w+):")
_BRANCH = re.compile(r"\blabel %(\w+)")
_BITS = {"half": 16, "bfloat": 16, "float": 32, "double": 64, "ptr": 64}


def llvm_widths(llir: str, trips: int) -> dict[int, dict[int, int]]:
    """Bytes a thread moves to and from each buffer, by the width of the access in bits.

    As `buffer_widths`: buffers are numbered as the kernel's parameters, -1 is what comes from none, an access
    to one of several counts for each. trips: how often the longest loop turns. Raises ValueError where `llir`
    has no kernel.
    """
    kernel = _KERNEL.search(llir)
    if kernel is None:
        raise ValueError("the LLVM IR has no kernel")
    lines = llir[kernel.end() :].split("\n}", 1)[0].splitlines()
    origins = followed(_parameters(kernel[1]), _steps(lines))
    loops = _loops(lines)
    found: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for number, bits, address in _accesses(lines):
        turns = trips if any(first <= number <= last for first, last in loops) else 1
        for parameter in origins[address] or {-1}:
            found[parameter][bits] += bits // 8 * turns
    return {parameter: dict(widths) for parameter, widths in found.items()}


def _parameters(text: str) -> dict[str, frozenset[int]]:
    """The pointers among the parameters; commas within brackets are an attribute's."""
    return {
        pointer[1]: frozenset({number})
        for number, parameter in enumerate(_COMMA.split(text))
        if (pointer := _POINTER.match(parameter))
    }


def _steps(lines: list[str]) -> list[tuple[str, list[str]]]:
    """(value, what it is computed from); what is loaded comes from no parameter."""
    written = (found for line in lines if (found := _WRITES.match(line)))
    return [
        (found[1], _VALUE.findall(found[2]))
        for found in written
        if not found[2].startswith("load ") and ".buffer.load." not in found[2]
    ]


def _accesses(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """(line, width in bits, address) of each access to global memory, as wide as its address is aligned."""
    for number, line in enumerate(lines):
        for form in (_LOAD, _STORE, _BUFFER_LOAD, _BUFFER_STORE):
            if access := form.match(line):
                count, element, address = access.groups()
                bits = int(count or 1) * (_BITS.get(element) or int(element[1:]))
                aligned = _ALIGNED.search(line)
                yield number, min(bits, 8 * int(aligned[1])) if aligned else bits, address


def _loops(lines: list[str]) -> list[tuple[int, int]]:
    """(first, last) line of each loop: a branch back to a label above it."""
    labels = {match[1]: number for number, line in enumerate(lines) if (match := _LABEL.match(line))}
    return [
        (labels[label], number)
        for number, line in enumerate(lines)
        if line.lstrip().startswith("br ")
        for label in _BRANCH.findall(line)
        if labels.get(label, number) < number
    ]
