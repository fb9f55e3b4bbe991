"""What cuLaunchKernel gets, recorded by a stand-in for the driver: every byte of every launch."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from esper.ir.dims import evaluate_size
from esper.lang import lower
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.builder.ahead_of_time import build_kernels
from esper.urza.builder.cache import KernelCache
from esper.urza.builder.signature import HIDDEN_PARAMETERS, built_bits, check_parameters
from esper.urza.compiler import Programs, make_programs
from esper.urza.eager.torch_tier import leaves
from esper.urza.errors import CannotLaunch, DriverCallFailed, TensorTooLarge, TensorUnfitForKernels
from esper.urza.generate.writer import Launch
from esper.urza.kernel import Argument, BuiltKernel, KernelSource
from esper.urza.program import Program
from esper.urza.run.bound_program import Buffers, run_program
from esper.urza.run.launcher import BoundKernel, Code, Launcher
from tests.urza.run.driver_shim import Seen, Shim, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the stand-in driver")

STREAM = 0x7F1122334455
C_TYPES: dict[str, Callable[..., Any]] = {
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "bool": ctypes.c_bool,
}


@pytest.fixture
def shim(tmp_path: Path) -> Shim:
    return Shim(tmp_path)


def code(*arguments: Argument, num_warps: int = 4, shared_bytes: int = 0, scratch_bytes: int = 0) -> Code:
    kernel = KernelSource("scale", "forward", "", "scale", arguments, (1,))
    return Code(kernel, "scale", b"\x7fELF code", num_warps, shared_bytes, scratch_bytes)


def bound(shim: Shim, code: Code) -> BoundKernel:
    shim.set(parameters=len(code.kernel.arguments) + HIDDEN_PARAMETERS)
    return BoundKernel(shim.driver, code, device=0)


def stream() -> ctypes.c_void_p:
    return ctypes.c_void_p(STREAM)


def test_grid_block_shared_memory_and_stream_arrive(shim: Shim) -> None:
    kernel = bound(shim, code(Argument("x", "pointer", "f32"), num_warps=8, shared_bytes=4096))
    kernel((70_000, 5, 3), stream(), (2**46,))
    (seen,) = shim.launched()
    assert (seen.grid, seen.block, seen.shared) == ((70_000, 5, 3), (8 * 32, 1, 1), 4096)
    assert (seen.stream, shim.symbol) == (STREAM, "scale")
    assert seen.values == ((2**46).to_bytes(8, "little"), bytes(8), bytes(8))


@st.composite
def parameters(draw: st.DrawFn) -> list[tuple[Argument, int | float]]:
    """Arguments of every kind in any order, each with a value."""
    found: list[tuple[Argument, int | float]] = []
    for number in range(draw(st.integers(0, 20))):
        kind = draw(st.sampled_from(["pointer", "size", *C_TYPES]))
        name = f"a{number}"
        match kind:
            case "pointer":
                found.append((Argument(name, "pointer", "bf16"), draw(st.integers(0, 2**64 - 1))))
            case "size":
                found.append((Argument(name, "size"), draw(st.integers(0, 2**31 - 1))))
            case "f32" | "f64":
                found.append((Argument(name, "scalar", kind), draw(st.floats(width=32, allow_nan=False))))
            case "bool":
                found.append((Argument(name, "scalar", kind), draw(st.booleans())))
            case _:
                bits = len(bytes(C_TYPES[kind](0))) * 8 - 1
                found.append((Argument(name, "scalar", kind), draw(st.integers(-(2**bits), 2**bits - 1))))
    return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(pairs=parameters())
def test_every_argument_arrives_in_its_place(shim: Shim, pairs: list[tuple[Argument, int | float]]) -> None:
    kernel = bound(shim, code(*(argument for argument, _ in pairs)))
    shim.set(launches=0)
    pointers = [value for argument, value in pairs if argument.kind == "pointer"]
    numbers = [value for argument, value in pairs if argument.kind != "pointer"]
    kernel((1, 1, 1), stream(), (*pointers, *numbers))
    (seen,) = shim.launched()
    expected = [
        bytes(ctypes.c_uint64(int(value)) if argument.kind == "pointer" else C_TYPES[argument.dtype](value))
        for argument, value in pairs
    ]
    assert [value[: len(e)] for value, e in zip(seen.values, expected, strict=False)] == expected
    assert seen.values[len(pairs) :] == (bytes(8),) * HIDDEN_PARAMETERS


def test_an_empty_grid_launches_nothing(shim: Shim) -> None:
    bound(shim, code())((0, 1, 1), stream(), ())
    assert shim.launched() == []


@pytest.mark.parametrize(("shared_bytes", "asked"), [(48 * 1024, 0), (48 * 1024 + 1, 48 * 1024 + 1)])
def test_more_shared_memory_than_the_default_is_asked_for(shim: Shim, shared_bytes: int, asked: int) -> None:
    bound(shim, code(shared_bytes=shared_bytes))
    assert shim.get("attribute_value") == asked
    assert shim.get("attribute") == (8 if asked else 0)


def test_more_shared_memory_than_there_is_is_an_error(shim: Shim) -> None:
    with pytest.raises(DriverCallFailed, match=r"cuFuncSetAttribute: invalid argument \(error 1\)"):
        bound(shim, code(shared_bytes=300 * 1024))


def test_what_the_driver_refuses_is_told_in_its_words(shim: Shim) -> None:
    with pytest.raises(DriverCallFailed, match="cuModuleLoadData: device kernel image is invalid"):
        bound(shim, replace(code(), cubin=b"text"))
    with pytest.raises(DriverCallFailed, match=r"cuModuleGetFunction: .*\(error 500\)"):
        bound(shim, replace(code(), symbol="absent"))
    kernel = bound(shim, code())
    shim.set(failure=1)
    with pytest.raises(DriverCallFailed, match="cuLaunchKernel: invalid argument"):
        kernel((1, 1, 1), stream(), ())


@pytest.mark.parametrize("values", [(1, 2**31), (2**64, 1), (1,), (1, 2, 3), (1, 0.5)])
def test_a_value_that_does_not_fit_is_an_error(shim: Shim, values: tuple[int, ...]) -> None:
    kernel = bound(shim, code(Argument("x", "pointer"), Argument("N", "size")))
    with pytest.raises(CannotLaunch, match="`scale`"):
        kernel((1, 1, 1), stream(), values)
    assert shim.launched() == []


def test_what_the_launcher_does_not_give_is_refused(shim: Shim) -> None:
    with pytest.raises(CannotLaunch, match="it needs 64 bytes of scratch"):
        bound(shim, code(scratch_bytes=64))
    with pytest.raises(CannotLaunch, match="`rate` is a bf16 passed by value"):
        bound(shim, code(Argument("rate", "scalar", "bf16")))


def test_threads_that_share_a_kernel_do_not_mix_their_values(shim: Shim) -> None:
    kernel = bound(shim, code(*(Argument(f"x{number}", "pointer") for number in range(4))))
    shim.set(delay_us=300)

    def launch(value: int) -> None:
        for _ in range(20):
            kernel((1, 1, 1), stream(), (value,) * 4)

    threads = [threading.Thread(target=launch, args=(value,)) for value in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = shim.launched()
    assert len(seen) == 80 and all(len(set(one.values[:4])) == 1 for one in seen)


def test_a_thread_without_a_context_gets_the_one_that_torch_uses(shim: Shim) -> None:
    shim.set(parameters=HIDDEN_PARAMETERS)
    kernels: list[BoundKernel] = []
    for work in (
        lambda: kernels.append(BoundKernel(shim.driver, code(), device=3)),
        lambda: kernels[0]((1, 1, 1), stream(), ()),
    ):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert [seen.context for seen in shim.launched()] == [0xC3]


def test_equal_code_is_loaded_once_for_a_device(shim: Shim) -> None:
    first, again = (BoundKernel(shim.driver, code(), device=0) for _ in range(2))
    other = BoundKernel(shim.driver, code(), device=1)
    for kernel in (first, again, other):
        kernel((1, 1, 1), stream(), ())
    functions = [seen.function for seen in shim.launched()]
    assert functions[0] == functions[1] != functions[2] and shim.get("loads") == 2


# --- a whole program ---


@pytest.fixture(scope="module")
def programs() -> Programs:
    return make_programs(lower("mlp_block", features=64, precision="bf16"))


@pytest.fixture(scope="module")
def built(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> tuple[BuiltKernel, ...]:
    cache = KernelCache(tmp_path_factory.mktemp("cache"))
    return build_kernels(programs.kernels, ["sm_90"], cache=cache, jobs=2).kernels


def test_built_code_takes_its_arguments_and_the_two_that_triton_hides(built: tuple[BuiltKernel, ...]) -> None:
    for one in built:
        bits = {"pointer": 64, "size": 32}
        assert built_bits(one.ptx) == [*(bits[a.kind] for a in one.kernel.arguments), 64, 64]


def test_code_with_other_parameters_than_a_launch_passes_is_refused(built: tuple[BuiltKernel, ...]) -> None:
    one = built[0]
    check_parameters(one.kernel, one.ptx, "sm_90")
    shorter = replace(one.kernel, arguments=one.kernel.arguments[1:])
    with pytest.raises(ValueError, match="and a launch passes"):
        check_parameters(shorter, one.ptx, "sm_90")


def test_a_program_launches_each_kernel_with_its_tensors_and_sizes(
    shim: Shim, programs: Programs, built: tuple[BuiltKernel, ...]
) -> None:
    codes = {planned.digest: Code.of(one) for planned, one in zip(programs.kernels, built, strict=True)}
    launches = Launcher(shim.driver, codes, device=0, stream=lambda device: STREAM + device)
    expected: list[tuple[tuple[int, int, int], list[int]]] = []

    def launching(stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        for step in stretch:
            numbers = {name: evaluate_size(size, sizes) for name, size in step.sizes.items()}
            values = [
                buffers[step.buffers[a.name]].data_ptr() if a.kind == "pointer" else numbers[a.name]
                for a in step.kernel.arguments
            ]
            expected.append((codes[step.kernel.digest].kernel.launch_grid(numbers), values))
            shim.set(parameters=len(values) + HIDDEN_PARAMETERS)
            launches((step,), buffers, sizes)

    for n in (3, 50, 3):
        run_program(programs.forward, zeros(programs.forward, n), launching=launching)
    seen = shim.launched()
    assert [one.grid for one in seen] == [grid for grid, _ in expected]
    assert {one.stream for one in seen} == {STREAM}
    assert [numbers_of(one) for one in seen] == [[*values, 0, 0] for _, values in expected]
    assert shim.get("loads") == len(programs.forward.kernels)


def test_tensors_that_are_not_dense_or_aligned_are_copied_to_where_kernels_expect_them(
    shim: Shim, programs: Programs, built: tuple[BuiltKernel, ...]
) -> None:
    codes = {planned.digest: Code.of(one) for planned, one in zip(programs.kernels, built, strict=True)}
    launches = Launcher(shim.driver, codes, device=0, stream=lambda device: STREAM)
    given = zeros(programs.forward, 5)
    x = programs.forward.ir.inputs[0].name
    shape = given[x].shape
    shifted = torch.zeros(given[x].numel() + 1, dtype=torch.bfloat16)[1:].view(shape)
    every_other = torch.zeros(*shape[:-1], 2 * shape[-1], dtype=torch.bfloat16)[..., ::2]
    first = programs.forward.kernels[0]
    shim.set(parameters=len(first.arguments) + HIDDEN_PARAMETERS)

    def only_first(stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        launches([step for step in stretch if step.kernel is first], buffers, sizes)

    for bad in (shifted, every_other, given[x].transpose(0, 1)):
        run_program(programs.forward, given | {x: bad}, launching=only_first)
    pointers = [
        numbers_of(seen)[place]
        for seen in shim.launched()
        for place, argument in enumerate(first.arguments)
        if argument.kind == "pointer"
    ]
    assert len(pointers) >= 4 and all(address % 16 == 0 for address in pointers)


def test_a_tensor_of_another_element_type_is_refused(programs: Programs) -> None:
    x = programs.forward.ir.inputs[0].name
    given = zeros(programs.forward, 1)
    with pytest.raises(
        TensorUnfitForKernels, match=rf"`{x}` is torch\.float16 on cpu, and .* torch\.bfloat16"
    ):
        run_program(programs.forward, given | {x: given[x].half()})
    with pytest.raises(TensorUnfitForKernels, match="on meta, and the kernels take"):
        run_program(programs.forward, given | {name: given[name].to("meta") for name in list(given)[1:]})


def test_a_tensor_past_32_bits_is_refused_before_anything_is_copied(programs: Programs) -> None:
    x = programs.forward.ir.inputs[0]
    huge = torch.zeros(1, dtype=torch.bfloat16).expand(2**23, 2, 2, 64)
    with pytest.raises(TensorTooLarge, match=f"`{x.name}` has 2147483648 elements"):
        run_program(programs.forward, zeros(programs.forward, 1) | {x.name: huge})


def zeros(program: Program, size: int) -> dict[str, torch.Tensor]:
    """A tensor for each leaf, every size symbol being `size`."""
    found = {}
    for leaf in leaves(program.ir):
        shape = leaf.type.concrete_shape(dict.fromkeys(leaf.type.symbols, size))
        found[leaf.name] = torch.zeros(shape, dtype=TORCH_DTYPES[leaf.type.dtype])
    return found


def numbers_of(seen: Seen) -> list[int]:
    return [int.from_bytes(value, "little") for value in seen.values]
