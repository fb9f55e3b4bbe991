"""The library's kernels on each target, judged without a GPU: registers, spills, shared memory, matrix
instructions, and how wide global memory is read and written.

Every library blueprint in bfloat16, its parameters at their defaults, forward and backward, for NVIDIA's
sm_80, sm_90 and sm_100 and AMD's gfx942. A product is a kernel whose TTIR has `tt.dot`; it must have matrix
instructions. The share of wide accesses is of the bytes that kernels move at `esperc compile`'s default
sizes, all of them multiples of 8: each buffer counts by the widths of the accesses to it, which their loops'
turns weigh, and by its bytes. Where a kernel is built under promises on its sizes too, what is launched at
the default sizes counts. Built kernels stay in the kernel cache, so a run that was stopped goes on where it
was. Fails where a kernel spills, does not build, or is a product without matrix instructions.

    nice -n 15 python benchmarks/targets.py --write
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esper.ir.dims import evaluate_size
from esper.lang import library, lower, size_values
from esper.urza.builder.ahead_of_time import build_each
from esper.urza.builder.buffer_widths import buffer_widths, wide_share
from esper.urza.builder.llvm_widths import llvm_widths
from esper.urza.builder.toolchain import SHARED_BYTES, is_amd, triton_version
from esper.urza.compiler import Programs, make_programs
from esper.urza.generate.writer import Launch
from esper.urza.kernel import BuiltKernel, KernelSource
from esper.urza.program import Program
from esper.urza.traffic import traffic_of_buffers

RESULTS = Path(__file__).parent / "results"
TARGETS = ("sm_80", "sm_90", "sm_100", "gfx942")
ENOUGH = 0.95
LISTED = 12
"""How many kernels of each reason the table names; targets.json has all."""

POOLING = re.compile(r"\bimport [^\n]*\b(?:max_pool\w*|avg_pool\w*)\b")
DEPTHWISE = re.compile(r"\bimport [^\n]*\bdepthwise\w*\b")
QUOTIENTS = re.compile(r"(?://|%) \(?([A-Za-z_]\w*)")


@dataclass(frozen=True)
class Row:
    """One kernel of one blueprint on one target.

    failure: why it does not build, or "". moved: bytes at the default sizes, 0 where it is not what is
    launched at these. wide: the part of them that goes
    in accesses of 128 bits. narrow: why less than ENOUGH of them do, or "".
    """

    blueprint: str
    target: str
    direction: str
    kernel: str
    moved: int
    failure: str = ""
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    is_product: bool = False
    matrix_kind: str = ""
    wide: float = 0.0
    narrow: str = ""

    @property
    def faults(self) -> str:
        """What must not be, or ""."""
        if self.failure:
            return self.failure
        if self.spill_bytes:
            return f"spills {self.spill_bytes} bytes"
        return "a product without matrix instructions" if self.is_product and not self.matrix_kind else ""


def rows(target: str, names: Sequence[str], jobs: int) -> Iterator[Row]:
    """The kernels of the blueprints `names`, in order."""
    for name in names:
        ir = lower(name, precision="bf16")
        programs, sizes = make_programs(ir), size_values(ir)
        built, failures = build(programs, target, jobs)
        for program, launch, kernel in programs.launches():
            moved = moved_by(program, launch, sizes)
            launched = launched_at(launch, kernel, sizes)
            for one in (kernel, kernel.aligned):
                if one is not None:
                    found = moved if one.name == launched else {}
                    yield row(name, target, one, failures, built, found)
        print(f"{target} {name}: {len(programs.sources)} kernels", file=sys.stderr, flush=True)


def launched_at(launch: Launch, kernel: KernelSource, sizes: Mapping[str, int]) -> str:
    """The name of what is launched at `sizes`: the kernel, or the same under promises that hold."""
    numbers = {name: evaluate_size(size, sizes) for name, size in launch.sizes.items()}
    return kernel.at(numbers).name


def moved_by(program: Program, launch: Launch, sizes: Mapping[str, int]) -> dict[str, int]:
    """The bytes that each pointer argument's buffer stands for."""
    of_buffers = traffic_of_buffers(program, launch, sizes)
    return {argument: of_buffers[buffer].moved for argument, buffer in launch.buffers.items()}


def row(
    blueprint: str,
    target: str,
    kernel: KernelSource,
    failures: Mapping[str, str],
    built: Mapping[str, BuiltKernel],
    moved: Mapping[str, int],
) -> Row:
    total = sum(moved.values())
    one = built.get(kernel.name)
    if one is None:
        return Row(blueprint, target, kernel.direction, kernel.name, total, failures[kernel.name])
    used, wide = one.resources, share(one, moved)
    return Row(
        blueprint=blueprint,
        target=target,
        direction=kernel.direction,
        kernel=kernel.name,
        moved=total,
        registers=used.registers,
        spill_bytes=used.spill_bytes,
        shared_bytes=used.shared_bytes,
        is_product="tt.dot" in one.ttir,
        matrix_kind=used.matrix_kind,
        wide=wide,
        narrow="" if wide >= ENOUGH or not moved else reason(one, moved),
    )


def share(one: BuiltKernel, moved: Mapping[str, int]) -> float:
    """The part of the bytes that a kernel moves which goes in accesses of 128 bits."""
    trips = one.kernel.trips
    widths = llvm_widths(one.llir, trips) if is_amd(one.target) else buffer_widths(one.ptx, trips)
    names = {number: argument.name for number, argument in enumerate(one.kernel.arguments)}
    wide = sum(moved[names[n]] * wide_share(found) for n, found in widths.items() if names.get(n) in moved)
    return wide / (sum(moved.values()) or 1)


def reason(one: BuiltKernel, moved: Mapping[str, int]) -> str:
    """Why a kernel reads and writes narrowly, as far as its text tells."""
    source = one.kernel.source
    sizes = {argument.name for argument in one.kernel.arguments if argument.kind == "size"}
    if POOLING.search(source):
        return "windows start anywhere along a line"
    if DEPTHWISE.search(source) or sizes & set(QUOTIENTS.findall(source)):
        return "a buffer is read or written across its order, or at places that do not follow each other"
    if sum(moved.values()) < 2**20:
        return "it moves less than 1 MiB"
    if is_amd(one.target) and one.resources.matrix_kind:
        return "a thread holds 4 elements side by side of what the matrix instructions leave in registers"
    return "another"


def build(programs: Programs, target: str, jobs: int) -> tuple[Mapping[str, BuiltKernel], Mapping[str, str]]:
    """Built kernels, and why others do not build, by name."""
    built: dict[str, BuiltKernel] = {}
    failures: dict[str, str] = {}
    found = build_each(programs.sources, target, jobs=jobs, timeout_s=600.0)
    for kernel, one in zip(programs.sources, found, strict=True):
        if isinstance(one, BuiltKernel):
            built[kernel.name] = one
        else:
            failures[kernel.name] = str(one)
    return built, failures


def table(found: Sequence[Row]) -> list[str]:
    lines = [
        "| target | kernels | do not build | most registers | spill | most shared bytes | limit | products | "
        "with matrix instructions | bytes in 128-bit accesses | kernels under 95 % |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for target in dict.fromkeys(one.target for one in found):
        mine = [one for one in found if one.target == target]
        products = [one for one in mine if one.is_product]
        kinds = Counter(one.matrix_kind for one in products if one.matrix_kind)
        kinds_text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        cells = (
            target,
            len(mine),
            sum(bool(one.failure) for one in mine),
            max(one.registers for one in mine),
            sum(one.spill_bytes > 0 for one in mine),
            f"{max(one.shared_bytes for one in mine):,}",
            f"{SHARED_BYTES[target]:,}",
            len(products),
            kinds_text,
            f"{wide_part(mine):.1%}",
            sum(bool(one.narrow) for one in mine),
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def wide_part(found: Sequence[Row]) -> float:
    return sum(one.moved * one.wide for one in found) / (sum(one.moved for one in found) or 1)


def narrow_lines(found: Sequence[Row]) -> list[str]:
    """The kernels under ENOUGH, by target and reason, those first that move most bytes narrowly."""
    lines = []
    for target in dict.fromkeys(one.target for one in found):
        mine = [one for one in found if one.target == target]
        total = sum(one.moved for one in mine) or 1
        lines += ["", f"### {target}", ""]
        for why in sorted({one.narrow for one in mine} - {""}):
            kernels = sorted((o for o in mine if o.narrow == why), key=lambda o: -o.moved * (1 - o.wide))
            lost = sum(one.moved * (1 - one.wide) for one in kernels) / total
            named = [f"{o.blueprint} `{o.kernel}` {o.wide:.0%}" for o in kernels[:LISTED]]
            more = f", and {len(kernels) - LISTED} more" if len(kernels) > LISTED else ""
            lines.append(
                f"- {why}: {len(kernels)} kernels, {lost:.1%} of all bytes. {', '.join(named)}{more}"
            )
    return lines


def narrow_json(found: Sequence[Row], of: str) -> str:
    """All kernels under ENOUGH, one a line."""
    narrow = (
        [one.target, one.blueprint, one.direction, one.kernel, round(one.wide, 3), one.narrow]
        for one in found
        if one.narrow
    )
    lines = ",\n".join(json.dumps(one) for one in narrow)
    return (
        f'{{"commit": {json.dumps(of)}, "triton": {json.dumps(triton_version())}, "narrow": [\n{lines}\n]}}\n'
    )


def commit() -> str:
    """What was measured, as git names it."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or "no commit"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--blueprints", default="", help="names with commas between; by default all")
    parser.add_argument("--jobs", type=int, default=1, help="build processes at a time")
    parser.add_argument("--commit", default=commit(), help="what the results are of, where git cannot tell")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/targets.*")
    arguments = parser.parse_args()
    names = [name for name in arguments.blueprints.split(",") if name] or [one.name for one in library()]
    found = [one for target in arguments.targets.split(",") for one in rows(target, names, arguments.jobs)]
    faults = [f"- {one.target} {one.blueprint} `{one.kernel}`: {one.faults}" for one in found if one.faults]
    text = "\n".join(table(found))
    print(text)
    if arguments.write:
        (RESULTS / "targets.json").write_text(narrow_json(found, arguments.commit))
        (RESULTS / "targets.md").write_text(
            "# The library's kernels on each target\n\n"
            f"`python benchmarks/targets.py --write` of {arguments.commit}: {len(names)} blueprints in "
            f"bfloat16, forward and backward; Triton {triton_version()}, Python {platform.python_version()}, "
            f"{os.cpu_count()} cores. Told from assembly: no GPU ran anything.\n\n{text}\n\n"
            "## Faults\n\n"
            + ("\n".join(faults) or "None.")
            + "\n\n## Narrow accesses\n"
            + "\n".join(narrow_lines(found))
            + "\n"
        )
    if not any(one.is_product for one in found):
        raise SystemExit("no product was built: nothing was judged")
    if faults:
        raise SystemExit("\n".join(faults))


if __name__ == "__main__":
    main()
