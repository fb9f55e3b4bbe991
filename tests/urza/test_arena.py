"""The arena: buffers that live at once never share a byte, and little room is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from esper.ir import Builder, DType, TensorType, symbol
from esper.ir.graph import BlueprintIR
from esper.lang import LibraryEntry, library, lower, size_values
from esper.ops.reference.evaluate import TORCH_DTYPES
from esper.urza.arena import ALIGNMENT, Resident, Span, arena, place, residents, spans
from esper.urza.compiler import make_programs
from esper.urza.eager.torch_tier import leaves
from esper.urza.errors import TensorTooLarge
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.program import Call, Program
from esper.urza.run.bound_program import BoundProgram, Buffers
from esper.urza.verify.verification import small_sizes


@st.composite
def buffers(draw: st.DrawFn) -> list[Resident]:
    found = []
    for number in range(draw(st.integers(0, 24))):
        first = draw(st.integers(0, 12))
        span = Span(first, draw(st.integers(first, 14)))
        size = draw(st.one_of(st.integers(0, 600), st.integers(0, 2**40)))
        found.append(Resident(f"b{number}", size, span))
    return found


@given(found=buffers())
def test_what_lives_at_once_lies_apart_on_aligned_bytes_in_an_arena_of_at_least_its_sum(
    found: list[Resident],
) -> None:
    placed = place(found)
    for one, other in combinations(found, 2):
        a, b = placed.offsets[one.name], placed.offsets[other.name]
        assert (
            not one.span.meets(other.span)
            or a + one.size <= b
            or b + other.size <= a
            or 0 in (one.size, other.size)
        )
    assert all(placed.offsets[one.name] % ALIGNMENT == 0 for one in found)
    assert all(placed.offsets[one.name] + one.size <= placed.size for one in found)
    at_once = [sum(o.size for o in found if o.span.first <= step <= o.span.last) for step in range(15)]
    assert placed.least == max(at_once) <= placed.size


@given(found=buffers(), data=st.data())
def test_where_buffers_lie_does_not_depend_on_how_they_are_listed(
    found: list[Resident], data: st.DataObject
) -> None:
    assert place(data.draw(st.permutations(found))) == place(found)


def test_a_buffer_takes_the_room_of_one_that_is_read_no_more() -> None:
    chain = [Resident(f"b{n}", 1000, Span(n, n + 1)) for n in range(10)]
    assert place(chain).size == 2 * 1024


@pytest.mark.parametrize("entry", library(), ids=lambda entry: entry.name)
def test_the_library_loses_at_most_a_tenth_of_its_arenas(entry: LibraryEntry) -> None:
    programs = make_programs(lower(entry.name, precision="bf16"))
    for program in programs.both:
        placed = arena(program, size_values(programs.ir))
        assert placed.size <= 1.1 * placed.least


@pytest.mark.parametrize("name", ["transformer_block", "mbconv_block", "gru_layer", "group_norm_block"])
def test_every_kernel_reads_what_was_written_last(name: str) -> None:
    """Kernels that fill what they write with a number of their own find it again in what they read."""
    programs = make_programs(lower(name, precision="bf16"))
    sizes = small_sizes(programs.ir, {})
    tensors: dict[str, torch.Tensor] = {}
    for program in programs.both:
        written: dict[str, float] = {}
        own = {resident.name for resident in residents(program, sizes)}
        launched: list[Launch] = []

        def launching(
            stretch: Sequence[Launch],
            buffers: Buffers,
            sizes: Mapping[str, int],
            own: set[str] = own,
            written: dict[str, float] = written,
            launched: list[Launch] = launched,
        ) -> None:
            for step in stretch:
                launched.append(step)
                for name in set(step.buffers.values()) & own - set(step.written):
                    assert torch.all(buffers[name] == written[name])
                for name in step.written:
                    written[name] = len(launched) % 120 + 1.0
                    buffers[name].fill_(written[name])
                    assert buffers[name].data_ptr() == buffers.addresses[name]

        tensors |= zeros(program, sizes)
        tensors |= BoundProgram(program, launching)(tensors, sizes)
        assert len(launched) == len(program.kernels)


def test_results_of_library_calls_are_let_go_after_their_last_reader() -> None:
    programs = make_programs(lower("resnet_bottleneck"))
    sizes = small_sizes(programs.ir, {})
    program = programs.forward
    returned = {name for step in program.steps if isinstance(step, Call) for name in step.results if name}
    outliving = {buffer_name(read.base) for read in program.outputs.values()}
    lives = spans(program)
    seen = 0

    def launching(stretch: Sequence[Launch], buffers: Buffers, sizes: Mapping[str, int]) -> None:
        nonlocal seen
        number = program.steps.index(stretch[0])
        assert all(lives[name].last >= number for name in returned & set(buffers) - outliving)
        seen += len(stretch)

    BoundProgram(program, launching)(zeros(program, sizes), sizes)
    assert seen == len(program.kernels) and len(returned) > 1


def test_an_empty_batch_has_an_empty_arena() -> None:
    programs = make_programs(lower("norm"))
    sizes = size_values(programs.ir, {"N": 0})
    assert arena(programs.forward, sizes).least == 0
    found = BoundProgram(programs.forward, lambda *_: None)(zeros(programs.forward, sizes), sizes)
    assert all(tensor.numel() == 0 for tensor in found.values())


def test_a_buffer_past_32_bits_is_refused_before_anything_is_allocated() -> None:
    programs = make_programs(chain())
    with pytest.raises(TensorTooLarge):
        BoundProgram(programs.forward, lambda *_: None)({"x": torch.zeros(1, 8)}, {"N": 2**31})


def chain() -> BlueprintIR:
    """Two row sums one after the other, with a buffer between."""
    build = Builder("chain")
    x = build.input("x", TensorType(DType.F32, (symbol("N"), 8)))
    return build.finish({"y": build.op("softmax", build.op("softmax", x, axis=0), axis=1)})


def zeros(program: Program, sizes: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """A tensor for each leaf."""
    return {
        leaf.name: torch.zeros(leaf.type.concrete_shape(sizes), dtype=TORCH_DTYPES[leaf.type.dtype])
        for leaf in leaves(program.ir)
    }
