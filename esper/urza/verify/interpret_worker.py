"""The process in which kernels are interpreted: `python -m esper.urza.verify.interpret_worker`.

Each line of its input names a folder with a request, and once the answer is there it prints `done`.

Triton's interpreter is mended before it is used: memory is simulated and recorded, bf16 casts round to
nearest even, products of bf16 are computed from their values, TF32 products truncate their operands and
extremes leave NaN out as the hardware does, and arithmetic on bf16 without a widening cast, silently wrong
as it stands, is refused.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esper.urza.builder.source_module import module_from_source
from esper.urza.kernel import TRITON_TYPES, KernelSource
from esper.urza.verify.interpret import DONE, NUMPY_TYPES
from esper.urza.verify.recorder import Recorder


@dataclass
class Memory:
    """What simulates and records the memory of the request that runs."""

    recorder: Recorder


def main() -> None:
    """Answers requests until its input ends; what a kernel prints goes to stderr."""
    answers = os.dup(1)
    os.dup2(2, 1)
    memory = Memory(Recorder())
    mend_interpreter(memory)
    for line in sys.stdin:
        memory.recorder = Recorder()
        run(Path(line.removesuffix("\n")), memory.recorder)
        os.write(answers, DONE)


def run(folder: Path, recorder: Recorder) -> None:
    """Runs the request in `folder`; writes answer.json and buffers.npz beside it."""
    request = json.loads((folder / "request.json").read_text())
    with np.load(folder / "inputs.npz", allow_pickle=False) as arrays:
        for index, name in enumerate(request["inputs"]):
            recorder.add(name, arrays[f"arr_{index}"].reshape(-1), written=True)
    for name, (dtype, shape) in request["outputs"].items():
        recorder.add(name, np.zeros(int(np.prod(shape)), NUMPY_TYPES[dtype]), written=False)

    answer: dict[str, Any] = {"launches": 0}
    modules: dict[str, ModuleType] = {}
    for call in request["calls"]:
        kernel = KernelSource.from_json(call["kernel"])
        if kernel.source not in modules:
            modules[kernel.source] = module_from_source(kernel.source)
        try:
            _launch(kernel, modules[kernel.source], call, recorder)
        except Exception as error:  # noqa: BLE001 - every failure is an answer: the parent names the kernel
            answer |= {"kernel": kernel.name, "error": _root_message(error)}
            break
        answer["launches"] += 1

    answer["findings"] = [asdict(finding) for finding in recorder.findings]
    np.savez(folder / "buffers.npz", *(region.data for region in recorder.regions.values()))
    (folder / "answer.json").write_text(json.dumps(answer))


def _launch(kernel: KernelSource, module: ModuleType, call: dict[str, Any], recorder: Recorder) -> None:
    """Runs every program of the grid, one after another."""
    import triton.language as tl
    from triton.runtime import interpreter

    entry = getattr(module, kernel.entry)
    addresses = recorder.start_launch(call["buffers"])
    arguments: dict[str, Any] = dict(kernel.constexprs)
    for argument in kernel.arguments:
        if argument.kind == "pointer":
            type_ = tl.pointer_type(tl.str_to_ty(TRITON_TYPES[argument.dtype], None))
            value = np.array([addresses[argument.name]], np.uint64)
        else:
            type_ = tl.str_to_ty(argument.triton_type, None)
            given = call["sizes" if argument.kind == "size" else "scalars"][argument.name]
            value = np.array([given], NUMPY_TYPES[argument.dtype])
        arguments[argument.name] = tl.tensor(interpreter.TensorHandle(value, type_), type_)

    function = entry.rewrite()
    launch_grid = kernel.launch_grid(call["sizes"])
    builder = interpreter.interpreter_builder
    builder.set_grid_dim(*launch_grid)
    for number, indices in enumerate(itertools.product(*map(range, launch_grid))):
        recorder.start_program(number)
        builder.set_grid_idx(*indices)
        function(**arguments)
    recorder.end_launch(kernel.name, {a.name: a.writes for a in kernel.arguments if a.kind == "pointer"})


def mend_interpreter(memory: Memory) -> None:
    """Patches Triton's interpreter in this process, once and for good."""
    import triton.language as tl
    from triton.runtime import interpreter

    from esper.kernels.functions import larger

    builder = interpreter.InterpreterBuilder
    handle = interpreter.TensorHandle
    binary_op, check_tensor = builder.binary_op, interpreter.ReduceScanOpInterface.check_tensor
    apply_reduce = interpreter.ReduceOps.apply_impl

    def masked_load(self: Any, ptrs: Any, mask: Any, other: Any, *_: Any) -> Any:
        element = ptrs.get_element_ty()
        filler = np.zeros((), interpreter._get_np_dtype(element)) if other is None else other.data
        return handle(memory.recorder.load(ptrs.data, mask.data, filler), element)

    def masked_store(self: Any, ptrs: Any, value: Any, mask: Any, *_: Any) -> None:
        memory.recorder.store(ptrs.data, value.data, mask.data)

    def cast(self: Any, source: Any, target_type: Any) -> Any:
        target = target_type.scalar
        values = _widen(source.data) if source.dtype.scalar == tl.bfloat16 else source.data
        if target == tl.bfloat16:
            return handle(narrow_to_bf16(values.astype(np.float32)), target)
        return handle(values.astype(interpreter._get_np_dtype(target)), target)

    def dot(self: Any, a: Any, b: Any, accumulator: Any, precision: Any, _: Any) -> Any:
        left, right = (_widen(x.data) if x.dtype.scalar == tl.bfloat16 else x.data for x in (a, b))
        if left.dtype == np.float32 and a.dtype.scalar == tl.float32:
            product = _product_f32(left, right, str(precision).rsplit(".", 1)[-1])
        else:
            product = np.matmul(left.astype(np.float32), right.astype(np.float32))
        return handle((accumulator.data + product).astype(np.float32), accumulator.dtype.scalar)

    def checked_binary_op(self: Any, lhs: Any, rhs: Any, operation: Any) -> Any:
        if tl.bfloat16 in (lhs.dtype.scalar, rhs.dtype.scalar):
            raise TypeError("arithmetic on bf16: widen to float32 first")
        return binary_op(self, lhs, rhs, operation)

    def checked_tensor(self: Any, inputs: Any) -> None:
        if any(value.dtype == tl.bfloat16 for value in inputs):
            raise TypeError("a reduction of bf16: widen to float32 first")
        check_tensor(self, inputs)

    def splat(self: Any, type_: Any, scalar: Any) -> Any:
        """Triton's own takes a truth for a number, of the dtype that was compared."""
        return handle(np.full(type_.shape, scalar.data), type_.scalar)

    def reduce(self: Any, inputs: Any) -> Any:
        """Triton's own calls a function that it does not know for each element, in Python."""
        if self.combine_fn is larger:
            return self.min_max(inputs[0], val_reduce_op=np.max)
        return apply_reduce(self, inputs)

    def tree_sum(self: Any, value: Any) -> Any:
        return self.to_tensor(_tree_sum(value.handle.data, self.axis, self.keep_dims), value.dtype)

    def refuse_atomics(self: Any, *_: Any) -> None:
        raise TypeError("atomics: generated kernels do without them")

    builder.create_masked_load = masked_load
    builder.create_masked_store = masked_store
    builder.cast_impl = cast
    builder.create_dot = dot
    builder.create_splat = splat
    builder.create_maxnumf = lambda self, left, right: binary_op(self, left, right, np.fmax)
    builder.create_minnumf = lambda self, left, right: binary_op(self, left, right, np.fmin)
    builder.binary_op = checked_binary_op
    builder.create_atomic_cas = builder.create_atomic_rmw = refuse_atomics
    interpreter.ReduceScanOpInterface.check_tensor = checked_tensor
    interpreter.ReduceOps.sum = tree_sum
    interpreter.ReduceOps.apply_impl = reduce
    interpreter.interpreter_builder.options = interpreter.InterpreterOptions(sanitize_overflow=False)
    _patch_language_once(interpreter, tl)


def _patch_language_once(interpreter: Any, tl: Any) -> None:
    """The interpreter patches `tl` anew for every call of a device function: slow, and once is enough."""

    def sample() -> None:
        """A function whose globals hold `tl`, for the interpreter to look at."""

    namespace = {"tl": tl, "core": tl.core}
    interpreter._patch_lang(FunctionType(sample.__code__, namespace))
    interpreter._patch_lang = lambda function: None
    # Triton 3.6 calls int() on an array of one dimension, which NumPy 2.4 refuses.
    tl.tensor.__index__ = lambda self: int(self.handle.data.squeeze())


def _tree_sum(values: NDArray[Any], axis: int | None, keepdims: bool) -> Any:
    """The sum by halves, as the lanes of a GPU add; NumPy adds one line after another, which rounds more."""
    lines = values.reshape(-1) if axis is None else np.moveaxis(values, axis, 0)
    while len(lines) > 1:
        half = len(lines) // 2
        lines = np.concatenate([lines[:half] + lines[half : 2 * half], lines[2 * half :]])
    total = lines[0]
    if not keepdims:
        return total
    return total.reshape([1] * values.ndim) if axis is None else np.expand_dims(total, axis)


def _widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bf16 as float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow_to_bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of float32 values rounded to the nearest bf16, ties to even; NaN stays NaN."""
    bits = values.view(np.uint32)
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1)).astype(np.uint32)) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def _product_f32(a: NDArray[np.float32], b: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """A float32 product as the hardware computes it at this precision."""
    if precision == "TF32":
        product: NDArray[np.float32] = np.matmul(_truncate(a), _truncate(b))
    elif precision == "TF32x3":
        a_high, b_high = _truncate(a), _truncate(b)
        a_low, b_low = _truncate(a - a_high), _truncate(b - b_high)
        product = np.matmul(a_low, b_high) + np.matmul(a_high, b_low) + np.matmul(a_high, b_high)
    else:
        product = np.matmul(a, b)
    return product


def _truncate(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The leading 10 bits of each mantissa: what a TF32 unit reads."""
    return (values.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def _root_message(error: BaseException) -> str:
    """The interpreter wraps an error once for each call; the innermost one says what is wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
