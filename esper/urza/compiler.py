"""The compiler: a graph to kernels for both directions, built for each target, with what they cost.

It needs no GPU and runs nothing; the torch tier is made only for an artifact's readable listing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from esper.ir.dims import evaluate_size
from esper.ir.graph import BlueprintIR
from esper.lang import SizeValue, size_values
from esper.passes import DECOMPOSED, forward_and_backward, joint_graph, run_passes
from esper.passes.partition import Partition
from esper.urza.arena import Arena, arena
from esper.urza.builder.ahead_of_time import Build, build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.toolchain import versions
from esper.urza.generate.writer import Launch
from esper.urza.kernel import BuiltKernel, KernelSource
from esper.urza.listing import listing, plan_text
from esper.urza.program import Program, make_program
from esper.urza.traffic import flops, traffic

if TYPE_CHECKING:
    from esper.urza.artifact import Artifact

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Programs:
    """Both directions of a graph; the backward one is empty where nothing has a gradient.

    kernels: of both, under names that differ.
    """

    ir: BlueprintIR
    joint: BlueprintIR
    parts: Partition
    forward: Program
    backward: Program

    @property
    def both(self) -> tuple[Program, ...]:
        """Forward, then backward; those that compute something."""
        return (self.forward, self.backward) if self.parts.backward.outputs else (self.forward,)

    @cached_property
    def kernels(self) -> tuple[KernelSource, ...]:
        return tuple(kernel for _, _, kernel in self.launches())

    @cached_property
    def sources(self) -> tuple[KernelSource, ...]:
        """What is built: the kernels, and those of them that do better at sizes divisible by 16 under that
        promise too."""
        aligned = (kernel.aligned for kernel in self.kernels)
        return (*self.kernels, *(kernel for kernel in aligned if kernel is not None))

    def launches(self) -> Iterator[tuple[Program, Launch, KernelSource]]:
        """Every launch with its program, and its kernel under a name that no other kernel has."""
        taken: set[str] = set()
        for program in self.both:
            for step in program.steps:
                if isinstance(step, Launch):
                    name = step.kernel.name
                    while name in taken:
                        name = f"{name}_{program.direction}"
                    taken.add(name)
                    yield program, step, replace(step.kernel, name=name)

    @property
    def outside_calls(self) -> tuple[str, ...]:
        """The operators that run as library calls, each once, forward before backward."""
        return tuple(dict.fromkeys(op for program in self.both for op in program.outside))

    def stage(self, name: str, sources: Mapping[str, str] | None = None) -> str:
        """The text of a stage before kernels are built: ir, joint, plan or triton.

        sources: the texts of blueprints by path, whose words then stand beside kernels.
        """
        match name:
            case "ir":
                return str(self.ir)
            case "joint":
                return str(self.joint)
            case "plan":
                return "\n".join(plan_text(program) for program in self.both)
            case _:
                launches = ((launch, kernel) for _, launch, kernel in self.launches())
                return listing(launches, self.ir.name, sources)


def make_programs(ir: BlueprintIR, wrt: tuple[str, ...] | None = None) -> Programs:
    """Forward and backward programs; gradients of `wrt`, or of all inputs and params that have one.

    Where nothing has a gradient the backward program is empty. Raises `UnsupportedElementType` for float64.
    """
    joint = joint_graph(run_passes(ir), wrt)
    parts = forward_and_backward(run_passes(joint, DECOMPOSED))
    return Programs(
        ir, joint, parts, make_program(parts.forward, "forward"), make_program(parts.backward, "backward")
    )


@dataclass(frozen=True)
class Compilation:
    """A compiled graph.

    targets: as given. sizes: a number for each size symbol, for the figures that need one. compile_ms:
    planning, generation and building, by the clock.
    """

    programs: Programs
    targets: tuple[str, ...]
    sizes: Mapping[str, int]
    build: Build
    compile_ms: float

    @property
    def ir(self) -> BlueprintIR:
        return self.programs.ir

    @property
    def cached(self) -> bool:
        """Whether Triton was not invoked."""
        return self.build.cached

    @property
    def outside_calls(self) -> tuple[str, ...]:
        return self.programs.outside_calls

    @property
    def parameters(self) -> int:
        return evaluate_size(self.ir.parameters, self.sizes)

    @property
    def flops(self) -> int:
        """Of the forward pass, at `sizes`."""
        return flops(self.programs.parts.forward, self.sizes)

    @property
    def saved_bytes(self) -> int:
        """What lives from the forward to the backward pass beside inputs and weights, at `sizes`."""
        return evaluate_size(self.programs.parts.saved_bytes, self.sizes)

    def arenas(self) -> dict[str, Arena]:
        """What each direction makes for itself, at `sizes`."""
        return {program.direction: arena(program, self.sizes) for program in self.programs.both}

    def stage(self, name: str) -> str:
        """The text of any stage: of kernels as built (ttir, ptx), or what `Programs.stage` gives."""
        if name not in ("ttir", "ptx"):
            return self.programs.stage(name)
        comment = "//"  # in both languages
        return "\n".join(
            f"{comment} {one.kernel.direction} {one.kernel.name} for {one.target}\n{getattr(one, name)}"
            for one in self.build.kernels
        )

    def report(self) -> dict[str, Any]:
        """The JSON document of `esperc compile --json`, the artifact's path apart."""
        arenas = self.arenas()
        return {
            "schema_version": SCHEMA_VERSION,
            "blueprint": self.ir.name,
            "ir_hash": self.ir.hash,
            "parameters": self.parameters,
            "flops": self.flops,
            "sizes": dict(self.sizes),
            "targets": list(self.targets),
            "cached": self.cached,
            "compile_ms": round(self.compile_ms, 1),
            "triton_invocations": self.build.invocations,
            "kernels": self._kernels(),
            "saved_bytes": self.saved_bytes,
            "arena_bytes": {direction: one.size for direction, one in arenas.items()},
            "arena_minimum": {direction: one.least for direction, one in arenas.items()},
            "outside_calls": list(self.outside_calls),
        }

    def _kernels(self) -> list[dict[str, Any]]:
        moved = {
            kernel.name: traffic(program, launch, self.sizes)
            for program, launch, kernel in self.programs.launches()
        }
        moved |= {f"{name}_aligned": found for name, found in moved.items()}
        return [
            _kernel_record(one)
            | {
                "bytes_moved": moved[one.kernel.name].moved,
                "bytes_minimum": moved[one.kernel.name].minimum,
            }
            for one in self.build.kernels
        ]

    def artifact(self, source: str = "", options: Mapping[str, str] | None = None) -> Artifact:
        """What `write_artifact` writes. source: the blueprint's text; options: what it was compiled with.

        The report in it leaves out what differs from run to run, so equal compilations give equal bytes.
        """
        # pydantic and torch are needed for this alone: most compiles print a report and write no artifact.
        from esper.urza.artifact import Artifact
        from esper.urza.eager.module_text import module_text

        passing = ("cached", "compile_ms", "triton_invocations")
        report = {name: value for name, value in self.report().items() if name not in passing}
        empty = Artifact(
            blueprint=self.ir.name,
            ir_hash=self.ir.hash,
            ir_json=self.ir.to_json(),
            source=source,
            kernels_py=self.programs.stage("triton"),
            module_py=module_text(self.ir),
            report_json=json.dumps(report, indent=1) + "\n",
            options=dict(options or {}),
            versions=versions(self.targets),
            targets=self.targets,
        )
        return empty.with_kernels(self.build.kernels)


def compile_ir(
    ir: BlueprintIR,
    targets: Sequence[str],
    *,
    sizes: Mapping[str, SizeValue] | None = None,
    cache: KernelCache | None = None,
    jobs: int | None = None,
) -> Compilation:
    """Compiles `ir`, whose parameter shapes are concrete, for each of `targets`.

    sizes: values of size symbols for the figures of the report; the defaults are `size_values`'. jobs:
    build processes at a time. Raises what `make_programs` and `build_kernels` raise.
    """
    start = time.perf_counter()
    values = size_values(ir, sizes)
    programs = make_programs(ir)
    build = build_kernels(programs.sources, targets, cache=cache, jobs=jobs)
    return Compilation(programs, tuple(targets), values, build, (time.perf_counter() - start) * 1e3)


def _kernel_record(one: BuiltKernel) -> dict[str, Any]:
    used = one.resources
    return {
        "name": one.kernel.name,
        "direction": one.kernel.direction,
        "target": one.target,
        "registers": used.registers,
        "spill_bytes": used.spill_bytes,
        "shared_bytes": used.shared_bytes,
        "matrix_instructions": used.matrix_instructions,
        "matrix_kind": used.matrix_kind,
        "vector_bits": used.vector_bits,
    }
