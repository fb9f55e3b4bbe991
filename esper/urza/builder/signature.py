"""What parameters native code takes, read from its assembly: the contract between building and launching.

Triton appends two pointers to a kernel's own arguments, for global and for profile scratch memory. A release
that appends something else would be launched with garbage, so what is built is compared with what is passed.
"""

from __future__ import annotations

import re

from esper.urza.builder.amdgcn import parameter_bits
from esper.urza.builder.toolchain import is_amd
from esper.urza.kernel import KernelSource

HIDDEN_PARAMETERS = 2
"""What Triton appends: pointers to global and to profile scratch memory."""

_POINTER_BITS = 64
_SIZE_BITS = 32
_SCALAR_BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "i32": 32, "i64": 64, "bool": 8}
_ENTRY = re.compile(r"\.visible \.entry \w+\(([^)]*)\)")
_PARAMETER = re.compile(r"\.param \.[a-z](\d+)")


def built_bits(ptx: str) -> list[int]:
    """The width of each parameter of the one kernel in `ptx`. Raises ValueError where there is none."""
    entries = _ENTRY.findall(ptx)
    if len(entries) != 1:
        raise ValueError(f"the PTX has {len(entries)} kernels, expected one")
    return [int(bits) for bits in _PARAMETER.findall(entries[0])]


def expected_bits(kernel: KernelSource) -> list[int]:
    """The width of each parameter that a launch passes."""
    widths = {"pointer": _POINTER_BITS, "size": _SIZE_BITS}
    own = [widths.get(a.kind) or _SCALAR_BITS[a.dtype] for a in kernel.arguments]
    return [*own, *[_POINTER_BITS] * HIDDEN_PARAMETERS]


def check_parameters(kernel: KernelSource, assembly: str, target: str) -> None:
    """Raises ValueError unless code takes what a launch of `kernel` passes. assembly: PTX, or AMDGCN."""
    found = parameter_bits(assembly) if is_amd(target) else built_bits(assembly)
    expected = expected_bits(kernel)
    if found != expected:
        raise ValueError(f"its parameters have {found} bits, and a launch passes {expected}")
