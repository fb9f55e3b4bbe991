"""What a kernel is before and after it is built: plain data, independent of the graph it came from.

A `KernelSource` is one generated Triton module with a flat entry function; a `BuiltKernel` is that kernel
as native code for one target, with what the assembler said about it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from esper.urza import grid

ArgumentKind = Literal["pointer", "size", "scalar"]
Direction = Literal["forward", "backward"]
Constant = int | float | bool | str

TRITON_TYPES = {
    "f16": "fp16",
    "bf16": "bf16",
    "f32": "fp32",
    "f64": "fp64",
    "i32": "i32",
    "i64": "i64",
    "bool": "i1",
}
"""Triton's name for each element type."""

SPREAD = "SPREAD"
"""A constexpr that holds where a product's results are spread over the threads before they are stored."""

BATCH = "N"
"""The size that is the batch's by the language's convention: it bounds places, and divides none."""

VECTOR = 8
"""How many bf16 or f16 elements one access of 128 bits moves: what sizes are promised to be multiples of."""

_HAS_PRODUCTS = re.compile(r"^from esper\.kernels\.(?:matmul|attention\w*|scan) import", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Argument:
    """One run-time argument of an entry function.

    pointer: a buffer of `dtype` elements; `writes` says that the kernel writes every element of it exactly
    once. size: a 32-bit integer. scalar: a number of `dtype`.
    divisible_by: a promise that the launch checks: of a pointer's address, or of a size's value.
    is_loose: a size along which no vector lies, so that no promise of it is worth its while.
    """

    name: str
    kind: ArgumentKind
    dtype: str = "i32"
    divisible_by: int = 1
    writes: bool = False
    is_loose: bool = False

    @property
    def triton_type(self) -> str:
        """The type in a Triton signature, such as `*bf16`."""
        return ("*" if self.kind == "pointer" else "") + TRITON_TYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class Configuration:
    """Another way to build a kernel: constexprs that replace the kernel's own, warps, stages."""

    constexprs: Mapping[str, Constant]
    num_warps: int
    num_stages: int


@dataclass(frozen=True, slots=True)
class KernelSource:
    """A generated kernel: Python source with Triton functions, and how it is called.

    source: text of a module that defines `entry` and whatever it calls besides `esper.kernels`.
    arguments: the run-time arguments of `entry`, in its order; `constexprs` names the others.
    grid: up to three extents over the size arguments and constexprs.
    trips: how often the longest loop turns at the default sizes; weighs instructions in the report.
    alternatives: configurations to try, in this order, when the kernel's own spills registers.
    steps: size arguments that places are multiples, quotients or remainders of, or end at.
    promised: the configurations of `aligned`, the preferred first; none where they are the kernel's own.
    """

    name: str
    direction: Direction
    source: str
    entry: str
    arguments: tuple[Argument, ...]
    grid: tuple[grid.Extent, ...]
    constexprs: Mapping[str, Constant] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 3
    trips: int = 1
    alternatives: tuple[Configuration, ...] = ()
    steps: tuple[str, ...] = ()
    promised: tuple[Configuration, ...] = ()

    @property
    def digest(self) -> str:
        """sha256 over everything that the native code depends on, the target and the tools apart."""
        apart = ("name", "direction", "trips", "alternatives", "steps", "promised")
        parts = {key: value for key, value in self.to_json().items() if key not in apart}
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def candidates(self) -> tuple[KernelSource, ...]:
        """The kernel as it stands, then in each of its alternative configurations."""
        return (
            self,
            *(self.configured(other) for other in self.alternatives),
        )

    def configured(self, other: Configuration) -> KernelSource:
        """The kernel in another configuration, without alternatives."""
        return replace(
            self,
            constexprs={**self.constexprs, **other.constexprs},
            num_warps=other.num_warps,
            num_stages=other.num_stages,
            alternatives=(),
        )

    @property
    def configuration(self) -> Configuration:
        """How it is built as it stands."""
        return Configuration(self.constexprs, self.num_warps, self.num_stages)

    @property
    def aligned(self) -> KernelSource | None:
        """This kernel under the promise that its run-time sizes are multiples of VECTOR.

        The batch's and loose ones are not promised.

        Where places are multiples, quotients and remainders of such sizes, the promise tells Triton that
        neighbours lie side by side, so that they are read in one access. None for others.
        """
        if set(self.steps) <= {BATCH}:
            return None
        arguments = tuple(
            replace(a, divisible_by=VECTOR) if a.kind == "size" and a.name != BATCH and not a.is_loose else a
            for a in self.arguments
        )
        kernel = replace(self, name=f"{self.name}_aligned", arguments=arguments)
        if not self.promised:
            return kernel
        first, *others = self.promised
        return replace(kernel.configured(first), alternatives=tuple(others))

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether what this kernel promises of its run-time sizes is true of `sizes`, by argument name."""
        return all(sizes[a.name] % a.divisible_by == 0 for a in self.arguments if a.kind == "size")

    def at(self, sizes: Mapping[str, int]) -> KernelSource:
        """What is launched at `sizes`, by argument name: it, or `aligned` where its promises hold."""
        aligned = self.aligned
        return aligned if aligned is not None and aligned.holds(sizes) else self

    @property
    def has_products(self) -> bool:
        """Whether its template multiplies matrices: loops are pipelined then, and waves share out tiles."""
        return _HAS_PRODUCTS.search(self.source) is not None

    @property
    def on_amd(self) -> KernelSource:
        """This kernel as AMD's GPUs take it, whose waves have twice the threads of a warp.

        Half as many share out a tile alike, so that a thread has as much to read at once. The tile of a
        matrix product is shared out by waves: there the number stays, and what the matrix instructions leave
        in registers is spread again over the threads, where the template knows how.
        """
        if not self.has_products:
            return replace(self, num_warps=max(1, self.num_warps // 2))
        spread = {SPREAD: True} if SPREAD in self.constexprs else {}
        return replace(self, constexprs={**self.constexprs, **spread})

    def launch_grid(self, sizes: Mapping[str, int]) -> tuple[int, int, int]:
        """The grid for run-time `sizes` by argument name."""
        constants = {name: value for name, value in self.constexprs.items() if isinstance(value, int)}
        extents = [grid.evaluate(extent, {**constants, **sizes}) for extent in self.grid]
        x, y, z = extents + [1] * (3 - len(extents))
        return x, y, z

    def to_json(self) -> dict[str, Any]:
        """A JSON document that `from_json` reads."""
        return {
            "name": self.name,
            "direction": self.direction,
            "source": self.source,
            "entry": self.entry,
            "arguments": [[a.name, a.kind, a.dtype, a.divisible_by, a.writes] for a in self.arguments],
            "grid": [grid.to_json(extent) for extent in self.grid],
            "constexprs": dict(self.constexprs),
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
            "trips": self.trips,
            "steps": list(self.steps),
            **{
                name: [[dict(one.constexprs), one.num_warps, one.num_stages] for one in configurations]
                for name, configurations in (
                    ("alternatives", self.alternatives),
                    ("promised", self.promised),
                )
            },
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KernelSource:
        """The inverse of `to_json`, for documents that this process or its parent wrote."""
        fields = dict(data)
        fields["arguments"] = tuple(Argument(*argument) for argument in data["arguments"])
        fields["grid"] = tuple(grid.from_json(extent) for extent in data["grid"])
        for name in ("alternatives", "promised"):
            fields[name] = tuple(Configuration(*one) for one in data[name])
        fields["steps"] = tuple(data["steps"])
        return KernelSource(**fields)


@dataclass(frozen=True, slots=True)
class Resources:
    """What one built kernel uses of the hardware.

    registers: for each thread. spill_bytes: stored to and loaded from local memory, for each thread.
    matrix_instructions: matrix-multiply instructions in the code, of kind `matrix_kind` ("mma", "wgmma",
    "tcgen05", AMD's "mfma", or "" for none). vector_bits: mean width of global accesses, weighted by bytes
    and trip count. wide_share: the part of those bytes that moves in accesses of 128 bits, 0 to 1.
    """

    registers: int
    spill_bytes: int
    shared_bytes: int
    matrix_instructions: int
    matrix_kind: str
    vector_bits: int
    wide_share: float


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A kernel as native code for one target.

    cubin and ptx: native code and its assembly, of AMD's targets an hsaco and AMDGCN. llir: the LLVM IR of
    AMD's targets, "" for others.
    symbol: the function's name in `cubin`. num_warps: as built (specialised warps add to it).
    scratch_bytes: global scratch memory for each program, 0 for every template here.
    """

    kernel: KernelSource
    target: str
    cubin: bytes
    symbol: str
    num_warps: int
    scratch_bytes: int
    resources: Resources
    ttir: str
    ptx: str
    cached: bool
    llir: str = ""
