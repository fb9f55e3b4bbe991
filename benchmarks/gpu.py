"""Compiled blocks on a GPU: are they right, how fast, how soon, beside eager PyTorch and `torch.compile`.

    python benchmarks/gpu.py                     # all that fits into nine minutes; again, to go on
    python benchmarks/gpu.py --only speed host   # some groups
    python benchmarks/gpu.py --rehearse          # every kind of job once, tiny, on the CPU; writes nothing

Each measurement is a row of `benchmarks/results/gpu.json`, written at once, under the graph and the kernel
templates that it measured: a run goes on where the last one stopped, and measures again what has changed.
`gpu.md` has the tables. What has no row is named as not measured.

A call is forward and backward of a whole block, with the gradients of its inputs and parameters. Times are
of CUDA events with the L2 cache flushed before each call (`triton.testing.do_bench`), medians of turns that
the contenders take. The comparator is the module that `esperc compile --emit torch` writes. Everything is
built by processes side by side beforehand, but where building is what is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from benchmarks.gpu_cases import (  # noqa: E402
    CONTENDERS,
    Call,
    Case,
    Tensors,
    blocks,
    call,
    is_of_maps,
    plain_module,
    turns,
    warm,
)
from esper.files import write_whole  # noqa: E402
from esper.urza.builder.toolchain import templates_digest  # noqa: E402
from esper.urza.compiler import compile_ir  # noqa: E402
from esper.urza.run.seed import CompiledSeed  # noqa: E402

RESULTS = Path(__file__).parent / "results"
MINUTES = 8.5
TURNS = 3
LOOPS = ("gru_layer", "lstm_layer")  # a kernel a step where nothing is fused: only short ones
TIMED = ("transformer_block", "mlp_block")
"""Blocks whose building is timed."""
CACHES = ("ESPER_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
HOSTED = ("mlp_block", "norm", "conv_enhance", "transformer_block", "attention")
"""Blocks whose host time is taken, at sizes that keep the GPU idle."""
Row = dict[str, Any]


class Measured:
    """The rows, by key, in one file that is always whole."""

    def __init__(self, path: Path | None, machine: Mapping[str, str]) -> None:
        self._path = path
        self.machine = dict(machine)
        self.rows: dict[str, Row] = {}
        if path is not None and path.exists():
            held = json.loads(path.read_text(encoding="utf-8"))
            if held["machine"] == self.machine:
                self.rows = held["rows"]
            else:
                path.replace(path.with_name(f"{path.stem}.{held['machine']['gpu'].replace(' ', '-')}.json"))

    def add(self, key: str, row: Row) -> None:
        self.rows[key] = row
        if self._path is not None:
            text = json.dumps({"machine": self.machine, "rows": self.rows}, indent=1, sort_keys=True)
            write_whole(self._path, text + "\n")

    def of(self, group: str) -> list[Row]:
        return [row for row in self.rows.values() if row["group"] == group]


@dataclass(frozen=True)
class Bench:
    """Where calls run, and how one is timed."""

    device: torch.device
    is_rehearsal: bool = False

    def milliseconds(self, one: Callable[[], object]) -> float:
        """Time of `one` on the device."""
        if self.device.type == "cpu":
            started = time.perf_counter()
            one()
            return (time.perf_counter() - started) * 1e3
        from triton.testing import do_bench

        found: float = do_bench(one, warmup=5, rep=25, return_mode="median")
        return found

    def host_microseconds(self, one: Callable[[], object], calls: int = 50) -> float:
        """Time until `one` has returned, its work on the device still under way."""
        self.synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            one()
        spent = time.perf_counter() - started
        self.synchronize()
        return spent / calls * 1e6

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_bytes(self, one: Callable[[], object]) -> int:
        """Most memory that is allocated while `one` runs, beyond what was before."""
        if self.device.type == "cpu":
            return 0
        self.synchronize()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        one()
        self.synchronize()
        return torch.cuda.max_memory_allocated(self.device) - before

    @property
    def target(self) -> str:
        major, minor = torch.cuda.get_device_capability(self.device)
        return f"sm_{major}{minor}"


# The jobs: each returns the figures of one row.


def copy_ceiling(bench: Bench) -> Row:
    size = 2**20 if bench.is_rehearsal else 2**31
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    milliseconds = bench.milliseconds(lambda: target.copy_(source))
    return {"gigabytes_per_second": 2 * size / milliseconds / 1e6}


def matrix_ceiling(bench: Bench, _: Case, dtype: torch.dtype) -> Row:
    side = 64 if bench.is_rehearsal else 8192
    left, right = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    milliseconds = bench.milliseconds(lambda: left @ right)
    return {"teraflops": 2 * side**3 / milliseconds / 1e9}


def rightness(bench: Bench, case: Case) -> Row:
    """The error of outputs and gradients against float64, beside eager's: at most twice that and one ulp."""
    inputs = case.inputs(bench.device)
    mine, eager = (
        case.module("eager" if bench.is_rehearsal else name, bench.device) for name in ("esper", "eager")
    )
    exact = plain_module(replace(case, precision="f32").ir).to(bench.device).double()
    state = eager.state_dict()
    exact.load_state_dict({name: value.double() for name, value in state.items()})
    found = _run(mine, inputs)
    wide = [value.detach().double().requires_grad_() for value in inputs]
    worst, share = 0.0, 0.0
    for ours, theirs, true in zip(found, call(eager, inputs), call(exact, wide), strict=True):
        errors = [(value.double() - true).abs().max().item() for value in (ours, theirs)]
        ulp = torch.finfo(theirs.dtype).eps * true.abs().max().item()
        share = max(share, errors[0] / max(2 * errors[1] + ulp, 1e-300))
        worst = max(worst, errors[0] / max(errors[1], ulp, 1e-300))
    return {"of_allowed": share, "of_eager": worst, "ok": share <= 1}


def _run(module: torch.nn.Module, inputs: Tensors) -> tuple[torch.Tensor, ...]:
    """Results of a call by kernels, buffers as they were before the calls that made them ready."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    warm(module, inputs)
    module.load_state_dict(before)
    return call(module, inputs)


def speed(bench: Bench, case: Case, contenders: Iterable[str]) -> Row:
    calls = _calls(bench, case, contenders)
    return {
        "ms": turns(calls, TURNS, bench.milliseconds),
        "peak_bytes": {name: bench.peak_bytes(one) for name, one in calls.items()},
    }


def host_time(bench: Bench, case: Case) -> Row:
    return {"us": turns(_calls(bench, case, ("eager", "esper")), 2 * TURNS, bench.host_microseconds)}


def bandwidth(bench: Bench, case: Case) -> Row:
    """The least bytes of both directions over time: x and y; x, the gradient of y, and that of x."""
    milliseconds = turns(_calls(bench, case, ("esper",)), TURNS, bench.milliseconds)["esper"]
    (x,) = case.inputs(bench.device)
    least = 5 * x.numel() * x.element_size()
    return {"gigabytes_per_second": least / milliseconds / 1e6}


def _calls(bench: Bench, case: Case, contenders: Iterable[str]) -> dict[str, Call]:
    """A call of the block as each contender runs it, everything built. In a rehearsal nobody compiles."""
    inputs = case.inputs(bench.device)
    modules = {
        name: case.module("eager" if bench.is_rehearsal else name, bench.device) for name in contenders
    }
    for module in modules.values():
        warm(module, inputs)
    return {name: partial(call, module, inputs) for name, module in modules.items()}


def building(_: Bench, case: Case, contender: str) -> Row:
    """Seconds from the module to the end of its first call, in a new process: nothing cached, then all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--build", contender, case.block]
        environment = os.environ | {name: f"{folder}/{name}" for name in CACHES}
        found = {}
        for name in ("cold", "warm"):
            told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
            found[name] = json.loads(told.splitlines()[-1])
    return {f"{name}_{what}": value for name, row in found.items() for what, value in row.items()}


def build_here(contender: str, block: str) -> Row:
    """What `building` asks of its process. steps_before: calls that torch served until kernels took over."""
    device = torch.device("cuda")
    case = Case(block, 256, "small")
    inputs = case.inputs(device)
    call(case.module("eager", device), inputs)  # the device's own start is not the compiler's
    torch.cuda.synchronize()
    started = time.perf_counter()
    module = case.module(contender, device)
    warm(module, inputs)
    torch.cuda.synchronize()
    row: Row = {"seconds": time.perf_counter() - started}
    if isinstance(module, CompiledSeed):
        row["steps_before"] = module.status().calls["torch"]
    return row


# The list of jobs, the likeliest to matter first.


@dataclass(frozen=True)
class Job:
    """One row to come. run: measures it. contenders: for whom the case has to be built beforehand."""

    group: str
    name: str
    run: Callable[[Bench, Case], Row]
    case: Case
    contenders: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Names the graph and the templates, so that a row of others does not stand for this one."""
        if self.group == "ceilings":
            return f"{self.group}: {self.name}"
        return f"{self.group}: {self.name} {self.case.ir.hash[:16]} {templates_digest()[:8]}"


def jobs() -> Iterator[Job]:
    nothing = Case("norm", 64, "tiny")
    yield Job("ceilings", "copy", lambda bench, _: copy_ceiling(bench), nothing)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        yield Job("ceilings", f"matrix {str(dtype)[6:]}", partial(matrix_ceiling, dtype=dtype), nothing)
    for precision in ("bf16", "f32", "f16"):
        for block in blocks():
            yield _job("right", rightness, Case(block, 64, "small", precision))
    for block in ("norm", "activation"):
        yield _job("bandwidth", bandwidth, Case(block, 4096, "large"))
    for block in HOSTED:
        yield _job("host", host_time, Case(block, 64, "tiny"))
    for contender in ("esper", "compile"):
        for block in TIMED:
            case = Case(block, 256, "small")
            yield Job("building", f"{block} {contender}", partial(building, contender=contender), case)
    for width in (256, 1024, 64, 4096, 8192):
        for scale in ("small", "large"):
            for block in filter(lambda block: _is_sensible(block, width, scale), blocks()):
                yield _job(
                    "speed", partial(speed, contenders=CONTENDERS), Case(block, width, scale), CONTENDERS
                )
    for block in ("mlp_block", "transformer_block", "norm", "attention"):
        pair = ("max-autotune", "esper")
        yield _job("autotune", partial(speed, contenders=pair), Case(block, 1024, "large"), pair)


def _is_sensible(block: str, width: int, scale: str) -> bool:
    """Maps of more than 1,024 channels, or of that many at full size, are no block's; loops are short."""
    if is_of_maps(block):
        return width <= (1024 if scale == "small" else 256)
    return block not in LOOPS or (scale == "small" and width <= 1024)


def _job(
    group: str, run: Callable[[Bench, Case], Row], case: Case, contenders: tuple[str, ...] = ("esper",)
) -> Job:
    return Job(group, str(case), run, case, contenders)


# Running them.


def prepare(pairs: Iterable[tuple[Case, str]], target: str) -> tuple[ProcessPoolExecutor, list[Future[None]]]:
    """Fills the caches of both compilers, in as many processes as there are cores to spare."""
    pool = ProcessPoolExecutor(max(1, (os.cpu_count() or 2) - 2), mp_context=get_context("spawn"))
    return pool, [pool.submit(_build, case, contender, target) for case, contender in pairs]


def _build(case: Case, contender: str, target: str) -> None:
    if contender == "esper":
        compile_ir(case.ir, (target,))
    elif contender != "eager":
        device = torch.device("cuda")
        warm(case.module(contender, device), case.inputs(device))


def run(bench: Bench, measured: Measured, wanted: list[Job], seconds: float) -> None:
    """Runs what has no row yet, until the time is over. A job that fails has a row that says how."""
    limit = time.monotonic() + seconds
    left = [job for job in wanted if job.key not in measured.rows]
    pool: ProcessPoolExecutor | None = None
    futures: list[Future[None]] = []
    if not bench.is_rehearsal:
        pairs = dict.fromkeys((job.case, name) for job in left for name in job.contenders)
        pool, futures = prepare(pairs, bench.target)
    try:
        for job in sorted(left, key=lambda job: job.group != "right"):  # errors can be taken beside builds
            if job.group != "right" and futures:
                wait(futures, timeout=max(0.0, (limit - time.monotonic()) / 2))
                for future in futures:
                    future.cancel()
                futures = []
            if time.monotonic() > limit:
                break
            try:
                row = job.run(bench, job.case)
            except Exception as error:  # noqa: BLE001  (whatever it is, the next job can be measured)
                row = {"failed": f"{type(error).__name__}: {error}"[:500]}
            measured.add(job.key, {"group": job.group, "name": job.name, **row})
            print(f"{job.group}: {job.name}: {row}", file=sys.stderr, flush=True)
            if bench.device.type == "cuda":
                torch.cuda.empty_cache()
    finally:
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


# What it comes to.


def summary(measured: Measured) -> list[tuple[str, str, str]]:
    """(figure, wanted, found) of each line of the acceptance."""
    good = {group: [row for row in measured.of(group) if "failed" not in row] for group in GROUPS}
    failed = Counter(row["group"] for row in measured.rows.values() if "failed" in row)
    ratios = {
        other: [(row["ms"][other] / row["ms"]["esper"], row) for row in good["speed"] if other in row["ms"]]
        for other in ("eager", "compile")
    }
    against = [ratio for ratio, _ in ratios["compile"]]
    narrow = [ratio for ratio, row in ratios["compile"] if int(row["name"].split()[1]) <= 1024]
    copy = [row["gigabytes_per_second"] for row in good["ceilings"] if "gigabytes_per_second" in row]
    memory = [
        row["peak_bytes"]["esper"] / max(1, row["peak_bytes"]["compile"])
        for row in good["speed"]
        if "compile" in row["peak_bytes"]
    ]
    host = [row["us"]["esper"] / row["us"]["eager"] for row in good["host"]]
    streamed = [row["gigabytes_per_second"] / copy[0] for row in good["bandwidth"]] if copy else []
    first = [row["cold_seconds"] for row in good["building"] if row["name"].endswith("esper")]
    return [
        ("errors within 2 × eager's and one ulp", "all", _share([row["ok"] for row in good["right"]])),
        ("least speed beside eager", "≥ 0.95", _least(r for r, _ in ratios["eager"])),
        ("share of the grid at least as fast as torch.compile", "≥ 90 %", _share([r >= 1 for r in against])),
        (
            "speed beside torch.compile, geometric mean",
            "≥ 1.15",
            f"{geometric_mean(against):.2f}" if against else NOT,
        ),
        ("the least of it up to 1,024 wide", "≥ 1.0", _least(narrow)),
        ("norms and activations, share of the copy bandwidth", "≥ 85 %", _least(streamed)),
        ("host time of a call beside eager's, the most", "≤ 1.0", f"{max(host):.2f}" if host else NOT),
        ("peak memory beside torch.compile's, the most", "≤ 1.0", f"{max(memory):.2f}" if memory else NOT),
        ("seconds until kernels run, nothing cached, the most", "≤ 2", f"{max(first):.1f}" if first else NOT),
        ("jobs that failed", "none", ", ".join(f"{n} {g}" for g, n in failed.items()) or "none"),
    ]


NOT = "not measured"
GROUPS = ("ceilings", "right", "bandwidth", "host", "building", "speed", "autotune")


def _share(values: list[bool]) -> str:
    return f"{sum(values)} of {len(values)}" if values else NOT


def _least(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):.2f}" if found else NOT


def as_markdown(measured: Measured, wanted: list[Job]) -> str:
    """The page: the machine, the summary, then the rows of each group."""
    lines = [
        "# Compiled blocks on a GPU",
        "",
        "`python benchmarks/gpu.py`: " + ", ".join(f"{k} {v}" for k, v in measured.machine.items()) + ".",
        "",
    ]
    lines += ["| figure | wanted | found |", "| --- | --- | --- |"]
    lines += [f"| {figure} | {bound} | {found} |" for figure, bound, found in summary(measured)]
    missing = Counter(job.group for job in wanted if job.key not in measured.rows)
    if missing:
        lines += [
            "",
            "Not measured: " + ", ".join(f"{count} of {group}" for group, count in missing.items()) + ".",
        ]
    for group in GROUPS:
        rows = measured.of(group)
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in _cells(row)))
            lines += [
                "",
                f"## {group}",
                "",
                f"| {' | '.join(columns)} |",
                "| --- " + "| ---: " * (len(columns) - 1) + "|",
            ]
            lines += [
                "| " + " | ".join(_cells(row).get(column, "") for column in columns) + " |" for row in rows
            ]
    return "\n".join(lines) + "\n"


def _cells(row: Row) -> dict[str, str]:
    found = {"what": row["name"]}
    for name, value in row.items():
        if name in ("group", "name"):
            continue
        for inner, one in value.items() if isinstance(value, dict) else [("", value)]:
            found[f"{name} {inner}".strip()] = f"{one:.4g}" if isinstance(one, float) else str(one)
    return found


def machine() -> dict[str, str]:
    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "triton": __import__("triton").__version__,
        "python": platform.python_version(),
        "cores": str(os.cpu_count()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=GROUPS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--build", nargs=2, metavar=("CONTENDER", "BLOCK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        print(json.dumps(build_here(*arguments.build)))
        return 0
    wanted = [job for job in jobs() if job.group in arguments.only]
    if arguments.rehearse:
        return rehearse(wanted)
    if not torch.cuda.is_available():
        print("error: there is no GPU here: nothing is measured", file=sys.stderr)
        if not (arguments.out / "gpu.json").exists():
            nothing = Measured(None, {"gpu": "none"})
            write_whole(arguments.out / "gpu.md", as_markdown(nothing, list(jobs())))
        return 3
    measured = Measured(arguments.out / "gpu.json", machine())
    run(Bench(torch.device("cuda")), measured, wanted, arguments.minutes * 60)
    write_whole(arguments.out / "gpu.md", as_markdown(measured, list(jobs())))
    for figure, bound, found in summary(measured):
        print(f"{figure:<56} {bound:>8}  {found}")
    return 0


def rehearse(wanted: list[Job]) -> int:
    """One job of each group, on the CPU by torch's operators: whether this program runs, and no figure."""
    first = {job.group: job for job in reversed(wanted) if job.group not in ("building", "autotune")}
    tiny = [replace(job, case=replace(job.case, width=64, scale="tiny")) for job in first.values()]
    measured = Measured(None, {"gpu": "none: a rehearsal"})
    run(Bench(torch.device("cpu"), is_rehearsal=True), measured, tiny, math.inf)
    failed = [row["name"] for row in measured.rows.values() if "failed" in row]
    as_markdown(measured, wanted)
    print(f"rehearsed {len(measured.rows)} jobs, {len(failed)} failed; no figure of it counts")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
