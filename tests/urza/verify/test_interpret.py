"""The recording interpreter: each planted fault is found, named, and placed."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from esper.urza.errors import InterpreterFailed
from esper.urza.grid import CeilDiv
from esper.urza.kernel import Argument, KernelSource
from esper.urza.verify import interpret as interpreting
from esper.urza.verify.interpret import Interpretation, KernelCall, interpret

HEADER = """
import triton
import triton.language as tl

@triton.jit
def double(x, y, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
"""
PRINTS = "tl.device_print('n', n)\n    tl.store(y + offsets, 2.0 * tl.load(x + offsets, mask, 0.0), mask)"
RIGHT = "tl.store(y + offsets, 2.0 * tl.load(x + offsets, mask, 0.0), mask)"
FAULTS = {
    "read out of bounds": ("x", "tl.store(y + offsets, 2.0 * tl.load(x + offsets - 1, mask, 0.0), mask)"),
    "write out of bounds": ("y", "tl.store(y + offsets, tl.load(x + offsets, mask, 0.0))"),
    "double write": ("y", RIGHT + "\n    tl.store(y + offsets, 0.0, offsets == 3)"),
    "missing write": ("y", RIGHT.replace("mask)", "offsets < n - 1)")),
    "unexpected write": ("x", RIGHT + "\n    tl.store(x + offsets, 1.0, offsets == 5)"),
    "read of an unwritten element": ("y", "tl.store(y + offsets, tl.load(y + offsets, mask, 0.0), mask)"),
    "race": ("y", RIGHT + "\n    tl.load(y + n - 1 - offsets, mask, 0.0)"),
}


def double(body: str) -> KernelSource:
    return KernelSource(
        name="double",
        direction="forward",
        source=HEADER + "    " + body + "\n",
        entry="double",
        arguments=(
            Argument("x", "pointer", "f32"),
            Argument("y", "pointer", "f32", writes=True),
            Argument("n", "size"),
        ),
        grid=(CeilDiv("n", "BLOCK"),),
        constexprs={"BLOCK": 32},
    )


def run(body: str, n: int = 100, timeout_s: float = 600.0) -> Interpretation:
    call = KernelCall(double(body), {"x": "a", "y": "b"}, {"n": n})
    a = np.arange(n, dtype=np.float32)
    return interpret([call], {"a": a}, {"b": ("f32", (n,))}, timeout_s)


def test_a_right_kernel_has_no_findings() -> None:
    result = run(RIGHT)
    assert result.findings == ()
    assert result.launches == 1
    np.testing.assert_array_equal(result.buffers["b"], 2 * np.arange(100))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    argument, body = FAULTS[fault]
    found = {(finding.fault, finding.argument) for finding in run(body).findings}
    assert (fault, argument) in found


def test_a_finding_counts_elements_and_names_the_first() -> None:
    (finding,) = run(FAULTS["missing write"][1]).findings
    assert str(finding) == "double: missing write in `y` (1 element, first at 99)"


def test_a_stray_pointer_is_charged_to_its_own_buffer_however_far_it_strays() -> None:
    result = run("tl.store(y + offsets, tl.load(x + offsets + 1000000, mask, 0.0), mask)")
    (finding,) = result.findings
    assert (finding.argument, finding.fault, finding.count) == ("x", "read out of bounds", 100)
    assert np.isnan(result.buffers["b"]).all()


def test_a_kernel_may_work_in_place() -> None:
    call = KernelCall(double(RIGHT), {"x": "a", "y": "a"}, {"n": 9})
    result = interpret([call], {"a": np.arange(9, dtype=np.float32)}, {})
    assert result.findings == ()
    np.testing.assert_array_equal(result.buffers["a"], 2 * np.arange(9))


def test_launches_share_buffers_in_order() -> None:
    calls = [KernelCall(double(RIGHT), {"x": x, "y": y}, {"n": 9}) for x, y in ("ab", "bc")]
    outputs = {"b": ("f32", (9,)), "c": ("f32", (3, 3))}
    result = interpret(calls, {"a": np.ones(9, np.float32)}, outputs)
    assert result.findings == () and result.launches == 2
    np.testing.assert_array_equal(result.buffers["c"], np.full((3, 3), 4.0))


def test_a_wrong_value_is_left_for_the_caller_to_judge() -> None:
    result = run(RIGHT.replace("2.0", "3.0"))
    assert result.findings == ()
    assert not np.array_equal(result.buffers["b"], 2 * np.arange(100))


def test_arithmetic_on_bf16_is_refused_where_triton_would_be_silently_wrong() -> None:
    with pytest.raises(InterpreterFailed, match="widen to float32"):
        run("half = tl.load(x + offsets, mask, 0.0).to(tl.bfloat16)\n    tl.store(y + offsets, half + half)")


def test_an_error_in_a_kernel_names_it() -> None:
    with pytest.raises(InterpreterFailed, match="kernel `double` does not run"):
        run("tl.store(y + offsets, missing_name, mask)")


def test_one_process_answers_after_errors_and_in_any_order() -> None:
    with pytest.raises(InterpreterFailed):
        run("tl.store(y + offsets, missing_name, mask)")
    assert run(RIGHT).findings == ()
    assert run(FAULTS["race"][1]).findings != ()
    assert run(RIGHT).findings == ()


def test_a_process_that_ends_or_takes_too_long_is_told_and_replaced() -> None:
    assert run(PRINTS).findings == ()
    with pytest.raises(InterpreterFailed, match="exit code 3"):
        run("__import__('os')._exit(3)")
    with pytest.raises(InterpreterFailed, match=r"no answer after 0\.2 s"):
        run("while True: pass", timeout_s=0.2)
    assert run(RIGHT).findings == ()


def test_a_process_that_ended_while_it_was_idle_fails_nobody() -> None:
    for signal_number in (signal.SIGINT, signal.SIGKILL):
        assert run(RIGHT).findings == ()
        process = interpreting._PROCESS._process
        assert process is not None
        process.send_signal(signal_number)
        process.wait()
        assert run(RIGHT).findings == ()


def test_what_a_kernel_prints_is_no_answer() -> None:
    for _ in range(2):
        assert run(PRINTS).findings == ()
        assert run(f"__import__('os').write(1, b'done\\n')\n    {RIGHT}").findings == ()


def test_a_fork_has_a_process_of_its_own() -> None:
    assert run(RIGHT).findings == ()
    child = os.fork()
    if child == 0:
        os._exit(0 if run(RIGHT).findings == () else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run(RIGHT).findings == ()
