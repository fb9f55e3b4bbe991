"""Graphs replay exactly the launches that they replace: every byte, recorded by a stand-in for the driver."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper.lang import lower
from esper.urza.builder.signature import HIDDEN_PARAMETERS
from esper.urza.compiler import make_programs
from esper.urza.errors import CannotLaunch, DriverCallFailed
from esper.urza.generate.writer import Launch
from esper.urza.program import Program
from esper.urza.run.bound_program import BoundProgram, Buffers
from esper.urza.run.graphs import GRAPHS_KEPT, REPEATS, Graphs
from esper.urza.run.launcher import Code, Launcher
from tests.urza.run.driver_shim import Seen, Shim, compiler
from tests.urza.run.test_launcher import zeros

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the stand-in driver")

STREAM = 0x7F1122334455
THREAD_LOCAL = 1


@pytest.fixture(scope="module")
def program() -> Program:
    return make_programs(lower("transformer_block", precision="bf16")).backward


@dataclass
class Bench:
    """A stretch of kernels, what launches it, and buffers at made-up places."""

    shim: Shim
    launches: Launcher
    stretch: tuple[Launch, ...]

    def graphs(self) -> Graphs:
        return Graphs(self.launches)

    def buffers(self, place: int) -> Buffers:
        found = Buffers({}, torch.empty(0, dtype=torch.uint8), {})
        names = dict.fromkeys(name for step in self.stretch for name in step.buffers.values())
        found.addresses.update((name, (place << 40) + 128 * n) for n, name in enumerate(names, start=1))
        return found

    def seen(self, work: Callable[[], object]) -> list[Seen]:
        """What the driver is asked to run while `work` runs."""
        self.shim.set(launches=0)
        work()
        return self.shim.launched()


def sizes(n: int) -> Mapping[str, int]:
    return {"N": n, "T": 2 * n}


@pytest.fixture
def bench(tmp_path: Path, program: Program) -> Bench:
    shim = Shim(tmp_path)
    codes = {
        k.digest: Code(
            k, f"{k.entry}${len(k.arguments) + HIDDEN_PARAMETERS}", b"\x7fELF" + k.digest.encode(), 4, 0, 0
        )
        for k in program.kernels
    }
    launches = Launcher(shim.driver, codes, device=0, stream=lambda device: STREAM + device)
    stretch = tuple(step for step in program.steps if isinstance(step, Launch))
    return Bench(shim, launches, stretch)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(calls=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([1, 5])), max_size=25))
def test_whatever_is_called_the_gpu_is_asked_for_the_same_launches(
    bench: Bench, calls: list[tuple[int, int]]
) -> None:
    graphs = bench.graphs()
    for place, n in calls:
        call = bench.stretch, bench.buffers(place), sizes(n)
        expected = bench.seen(partial(bench.launches, *call))
        assert bench.seen(partial(graphs, *call)) == expected
        assert len(expected) == len(bench.stretch)
    assert graphs.replays == sum(max(0, calls.count(call) - REPEATS) for call in set(calls))


def test_what_repeats_is_captured_once_and_launched_as_one(bench: Bench) -> None:
    graphs = bench.graphs()
    for _ in range(REPEATS + 10):
        graphs(bench.stretch, bench.buffers(1), sizes(4))
    assert (graphs.captures, graphs.replays) == (1, 10)
    assert bench.shim.get("graph_launches") == 10
    assert bench.shim.get("capture_mode") == THREAD_LOCAL


def test_another_address_or_size_is_launched_kernel_by_kernel(bench: Bench) -> None:
    graphs = bench.graphs()
    for n in range(1, 4 * REPEATS):
        graphs(bench.stretch, bench.buffers(1), sizes(n))
        graphs(bench.stretch, bench.buffers(n + 1), sizes(1))
    assert graphs.captures == graphs.replays == 0


def test_a_value_in_memory_may_change_without_another_capture(bench: Bench) -> None:
    """Dropout seeds and alpha are tensors: only where they lie is part of a launch."""
    graphs, buffers = bench.graphs(), bench.buffers(1)
    alpha = torch.zeros(())
    buffers[bench.stretch[0].buffers[bench.stretch[0].kernel.arguments[0].name]] = alpha
    for step in range(50):
        alpha.fill_(step / 50)
        graphs(bench.stretch, buffers, sizes(4))
    assert (graphs.captures, graphs.replays) == (1, 50 - REPEATS)


def test_few_graphs_are_kept_and_none_is_destroyed_while_it_may_run(bench: Bench) -> None:
    graphs = bench.graphs()
    for place in range(1, GRAPHS_KEPT + 4):
        for _ in range(REPEATS + 1):
            graphs(bench.stretch, bench.buffers(place), sizes(4))
    assert bench.shim.get("destroyed") == bench.shim.get("synchronized") == 3
    captures = graphs.captures
    graphs(bench.stretch, bench.buffers(GRAPHS_KEPT), sizes(4))
    assert graphs.captures == captures


def test_a_stream_that_the_caller_captures_gets_single_launches(bench: Bench) -> None:
    graphs, buffers = bench.graphs(), bench.buffers(1)
    for _ in range(REPEATS + 1):
        graphs(bench.stretch, buffers, sizes(4))
    stream = bench.launches.stream()
    launched = bench.shim.get("node_count")
    bench.shim.driver.capture(stream, lambda: graphs(bench.stretch, buffers, sizes(4)))
    assert graphs.replays == 1
    assert bench.shim.get("node_count") == launched + len(bench.stretch)


def test_a_capture_that_fails_is_ended_and_told(bench: Bench) -> None:
    graphs = bench.graphs()
    for _ in range(REPEATS):
        graphs(bench.stretch, bench.buffers(1), sizes(4))
    bench.shim.set(failure=1)
    with pytest.raises(DriverCallFailed, match="cuLaunchKernel"):
        graphs(bench.stretch, bench.buffers(1), sizes(4))
    bench.shim.set(failure=0, graph_failure=1)
    for _ in range(REPEATS):
        graphs(bench.stretch, bench.buffers(1), sizes(4))
    with pytest.raises(DriverCallFailed, match="cuGraphInstantiate"):
        graphs(bench.stretch, bench.buffers(1), sizes(4))
    bench.shim.set(graph_failure=0)
    for _ in range(REPEATS + 1):
        graphs(bench.stretch, bench.buffers(1), sizes(4))
    assert (graphs.captures, graphs.replays) == (1, 1)


def test_threads_share_graphs(bench: Bench) -> None:
    graphs = bench.graphs()

    def work() -> None:
        for _ in range(20):
            graphs(bench.stretch, bench.buffers(1), sizes(4))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (graphs.captures, graphs.replays) == (1, 60 - REPEATS)


def test_a_single_kernel_stays_a_launch(bench: Bench) -> None:
    graphs = bench.graphs()
    for _ in range(2 * REPEATS):
        graphs(bench.stretch[:1], bench.buffers(1), sizes(4))
    assert graphs.captures == 0


def test_a_kernel_without_code_is_told_as_without_graphs(bench: Bench) -> None:
    nothing = Launcher(bench.shim.driver, {}, device=0, stream=lambda device: STREAM)
    with pytest.raises(CannotLaunch, match="no code of it"):
        Graphs(nothing)(bench.stretch, bench.buffers(1), sizes(4))


def test_a_whole_program_runs_by_graphs_as_without(program: Program, bench: Bench) -> None:
    """Addresses come from torch's allocator, call by call; whichever they are, each launch has its own."""
    graphs = bench.graphs()
    expected: list[list[Seen]] = []

    def launching(stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        expected.append(bench.seen(lambda: bench.launches(stretch, buffers, sizes)))
        found.append(bench.seen(lambda: graphs(stretch, buffers, sizes)))

    found: list[list[Seen]] = []
    bound = BoundProgram(program, launching)
    tensors = zeros(program, 4)
    for _ in range(4 * REPEATS):
        bound(tensors, dict.fromkeys(("N", "T"), 4))
    assert found == expected and len(found) == 4 * REPEATS
    assert all(one.stream == STREAM for one in itertools.chain(*found))
