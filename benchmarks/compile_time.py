"""How long a cold compile takes, beside `torch.compile` of the same block in the same run.

Ours is `esperc compile` for one target in bf16, forward and backward, with an empty cache; then again with
what that left behind. torch's is a process that imports the block as `esperc compile --emit torch` writes it,
compiles it for the CPU with an empty cache and runs it once forward and backward, at `esperc compile`'s
default sizes. Both are whole processes, children counted: seconds by the clock, and of the processors, which
tell more where others share the machine. For torch's process the part after its imports is told apart. Byte
code of both packages is written before, as where they are installed. Fails if either compiled nothing.

`--profile` shows instead where our processor time goes: stages of Triton, summed over the kernels.

    python benchmarks/compile_time.py --write
    python benchmarks/compile_time.py --profile transformer_block
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton

from esper.lang import size_values
from esper.lang.lower import lower
from esper.urza.builder.processes import child_environment
from esper.urza.compiler import make_programs

RESULTS = Path(__file__).parent / "results"
GOALS_S = {"transformer_block": 10.0, "mlp_block": 4.0}
WARM_GOAL_S = 0.5
TARGET = "sm_90"
WARM_RUNS = 7

TORCH = """
import json, sys, time
import torch
from torch._dynamo.utils import counters
from torch._inductor import metrics

source, name, shapes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
space = {"__name__": name}
exec(compile(open(source).read(), source, "exec"), space)
(kind,) = (v for v in space.values() if isinstance(v, type) and v.__module__ == name)
block = kind().to(torch.bfloat16)
inputs = [torch.randn(shape, dtype=torch.bfloat16, requires_grad=True) for shape in shapes]
begun = time.perf_counter(), time.process_time()
torch.compile(block)(*inputs).float().sum().backward()
wall = time.perf_counter() - begun[0]
print(json.dumps([wall, counters["stats"]["unique_graphs"], metrics.generated_kernel_count]))
"""

PROFILE = """
import json, os, sys, tempfile, types

def processors():
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system

begun = processors()
import triton.compiler.compiler as compiler
imported = processors() - begun
from triton import knobs
from esper.urza.builder import build_worker

compiler.time = types.SimpleNamespace(time=processors)  # stages in processor time
stages, whole = [], []
knobs.compilation.listener = lambda *, times, **rest: stages.append(
    {"ast": times.ir_initialization, **dict(times.lowering_stages), "storing": times.store_results}
)
for line in sys.stdin:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        start = processors()
        build_worker._build({**json.loads(line), "folder": folder})
        whole.append(processors() - start)
print(json.dumps([imported, stages, whole]))
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """Seconds by the clock, and of the processors in the process and its children; what it printed."""

    wall_s: float
    processor_s: float
    printed: str


def taken(command: list[str], environment: Mapping[str, str], given: str = "") -> Taken:
    """Runs a process to its end. Raises `SystemExit` if it fails."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as told:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=out, stderr=told, text=True
        )
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        told.seek(0)
        if process.returncode:
            raise SystemExit(f"{' '.join(command[:6])} failed:\n{told.read()[-2000:]}")
        return Taken(wall_s, used.ru_utime + used.ru_stime, out.read())


def esperc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "esper.cli.esperc", *arguments]


def environment_of(**variables: str) -> dict[str, str]:
    """A child's environment, in which Python keeps the byte code of what it imports."""
    found = child_environment(**variables)
    found.pop("PYTHONDONTWRITEBYTECODE", None)
    return found


def ours(name: str, folder: Path) -> dict[str, Any]:
    environment = environment_of(ESPER_CACHE_DIR=str(folder / f"{name}.cache"))
    taken(esperc("compile", name, "--target", TARGET, "--emit", "plan"), environment)
    taken([sys.executable, "-c", "import esper.urza.builder.build_worker"], environment)
    command = esperc("compile", name, "--precision", "bf16", "--target", TARGET, "--json")
    cold = taken(command, environment)
    warm = [taken(command, environment) for _ in range(WARM_RUNS)]
    report = json.loads(cold.printed)
    if not report["kernels"] or report["cached"] or report["triton_invocations"] == 0:
        raise SystemExit(f"esperc compiled nothing of {name}")
    if not json.loads(warm[-1].printed)["cached"]:
        raise SystemExit(f"a second compile of {name} was not answered from the cache")
    return {
        "kernels": len(report["kernels"]),
        "built": report["triton_invocations"],
        "cold_wall_s": cold.wall_s,
        "cold_processor_s": cold.processor_s,
        "warm_wall_s": min(one.wall_s for one in warm),
        "warm_processor_s": min(one.processor_s for one in warm),
    }


def torchs(name: str, folder: Path) -> dict[str, Any]:
    ir = lower(name, precision="bf16")
    sizes = size_values(ir)
    environment = environment_of(
        TORCHINDUCTOR_CACHE_DIR=str(folder / f"{name}.inductor"), TRITON_CACHE_DIR=str(folder / "triton")
    )
    source = folder / f"{name}.py"
    source.write_text(taken(esperc("compile", name, "--emit", "torch"), environment).printed)
    shapes = json.dumps([node.type.concrete_shape(sizes) for node in ir.inputs])
    cold = taken([sys.executable, "-c", TORCH, str(source), name, shapes], environment)
    compiled_s, graphs, kernels = json.loads(cold.printed)
    if not graphs or not kernels:
        raise SystemExit(f"torch.compile compiled nothing of {name}: {graphs} graphs, {kernels} kernels")
    return {
        "graphs": graphs,
        "kernels": kernels,
        "cold_wall_s": cold.wall_s,
        "cold_processor_s": cold.processor_s,
        "compile_wall_s": compiled_s,
    }


def profile(name: str) -> str:
    """Processor seconds of each stage of Triton over both directions' kernels, and the slowest of these."""
    start = time.process_time()
    kernels = make_programs(lower(name, precision="bf16")).kernels
    planned_s = time.process_time() - start
    kernels = tuple({kernel.digest: kernel for kernel in kernels}.values())
    requests = [json.dumps({"kernel": kernel.to_json(), "target": TARGET}) for kernel in kernels]
    environment = child_environment(TRITON_DISABLE_LINE_INFO="1")
    run = taken([sys.executable, "-c", PROFILE], environment, "\n".join(requests))
    imported_s, stages, whole_s = json.loads(run.printed.splitlines()[-1])
    names = dict.fromkeys(stage for one in stages for stage in one)
    lines = [
        f"{name}: {len(kernels)} kernels, planned and written in {planned_s:.2f} s, "
        f"Triton imported in {imported_s:.2f} s, compiled in {sum(whole_s):.2f} s, of which",
        *(f"  {sum(one.get(s, 0) for one in stages) / 1e6:6.2f} s {s}" for s in names),
    ]
    slowest = sorted(zip(whole_s, kernels, stages, strict=True), key=lambda one: -one[0])
    for seconds, kernel, stage in slowest[:8]:
        parts = ", ".join(f"{s} {value / 1e6:.2f}" for s, value in stage.items() if value > 1e4)
        lines.append(f"  {seconds:6.2f} s {kernel.name}: {parts}")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| blueprint | kernels | cold, s | goal | processors, s | warm, s | warm processors, s "
        "| torch.compile, s | processors, s | after imports, s |",
        "| --- |" + " ---: |" * 9,
    ]
    for found in rows:
        mine, theirs = found["ours"], found["torch"]
        lines.append(
            f"| {found['blueprint']} | {mine['kernels']} | {mine['cold_wall_s']:.1f} "
            f"| {GOALS_S.get(found['blueprint'], float('nan')):g} | {mine['cold_processor_s']:.1f} "
            f"| {mine['warm_wall_s']:.2f} | {mine['warm_processor_s']:.2f} | {theirs['cold_wall_s']:.1f} "
            f"| {theirs['cold_processor_s']:.1f} | {theirs['compile_wall_s']:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blueprints", nargs="*", default=list(GOALS_S))
    parser.add_argument("--profile", action="store_true", help="where our cold time goes")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/compile_time.*")
    arguments = parser.parse_args()
    if arguments.profile:
        print("\n".join(profile(name) for name in arguments.blueprints))
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="esper-compile-time-") as place:
        rows = [
            {"blueprint": name, "ours": ours(name, Path(place)), "torch": torchs(name, Path(place))}
            for name in arguments.blueprints
        ]
    text = table(rows)
    print(text)
    if arguments.write:
        machine = {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "load": round(load, 2),
        }
        whole = json.dumps({"machine": machine, "rows": rows}, indent=1)
        (RESULTS / "compile_time.json").write_text(whole + "\n")
        (RESULTS / "compile_time.md").write_text(
            "# Cold and warm compiles\n\n"
            f"`python benchmarks/compile_time.py --write`: {machine['cores']} cores at a load of "
            f"{machine['load']} before, Python {machine['python']}, torch {machine['torch']}, Triton "
            f"{machine['triton']}; bf16, forward and backward, {TARGET}, empty caches; whole processes, "
            f"imports included. The goal of a warm compile is {WARM_GOAL_S:g} s of processor time. "
            f"torch.compile is for the CPU.\n\n{text}\n"
        )


if __name__ == "__main__":
    main()
