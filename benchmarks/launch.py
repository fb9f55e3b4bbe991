"""Host time of one kernel launch: packing the arguments and calling the driver, without a GPU.

The driver is the tests' stand-in, compiled here, so what is measured is everything but the driver's own work.
Rows: a bound kernel given addresses; a step of a program, which looks tensors and sizes up first; and the
whole forward program of a block, buffers allocated, for each kernel it launches; and the same where its
kernels are launched as one, by a graph that the stand-in replays.

    python benchmarks/launch.py
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import sys
import tempfile
import timeit
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where `tests` is

from esper.lang import lower
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.compiler import make_programs
from esper.urza.eager.torch_tier import leaves
from esper.urza.generate.writer import Launch
from esper.urza.program import Program
from esper.urza.run.bound_program import BoundProgram, Buffers
from esper.urza.run.graphs import REPEATS as SEEN_BEFORE
from esper.urza.run.graphs import Graphs
from esper.urza.run.launcher import BoundKernel, Code, Launcher
from tests.urza.run.driver_shim import Shim, compiler

RESULTS = Path(__file__).parent / "results"
BLOCK = "mlp_block"
CALLS = 2000
REPEATS = 15


def microseconds(call: Callable[[], object], calls: int = CALLS) -> float:
    """The fastest of several repetitions: what the call takes when nothing disturbs it."""
    return min(timeit.repeat(call, number=calls, repeat=REPEATS)) / calls * 1e6


def inputs(program: Program, size: int) -> dict[str, torch.Tensor]:
    found = {}
    for leaf in leaves(program.ir):
        shape = leaf.type.concrete_shape(dict.fromkeys(leaf.type.symbols, size))
        found[leaf.name] = torch.zeros(shape, dtype=TORCH_DTYPES[leaf.type.dtype])
    return found


def measure(shim: Shim) -> list[tuple[str, int, float]]:
    """(what, parameters, microseconds a launch) of each row."""
    program = make_programs(lower(BLOCK, features=64, precision="bf16")).forward
    codes = {k.digest: Code(k, k.entry, b"\x7fELF" + k.digest.encode(), 4, 0, 0) for k in program.kernels}
    step = max((s for s in program.steps if isinstance(s, Launch)), key=lambda s: len(s.kernel.arguments))
    arguments = step.kernel.arguments
    kernel = BoundKernel(shim.driver, codes[step.kernel.digest], device=0)
    values = (*(2**40 + 16 * i for i, a in enumerate(arguments) if a.kind == "pointer"),)
    values += (7,) * (len(arguments) - len(values))
    stream = ctypes.c_void_p(2**40)
    launches = Launcher(shim.driver, codes, 0, lambda device: 2**40)
    given = inputs(program, 8)
    seen: list[float] = []

    def timed(stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        if step in stretch and not seen:
            launches((step,), buffers, sizes)
            seen.append(microseconds(lambda: launches((step,), buffers, sizes)))

    bound = microseconds(lambda: kernel((4, 1, 1), stream, values))
    BoundProgram(program, timed)(given)
    called = BoundProgram(program, launches)
    whole = microseconds(lambda: called(given), calls=200)
    replayed = BoundProgram(program, Graphs(launches))
    for _ in range(2 * SEEN_BEFORE):
        replayed(given)
    graph = microseconds(lambda: replayed(given), calls=200)
    count = len(arguments) + 2
    return [
        ("bound kernel", count, bound),
        ("step of a program", count, seen[0]),
        (f"program of `{BLOCK}`, {len(program.kernels)} kernels, each", count, whole / len(program.kernels)),
        ("the same, by a CUDA graph, each", count, graph / len(program.kernels)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/launch.md")
    arguments = parser.parse_args()
    if compiler() is None:
        sys.exit("there is no C compiler here for the stand-in driver")
    with tempfile.TemporaryDirectory(prefix="esper-launch-") as place:
        rows = measure(Shim(Path(place)))
    lines = ["| what | parameters | µs a launch |", "| --- | ---: | ---: |"]
    lines += [f"| {what} | {count} | {time_us:.2f} |" for what, count, time_us in rows]
    print("\n".join(lines))
    if arguments.write:
        (RESULTS / "launch.md").write_text(
            "# Host time of a launch\n\n"
            f"`python benchmarks/launch.py --write`: {os.cpu_count()} cores, Python "
            f"{platform.python_version()}, torch {torch.__version__}. The driver is a stand-in that returns "
            "at once; with a GPU: not measured.\n\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main()
