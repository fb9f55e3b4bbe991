"""What a kernel built for an AMD GPU costs, read off its assembly: neither a GPU nor a tool of ROCm is asked.

LLVM writes the metadata of the code object (registers, spills, arguments) into the assembly as YAML, and
comments on each block whether it lies in a loop. `.vgpr_count` counts the accumulation registers too, which
CDNA3 keeps in the same file.
"""

from __future__ import annotations

import re
from collections import Counter

from esper.urza.kernel import Resources

_METADATA = re.compile(r"^\s*\.amdgpu_metadata$(.*?)^\s*\.end_amdgpu_metadata$", re.MULTILINE | re.DOTALL)
_FIELD = r"^\s+(?:- )?\.{name}:\s+(\d+)$"
_ARGUMENT = re.compile(r"^\s+(?:- )?\.size:\s+(\d+)\s+\.value_kind:\s+(\w+)$", re.MULTILINE)
_KERNEL = re.compile(r"^\s+(?:- )?\.symbol:", re.MULTILINE)
_MATRIX = re.compile(r"^\s+v_s?mfmac?_", re.MULTILINE)
_ACCESS = re.compile(
    r"^\s+(?:global|flat|buffer)_(?:load|store)_(?:lds_)?"
    r"(?:dword(?:x(\d))?|[us]?(short|byte))(?:_d16(?:_hi)?)?\s"
)
_BLOCK = re.compile(r"^(?:\.LBB\d+_\d+:|; %bb\.\d+:)")
_IN_LOOP = re.compile(r";.*\b(?:Loop Header|in Loop:|Parent Loop)")
_WORD_BITS = 32
_NARROW_BITS = {"short": 16, "byte": 8}
_REGISTER_BYTES = 4


def resources(amdgcn: str, shared_bytes: int, trips: int) -> Resources:
    """The resources of the one kernel in `amdgcn`; `trips` is how often its longest loop turns.

    Spills are told in bytes of one thread's scratch memory. Raises ValueError where the metadata says nothing
    of registers or spills: an unread figure must not pass for zero.
    """
    metadata = _metadata(amdgcn)
    spilled = _REGISTER_BYTES * _number(metadata, "vgpr_spill_count")
    widths = access_bytes(amdgcn, trips)
    total = sum(widths.values())
    matrix = len(_MATRIX.findall(amdgcn))
    return Resources(
        registers=_number(metadata, "vgpr_count"),
        spill_bytes=max(spilled, _number(metadata, "private_segment_fixed_size")),
        shared_bytes=shared_bytes + _number(metadata, "group_segment_fixed_size"),
        matrix_instructions=matrix,
        matrix_kind="mfma" if matrix else "",
        vector_bits=round(sum(bits * size for bits, size in widths.items()) / total) if total else 0,
        wide_share=sum(size for bits, size in widths.items() if bits >= 128) / total if total else 0.0,
    )


def parameter_bits(amdgcn: str) -> list[int]:
    """The width of each parameter of the one kernel in `amdgcn`, without those that the runtime fills in.

    Raises ValueError where there is none.
    """
    metadata = _metadata(amdgcn)
    kernels = len(_KERNEL.findall(metadata))
    if kernels != 1:
        raise ValueError(f"the assembly has {kernels} kernels, expected one")
    return [8 * int(size) for size, kind in _ARGUMENT.findall(metadata) if not kind.startswith("hidden_")]


def access_bytes(amdgcn: str, trips: int) -> dict[int, int]:
    """Bytes a thread moves to and from global memory, by the width of the access in bits."""
    sizes: Counter[int] = Counter()
    heading = looping = False
    for line in amdgcn.splitlines():
        if _BLOCK.match(line):
            heading, looping = True, _IN_LOOP.search(line) is not None
        elif heading and line.lstrip().startswith(";"):
            looping = looping or _IN_LOOP.search(line) is not None
        else:
            heading = False
        if access := _ACCESS.match(line):
            vector, narrow = access.groups()
            bits = _NARROW_BITS[narrow] if narrow else _WORD_BITS * int(vector or 1)
            sizes[bits] += bits // 8 * (trips if looping else 1)
    return dict(sizes)


def _metadata(amdgcn: str) -> str:
    found = _METADATA.search(amdgcn)
    if found is None:
        raise ValueError("the assembly has no metadata")
    return found[1]


def _number(metadata: str, name: str) -> int:
    found = re.search(_FIELD.format(name=name), metadata, re.MULTILINE)
    if found is None:
        raise ValueError(f"the metadata of the assembly names no {name}")
    return int(found[1])
