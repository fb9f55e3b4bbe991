"""Ahead-of-time builds: counted, cached, reproducible, and honest about what a kernel uses."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from esper.urza.builder import toolchain
from esper.urza.builder.ahead_of_time import build_kernels, kernel_key
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.processes import child_environment
from esper.urza.builder.workers import MEMORY_BYTES, Workers
from esper.urza.errors import KernelBuildFailed, MissingCompiler, UnknownTarget
from esper.urza.kernel import Argument, Configuration, KernelSource

SCALE = KernelSource(
    name="scale",
    direction="forward",
    source="""
import triton
import triton.language as tl
from esper.kernels.pointwise import pointwise

@triton.jit
def body(offsets, mask, operands):
    x, y = operands
    tl.store(y + offsets, tl.load(x + offsets, mask, 0.0).to(tl.float32) * 2.0, mask)

@triton.jit
def scale(x, y, N, K: tl.constexpr, BLOCK: tl.constexpr):
    pointwise(N * K, (x, y), body, BLOCK)
""",
    entry="scale",
    arguments=(
        Argument("x", "pointer", "bf16", divisible_by=16),
        Argument("y", "pointer", "bf16", divisible_by=16, writes=True),
        Argument("N", "size"),
    ),
    grid=(1,),
    constexprs={"K": 64, "BLOCK": 1024},
)
SPILLING = KernelSource(
    name="spilling",
    direction="forward",
    source="""
import triton
import triton.language as tl

@triton.jit
def spilling(x, y, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    row = tl.load(x + index)
    tl.store(y + index, row - tl.sum(row, 0))
""",
    entry="spilling",
    arguments=(Argument("x", "pointer", "f32"), Argument("y", "pointer", "f32", writes=True)),
    grid=(1,),
    constexprs={"SIZE": 16384},
    num_warps=1,
)


def test_the_second_build_does_not_invoke_triton(tmp_path: Path) -> None:
    first = build_kernels([SCALE], ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    second = build_kernels([SCALE], ["sm_80", "sm_90"], cache=KernelCache(tmp_path))
    assert (first.invocations, second.invocations) == (2, 0)
    assert second.cached and not first.cached
    assert [k.cubin for k in first.kernels] == [k.cubin for k in second.kernels]
    assert [k.resources for k in first.kernels] == [k.resources for k in second.kernels]


def test_equal_kernels_are_built_once(tmp_path: Path) -> None:
    build = build_kernels([SCALE, replace(SCALE, name="again")], ["sm_90"], cache=KernelCache(tmp_path))
    assert build.invocations == 1
    assert [built.kernel.name for built in build.kernels] == ["scale", "again"]


def test_native_code_does_not_depend_on_where_it_is_built(tmp_path: Path) -> None:
    builds = [build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path / name)) for name in "ab"]
    assert builds[0].kernels[0].cubin == builds[1].kernels[0].cubin


def test_settings_in_the_environment_do_not_change_native_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path / "a"))
    for name in ("TRITON_INTERPRET", "TRITON_DEBUG", "DISABLE_PTXAS_OPT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TRITON_OVERRIDE_ARCH", "sm80")
    other = build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path / "b"))
    assert plain.kernels[0].cubin == other.kernels[0].cubin


def test_aligned_rows_move_in_128_bit_accesses(tmp_path: Path) -> None:
    (built,) = build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path)).kernels
    assert (built.resources.vector_bits, built.resources.wide_share) == (128, 1.0)
    assert built.resources.spill_bytes == 0
    assert built.cubin.startswith(b"\x7fELF") and built.symbol == "scale"


def test_a_kernel_that_spills_says_so(tmp_path: Path) -> None:
    (built,) = build_kernels([SPILLING], ["sm_80"], cache=KernelCache(tmp_path)).kernels
    assert built.resources.spill_bytes > 0


def test_a_spilling_kernel_is_tried_in_its_alternatives(tmp_path: Path) -> None:
    choices = (Configuration({}, 2, 3), Configuration({}, 8, 3))
    kernel = replace(SPILLING, alternatives=choices)
    (built,) = build_kernels([kernel], ["sm_80"], cache=KernelCache(tmp_path)).kernels
    assert built.resources.spill_bytes == 0
    assert (built.kernel.num_warps, built.num_warps) == (8, 8)


SHARING = KernelSource(
    name="sharing",
    direction="forward",
    source="""
import triton
import triton.language as tl

@triton.jit
def sharing(x, y, N, BLOCK: tl.constexpr):
    row, column = tl.arange(0, BLOCK), tl.arange(0, 64)
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for step in range(N):
        tile = tl.load(x + step * BLOCK * 64 + row[:, None] * 64 + column[None, :])
        other = tl.load(x + step * BLOCK * 64 + column[:, None] * BLOCK + row[None, :])
        total = tl.dot(tile, other, total)
    tl.store(y + row[:, None] * BLOCK + row[None, :], total)
""",
    entry="sharing",
    arguments=(
        Argument("x", "pointer", "bf16", divisible_by=16),
        Argument("y", "pointer", "f32", divisible_by=16, writes=True),
        Argument("N", "size"),
    ),
    grid=(1,),
    constexprs={"BLOCK": 128},
    num_warps=8,
    num_stages=5,
)
"""It holds as many tiles of 32 KiB as it has stages, less one."""


def test_a_kernel_that_shares_more_than_a_gpu_has_is_tried_in_its_alternatives(tmp_path: Path) -> None:
    kernel = replace(SHARING, alternatives=(Configuration({}, 8, 2),))
    narrow, wide = build_kernels([kernel], ["sm_86", "sm_80"], cache=KernelCache(tmp_path)).kernels
    assert (narrow.kernel.num_stages, wide.kernel.num_stages) == (2, 5)
    assert narrow.resources.shared_bytes <= toolchain.SHARED_BYTES["sm_86"] < wide.resources.shared_bytes


def test_a_kernel_that_shares_more_than_a_gpu_has_does_not_build(tmp_path: Path) -> None:
    with pytest.raises(KernelBuildFailed, match=r"bytes of shared memory, sm_86 has 101376"):
        build_kernels([SHARING], ["sm_86"], cache=KernelCache(tmp_path))


def test_the_key_follows_everything_the_code_depends_on() -> None:
    keys = {
        kernel_key(SCALE, "sm_90"),
        kernel_key(SCALE, "sm_80"),
        kernel_key(replace(SCALE, source=SCALE.source + "\n"), "sm_90"),
        kernel_key(replace(SCALE, constexprs={"K": 32, "BLOCK": 1024}), "sm_90"),
        kernel_key(replace(SCALE, num_warps=8), "sm_90"),
        kernel_key(replace(SCALE, arguments=SCALE.arguments[::-1]), "sm_90"),
    }
    assert len(keys) == 6
    assert kernel_key(replace(SCALE, trips=9), "sm_90") in keys


def test_the_key_follows_the_assemblers_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assembler = tmp_path / "ptxas"
    assembler.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 99.1, V99.1.0'\n")
    assembler.chmod(0o700)
    key = kernel_key(SCALE, "sm_90")
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(assembler))
    toolchain.ptxas_version.cache_clear()
    try:
        assert kernel_key(SCALE, "sm_90") != key
    finally:
        toolchain.ptxas_version.cache_clear()


def test_a_kernel_that_triton_refuses_is_named_with_the_reason(tmp_path: Path) -> None:
    broken = replace(SCALE, source=SCALE.source.replace("* 2.0", "* no_such_name"))
    with pytest.raises(KernelBuildFailed, match=r"(?s)`scale` does not build for sm_90.*no_such_name"):
        build_kernels([broken], ["sm_90"], cache=KernelCache(tmp_path))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os\nos._exit(9)\n", "its process ended with code 9"),
        ("whole = bytearray(3 * 1024**3)\n", "MemoryError"),
    ],
    ids=["crash", "memory"],
)
def test_a_kernel_that_fails_its_process_is_reported_and_the_others_are_built(
    tmp_path: Path, source: str, reason: str
) -> None:
    bad = replace(SCALE, name="bad", source=source)
    cache = KernelCache(tmp_path)
    with pytest.raises(KernelBuildFailed, match=f"`bad` does not build for sm_90: {reason}"):
        build_kernels([bad, SCALE], ["sm_90"], cache=cache, jobs=2, memory_bytes=2 * 1024**3)
    assert build_kernels([SCALE], ["sm_90"], cache=cache).cached


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what is read")
def test_a_build_reads_a_small_part_of_triton(tmp_path: Path) -> None:
    told = tmp_path / "told"
    counted = f"open({str(told)!r}, 'w').write(open('/proc/self/io').readline())\n"
    after = replace(SCALE, name="after", source=counted + SCALE.source)
    build_kernels([SCALE, after], ["sm_90"], cache=KernelCache(tmp_path), jobs=1)
    assert int(told.read_text().removeprefix("rchar:")) < 50 * 1024**2


def test_the_dearest_kernels_are_built_first(tmp_path: Path) -> None:
    told = tmp_path / "told"
    texts = {"short": "", "long": "# so long that\n", "product": "from esper.kernels.matmul import matmul\n"}
    kernels = [
        replace(SCALE, source=f"print('{name}', file=open({str(told)!r}, 'a'))\n{text}{SCALE.source}")
        for name, text in texts.items()
    ]
    build_kernels(kernels, ["sm_90"], cache=KernelCache(tmp_path), jobs=1)
    assert told.read_text().split() == ["product", "long", "short"]


def test_a_build_process_that_hangs_is_ended(tmp_path: Path) -> None:
    endless = replace(SCALE, source="import time\ntime.sleep(600)\n")
    with pytest.raises(KernelBuildFailed, match=r"it took longer than 0\.5 s"):
        build_kernels([endless], ["sm_90"], cache=KernelCache(tmp_path), timeout_s=0.5)


def test_a_build_that_is_given_up_leaves_no_process_behind(tmp_path: Path) -> None:
    told = tmp_path / "child"
    source = f"""
import os, subprocess
child = subprocess.Popen(["sleep", "600"])
open({str(told)!r} + ".partial", "w").write(str(child.pid))
os.rename({str(told)!r} + ".partial", {str(told)!r})
child.wait()
"""
    endless = replace(SCALE, source=source)
    with ThreadPoolExecutor(1) as threads:
        with Workers(timeout_s=120) as workers:
            failing = threads.submit(workers.build, endless, "sm_90")
            while not told.exists():
                assert not failing.done()
                time.sleep(0.01)
        with pytest.raises(KernelBuildFailed, match=r"its process ended with code -9"):
            failing.result(timeout=60)
    deadline_s = time.monotonic() + 30
    while is_sleeping(int(told.read_text())):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def is_sleeping(process: int) -> bool:
    """Whether the process is there and is `sleep`; one that ended and was not waited for has no words."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(b"sleep")
    except OSError:
        return False


def test_a_worker_whose_parent_is_gone_ends_by_itself(tmp_path: Path) -> None:
    endless = replace(SCALE, source="while True: pass\n")
    request = {"kernel": endless.to_json(), "target": "sm_90", "folder": str(tmp_path)}
    worker = subprocess.Popen(
        [sys.executable, "-m", "esper.urza.builder.build_worker", str(MEMORY_BYTES), "1.0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    worker.communicate(json.dumps(request) + "\n", timeout=60)
    assert worker.returncode == -signal.SIGALRM


LEAVE = """
import sys, threading
from pathlib import Path
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from tests.urza.builder.test_ahead_of_time import SCALE
from dataclasses import replace

slow = replace(SCALE, source="import time\\ntime.sleep(90)\\n")
arguments = {"cache": KernelCache(Path(sys.argv[1])), "timeout_s": 600.0}
threading.Thread(target=build_kernels, args=([slow], ["sm_90"]), kwargs=arguments, daemon=True).start()
while not any(thread.name == "esper-build" for thread in threading.enumerate()):
    pass
print("leaving")
"""


def test_a_program_that_ends_does_not_wait_for_builds_in_the_background(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LEAVE, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=child_environment())
    told, _ = process.communicate(timeout=60)
    assert (told, process.returncode) == (b"leaving\n", 0)


def test_an_unknown_target_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownTarget, match="sm_42") as caught:
        build_kernels([SCALE], ["sm_42"], cache=KernelCache(tmp_path))
    assert "sm_90" in caught.value.help_text


def test_without_an_assembler_the_error_asks_for_a_tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(tmp_path / "absent"))
    toolchain.ptxas_version.cache_clear()
    with pytest.raises(MissingCompiler) as caught:
        build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path))
    assert caught.value.exit_code == 3
    toolchain.ptxas_version.cache_clear()


def test_without_triton_the_error_asks_for_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    toolchain.triton_version.cache_clear()
    with pytest.raises(MissingCompiler, match="triton") as caught:
        build_kernels([SCALE], ["sm_90"], cache=KernelCache(tmp_path))
    assert caught.value.exit_code == 3
