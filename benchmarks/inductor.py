"""Kernels launched and activation bytes moved, forward plus backward, beside TorchInductor's GPU schedule.

Every library blueprint at its defaults, in training, at `esperc compile`'s default sizes; nothing runs and
nothing is built. Inductor's schedule for an H100 comes from `inductor_gpu/schedule.py`, in a process that
believes in a GPU (`inductor_gpu/pretend_gpu.cpp`, built here by g++ against torch's headers); it is kept in
the JSON by torch's version, the graph's hash and the text of both files. Counted alike on both sides:

- kernels: one for each generated kernel, one for each operator of torch that is no view. `calls` counts a
  library call as one. `launched` counts a convolution's backward call once for each gradient that it gives,
  and flash attention's three times (rowsum(g * result), the gradients, dq's conversion).
- bytes: each generated kernel and each library call reads and writes each of its buffers once, partial sums
  included: whole, or, in a kernel, what slices and look-ups name of it. The two gradients of a convolution
  both read g. Parameters, their gradients, buffers and their updates are apart.
- ours include what a seed launches around its programs: the draw of a random seed, constants of library
  calls, copies of buffers that the backward pass reads, and the one of all updates into buffers.

    python benchmarks/inductor.py --write
    python benchmarks/inductor.py --kernels mlp_block

Fails if Inductor reports nothing, and where it needs fewer kernels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from esper.ir import OPERATORS, BlueprintIR
from esper.ir.dims import evaluate_size
from esper.lang import library, size_values
from esper.lang.lower import lower
from esper.ops.reference.evaluate import TORCH_DTYPES, concrete, reference
from esper.urza.builder.processes import child_environment
from esper.urza.compiler import Programs, make_programs
from esper.urza.eager.torch_tier import leaves
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.plan.access import Access
from esper.urza.program import Call, Program
from esper.urza.traffic import traffic_of_buffers

HERE = Path(__file__).parent
RESULTS = HERE / "results"
SCRIPT = HERE / "inductor_gpu" / "schedule.py"
PRETEND = SCRIPT.with_name("pretend_gpu.cpp")
GPU = "NVIDIA H100 80GB HBM3"
GOAL_BYTES = 0.9
MIB = 2.0**20

LOOPS = frozenset({"rnn", "gru", "lstm", "scan"})
"""Operators that loop over time, for which torch has one library call each way."""

Record = dict[str, Any]


# --- ours ---


class Counting(TorchDispatchMode):
    """A record for each operator of torch that launches something. Operands are meta tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[str, int, dict[int, int]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if not func.is_view and not name.startswith(("empty", "new_empty", "_unsafe_view", "detach")):
            launches = sum(args[-1]) if name == "convolution_backward" else 1
            tensors = [t for t in _tensors((args, kwargs, results)) if t.device.type == "meta"]
            storages = {_storage(t): t.untyped_storage().nbytes() for t in tensors}
            self.found.append((name, launches, storages))
        return results


def _tensors(tree: Any) -> Iterable[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from _tensors(item)
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _tensors(item)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def record(direction: str, label: str, library: bool, launches: int, moved: int, apart: int) -> Record:
    return {
        "direction": direction,
        "label": label,
        "library": library,
        "launches": launches,
        "bytes": moved,
        "bytes_apart": apart,
    }


def ours(programs: Programs, sizes: Mapping[str, int]) -> list[Record]:
    """A record for each launch of both directions, and for those around them."""
    found = []
    ir, parts = programs.ir, programs.parts
    if ir.of("seed"):
        found += [record("forward", f"draw: {op}", True, 1, 0, 16) for op in ("clone", "add_")]
    for program in programs.both:
        found += of_program(program, sizes)
    kept = {leaf.name for leaf in leaves(parts.backward)}
    for node in ir.buffers:
        if node.name in kept:
            size = evaluate_size(node.type.bytes, sizes)
            found.append(record("forward", f"kept: clone {node.name}", True, 1, 0, 2 * size))
    if updated := [evaluate_size(ir.node(name).type.bytes, sizes) for name, _ in parts.forward.updates]:
        found.append(record("forward", "updates: _foreach_copy_", True, 1, 0, 2 * sum(updated)))
    return found


def of_program(program: Program, sizes: Mapping[str, int]) -> list[Record]:
    state = {node.name for node in (*program.ir.params, *program.ir.buffers)}
    apart = set(state)
    for name, read in program.outputs.items():
        if name.removeprefix("grad.") in state:
            apart.add(buffer_name(read.base))
    found = [
        record(program.direction, f"constant: full {node.name}", True, 1, 4, 0) for node in program.constants
    ]
    for step in program.steps:
        if isinstance(step, Call):
            found += of_call(program, step, apart, sizes)
        else:
            found.append(of_launch(program, step, apart, sizes))
    return found


def of_launch(program: Program, step: Launch, apart: set[str], sizes: Mapping[str, int]) -> Record:
    used = {name: one.minimum for name, one in traffic_of_buffers(program, step, sizes).items()}
    moved, beside = (sum(used[n] for n in used if (n in apart) is which) for which in (False, True))
    return record(program.direction, step.kernel.name, False, 1, moved, beside)


def of_call(program: Program, step: Call, apart: set[str], sizes: Mapping[str, int]) -> list[Record]:
    """What torch's operators launch for a library call, as `call_library` makes it."""
    buffers: dict[str, torch.Tensor] = {}

    def operand(read: Access) -> torch.Tensor:
        name, type = buffer_name(read.base), program.ir.type(read.base)
        if name not in buffers:
            whole = type.concrete_shape(sizes)
            buffers[name] = torch.empty(whole, dtype=TORCH_DTYPES[type.dtype], device="meta")
        shape, strides = (
            [evaluate_size(size, sizes) for size in axes] for axes in (read.shape, read.strides)
        )
        return torch.as_strided(buffers[name], shape, strides)

    operands = [None if read is None else operand(read) for read in step.operands]
    attrs = {name: concrete(value, sizes, None) for name, value in step.node.attrs.items()}
    path = OPERATORS[step.node.op].reference
    assert path is not None, step.node.op
    with Counting() as counting:
        results = reference(path)(*operands, **attrs)
        results = [t.contiguous() for t in (results if isinstance(results, tuple) else (results,))]
    beside = {_storage(t) for name, t in buffers.items() if name in apart}
    for name, result in zip(step.results, results, strict=True):
        if name in apart:
            beside.add(_storage(result))
    found = []
    for name, launches, storages in counting.found:
        moved, other = (
            sum(size for place, size in storages.items() if (place in beside) is which)
            for which in (False, True)
        )
        label = f"call {step.node.op}: {name}"
        found.append(record(program.direction, label, True, launches, moved, other))
    return found


# --- Inductor's ---


def pretend_gpu(folder: Path) -> Path:
    """The library that `LD_PRELOAD` brings into the process that schedules. Raises `SystemExit`."""
    root = Path(torch.__file__).parent
    path = folder / "pretend_gpu.so"
    command = [
        "g++",
        "-std=c++20",
        "-shared",
        "-fPIC",
        f"-I{root / 'include'}",
        str(PRETEND),
        "-o",
        str(path),
    ]
    command += [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}", "-lc10", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"g++ cannot build {PRETEND.name}:\n{done.stderr}")
    return path


def key(ir: BlueprintIR, sizes: Mapping[str, int]) -> str:
    """What a schedule of Inductor's depends on."""
    texts = [torch.__version__, ir.hash, json.dumps(dict(sizes)), SCRIPT.read_text(), PRETEND.read_text()]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def inductors(precision: str, keys: Mapping[str, str], kept: Mapping[str, Any]) -> dict[str, Any]:
    """By blueprint, the key and Inductor's kernels; only what `kept` lacks is scheduled."""
    found = {name: kept[name] for name, wanted in keys.items() if kept.get(name, {}).get("key") == wanted}
    missing = [name for name in keys if name not in found]
    if not missing:
        return found
    with tempfile.TemporaryDirectory(prefix="esper-inductor-") as place:
        environment = child_environment(
            OMP_NUM_THREADS="1",
            PYTHONPATH=str(HERE.parent),
            LD_PRELOAD=str(pretend_gpu(Path(place))),
            TORCHINDUCTOR_CACHE_DIR=str(Path(place) / "cache"),
        )
        command = [sys.executable, str(SCRIPT), precision, *missing]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                one = json.loads(line)
                name = one["blueprint"]
                found[name] = {"key": keys[name], "kernels": one["kernels"]}
                print(f"scheduled {name}", file=sys.stderr, flush=True)
    lacking = [name for name in missing if name not in found]
    if process.returncode or lacking:
        raise SystemExit(f"inductor's schedule of {', '.join(lacking)} failed")
    return found


# --- the comparison ---


def row(name: str, mine: list[Record], theirs: list[Record], loops: bool) -> Record:
    if not theirs:
        raise SystemExit(f"inductor reports nothing for {name}")

    def counts(records: list[Record]) -> Record:
        return {
            "launched": sum(one["launches"] for one in records),
            "calls": len(records),
            "library": sum(one["launches"] for one in records if one["library"]),
            "bytes": sum(one["bytes"] for one in records),
            "bytes_apart": sum(one["bytes_apart"] for one in records),
        }

    return {"blueprint": name, "loops": loops, "ours": counts(mine), "inductor": counts(theirs)}


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def ratio(found: Record, what: str) -> float:
    return float(found["ours"][what] / found["inductor"][what])


def lost(rows: list[Record], what: str) -> list[Record]:
    return [found for found in rows if found["ours"][what] > found["inductor"][what]]


def table(rows: list[Record]) -> str:
    lines = [
        "| blueprint | launched | inductor | calls | inductor | MiB | inductor | ratio | apart | inductor |",
        "| --- |" + " ---: |" * 9,
    ]
    for found in rows:
        mine, theirs = found["ours"], found["inductor"]
        mark = " **" if mine["launched"] > theirs["launched"] else " "
        lines.append(
            f"| {found['blueprint']} |{mark}{mine['launched']}{mark.strip()} | {theirs['launched']} "
            f"| {mine['calls']} | {theirs['calls']} "
            f"| {mine['bytes'] / MIB:.1f} | {theirs['bytes'] / MIB:.1f} | {ratio(found, 'bytes'):.2f} "
            f"| {mine['bytes_apart'] / MIB:.2f} | {theirs['bytes_apart'] / MIB:.2f} |"
        )
    return "\n".join(lines)


def summary(rows: list[Record]) -> str:
    def names(found: list[Record], what: str) -> str:
        texts = [f"{one['blueprint']} ({one['ours'][what]:,} to {one['inductor'][what]:,})" for one in found]
        return f"{len(texts)} of {len(rows)}" + (f": {', '.join(texts)}" if texts else "")

    def means(found: list[Record]) -> str:
        numbers = {w: geometric_mean(ratio(one, w) for one in found) for w in ("launched", "calls", "bytes")}
        return ", ".join(f"{what} {number:.2f}" for what, number in numbers.items())

    apart = [found["blueprint"] for found in rows if found["loops"]]
    straight = [found for found in rows if not found["loops"]]
    return "\n".join(
        [
            f"- Geometric means of ours to Inductor's: {means(rows)} (the goal for bytes is {GOAL_BYTES}).",
            *([f"- Without {', '.join(apart)}: {means(straight)}."] if apart and straight else ()),
            f"- More launched than Inductor: {names(lost(rows, 'launched'), 'launched')}.",
            f"- More calls than Inductor: {names(lost(rows, 'calls'), 'calls')}.",
            f"- More bytes than Inductor: {names(lost(rows, 'bytes'), 'bytes')}.",
        ]
    )


def kernels(records: list[Record]) -> str:
    return "\n".join(
        f"  {one['direction']:8} {one['launches']} {'library' if one['library'] else 'kernel '} "
        f"{one['bytes'] / MIB:8.2f} {one['bytes_apart'] / MIB:8.2f}  {one['label'][:120]}"
        for one in records
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("blueprints", nargs="*", help="all of the library if none is named")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "f16", "f32"))
    parser.add_argument("--kernels", action="store_true", help="list each launch, with MiB and those apart")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/inductor.*")
    arguments = parser.parse_args()
    names = arguments.blueprints or [entry.name for entry in library()]
    stored = RESULTS / "inductor.json"
    document = json.loads(stored.read_text()) if stored.exists() else {}
    kept = document.get("inductor", {}).get(arguments.precision, {})
    irs = {name: lower(name, precision=arguments.precision) for name in names}
    sizes = {name: size_values(ir) for name, ir in irs.items()}
    theirs = inductors(arguments.precision, {n: key(ir, sizes[n]) for n, ir in irs.items()}, kept)
    rows = []
    for name, ir in irs.items():
        programs = make_programs(ir)
        mine = ours(programs, sizes[name])
        rows.append(
            row(name, mine, theirs[name]["kernels"], loops=any(node.op in LOOPS for node in ir.nodes))
        )
        if arguments.kernels:
            print(f"{name}: ours\n{kernels(mine)}\n{name}: Inductor's\n{kernels(theirs[name]['kernels'])}")
    print(table(rows), summary(rows), sep="\n\n")
    if arguments.write:
        machine = {"python": platform.python_version(), "torch": torch.__version__, "gpu": GPU}
        others = document.get("inductor", {})
        kept = {**others, arguments.precision: {**kept, **theirs}}
        whole = {"machine": machine, "precision": arguments.precision, "rows": rows, "inductor": kept}
        stored.write_text(json.dumps(whole, indent=1) + "\n")
        (RESULTS / "inductor.md").write_text(
            "# Kernels and activation bytes beside TorchInductor\n\n"
            f"`python benchmarks/inductor.py --write`: forward plus backward in {arguments.precision}, in "
            f"training; sizes are `esperc compile`'s defaults; Inductor's schedule of torch "
            f"{machine['torch']} for a pretended {GPU}. Counted from both plans, nothing ran; what is "
            "counted stands in `benchmarks/inductor.py`. `apart` are MiB of parameters, their gradients, "
            "buffers and updates.\n\n"
            f"{summary(rows)}\n\n{table(rows)}\n"
        )
    if worse := [found["blueprint"] for found in lost(rows, "launched")]:
        raise SystemExit(f"inductor launches fewer kernels for {', '.join(worse)}")


if __name__ == "__main__":
    main()
