"""Verification: every kernel, run in Triton's interpreter, against what its part of the graph means.

A kernel is judged on the values that really lie in the buffers it reads: the graph between them and what it
writes is evaluated in float64 (the truth) and in its own dtypes (eager), by the operators' references. So
an error is charged to the kernel that made it, and a kernel that reads a wrong buffer fails. Partial sums
count as what they add up to: a kernel may sum what it stores rounded, and what finishes the sum is judged on
the sum's own parts.

    error <= 2 * eager's error + one ulp of the dtype at the largest magnitude

where the truth, rounded to the dtype, and eager's result are finite. Elsewhere the kernel must have one of
these two: a kernel may be free of an overflow that eager's operators have on the way, or share it.

That graph is the planner's, which has rewritten it. So each direction is judged as a whole too, under the
name `whole`: the planner's graph, evaluated in float64, against the graph as it was before planning, by the
same bar with float32 as eager's dtype whatever the graph's own is. Rewrites are identities, so this judges
them alone: the roundings of a whole chain, which in bf16 may miss or hide anything, are no part of it. What
is read as outputs must be what the buffers hold, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import torch

from esper.ir.dims import Dim, evaluate_size, size_symbols, symbol
from esper.ir.graph import BlueprintIR, Node, Value, frozen_attrs
from esper.ir.rewrite import needed_by, replace_results, with_operands
from esper.ir.types import DType, TensorType
from esper.lang import SizeValue, size_values
from esper.ops.reference.evaluate import evaluate
from esper.urza.compiler import Programs
from esper.urza.eager.torch_tier import leaves
from esper.urza.generate.writer import Launch, buffer_name
from esper.urza.kernel import Direction
from esper.urza.program import Program
from esper.urza.verify.draws import Draw, places_among, tensor_for
from esper.urza.verify.recorder import Finding
from esper.urza.verify.simulate import Simulation, simulate

DEFAULT_BATCH = 3
DEFAULT_AXES = (9, 7, 5)
DEFAULT_SIZE = 21
"""Small, since the interpreter is slow, and odd, since full tiles need no mask."""

SIZES = "known.sizes"
"""An input without elements of its own: each size symbol is one of its axes."""

PROMISED_AXES = (16, 8, 8)
PROMISED_SIZE = 16
"""Small, and such that the promises of aligned kernels hold."""

MOST_ADDED = 64  # to a size that must be equal to another one


@dataclass(frozen=True, slots=True)
class Comparison:
    """Largest errors of one buffer against float64, and how large the kernel's may be.

    error: infinite where the kernel has another NaN or infinity than it may.
    """

    buffer: str
    error: float
    eager_error: float
    allowed: float
    draw: Draw = "normal"

    @property
    def ok(self) -> bool:
        return self.error <= self.allowed


@dataclass(frozen=True, slots=True)
class KernelVerdict:
    """What was found of one kernel: each buffer that it writes, and faults in its memory accesses."""

    name: str
    direction: Direction
    comparisons: tuple[Comparison, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return bool(self.comparisons) and not self.findings and all(one.ok for one in self.comparisons)

    @property
    def worst(self) -> Comparison:
        """The buffer that comes nearest to its limit, or goes furthest beyond it."""
        return max(self.comparisons, key=lambda one: one.error / one.allowed if one.allowed else one.error)


@dataclass(frozen=True, slots=True)
class Verification:
    """kernels: in launch order, forward first. wholes: a verdict `whole` on each direction's plan.
    outside: operators that run as library calls, unverified. launches: kernels that the interpreter ran for
    each draw."""

    kernels: tuple[KernelVerdict, ...]
    wholes: tuple[KernelVerdict, ...]
    outside: tuple[str, ...]
    launches: int
    sizes: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether every kernel and both directions pass; false where no kernel ran."""
        judged = (*self.kernels, *self.wholes)
        return 0 < len(self.kernels) == self.launches and all(verdict.ok for verdict in judged)


def verify_programs(
    programs: Programs,
    *,
    sizes: Mapping[str, SizeValue] | None = None,
    seed: int = 0,
    draws: Sequence[Draw] = ("normal",),
) -> Verification:
    """Runs both directions on random tensors of each kind of `draws`, drawn from `seed`.

    All parameters are drawn, those that start at zero too. sizes: values of size symbols; those not given
    are small and odd. Raises InterpreterFailed for a kernel that cannot run, and UnknownSize.
    """
    values = small_sizes(programs.ir, sizes or {})
    found = [_verified(programs, values, seed, draw) for draw in draws]
    kernels, wholes = (
        tuple(map(_together, zip(*verdicts, strict=True)))
        for verdicts in ([one.kernels for one in found], [one.wholes for one in found])
    )
    launches = min(one.launches for one in found)
    return Verification(kernels, wholes, programs.outside_calls, launches, values)


def verify_aligned(
    programs: Programs, *, sizes: Mapping[str, SizeValue] | None = None, seed: int = 0
) -> Verification:
    """The verdicts on the kernels that are built under promises, at sizes that keep them, as `..._aligned`.

    Sizes that are not given are multiples of 8, N apart, which no kernel is promised anything of. A kernel
    whose promises the sizes break is left out.
    """
    values = small_sizes(programs.ir, sizes or {}, PROMISED_AXES, PROMISED_SIZE)
    aligned = {
        (launch.kernel.direction, launch.kernel.name)
        for _, launch, _ in programs.launches()
        if launch.kernel.at({n: evaluate_size(size, values) for n, size in launch.sizes.items()})
        != launch.kernel
    }
    found = _verified(programs, values, seed, "normal") if aligned else _OfDraw()
    kernels = tuple(
        replace(one, name=f"{one.name}_aligned")
        for one in found.kernels
        if (one.direction, one.name) in aligned
    )
    return Verification(kernels, (), (), len(aligned), values)


@dataclass
class _OfDraw:
    """The verdicts of one draw, and how many kernels ran."""

    kernels: list[KernelVerdict] = field(default_factory=list)
    wholes: list[KernelVerdict] = field(default_factory=list)
    launches: int = 0


def _verified(programs: Programs, sizes: Mapping[str, int], seed: int, draw: Draw) -> _OfDraw:
    generator = torch.Generator().manual_seed(seed)
    places = places_among(program.ir for program in programs.both)
    given: dict[str, torch.Tensor] = {}
    verdicts = _OfDraw()
    for program, unplanned in zip(
        programs.both, (programs.parts.forward, programs.parts.backward), strict=False
    ):
        for node in (*leaves(program.ir), *leaves(unplanned)):
            if node.name not in given:
                given[node.name] = tensor_for(node, sizes, generator, draw, node.name in places)
        found = simulate(program, {node.name: given[node.name] for node in leaves(program.ir)}, sizes)
        verdicts.kernels += _verdicts(program, found, sizes, draw)
        verdicts.wholes.append(_whole(program, unplanned, found, given, sizes, draw))
        verdicts.launches += found.launches
        given.update(found.results)
    return verdicts


def _whole(
    program: Program,
    unplanned: BlueprintIR,
    found: Simulation,
    given: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    draw: Draw,
) -> KernelVerdict:
    """The verdict on a direction's plan, and on how its results are read from buffers."""
    planned = _values(program.ir, given, sizes, torch.float64)
    truths = _values(unplanned, given, sizes, torch.float64)
    singles = _values(unplanned, given, sizes, torch.float32)
    comparisons = []
    for name, truth in truths.items():
        mine, single = (_in_single(one) for one in (planned[name], singles[name]))
        eager = torch.where(single.isfinite(), single, _in_single(truth))
        comparisons.append(replace(compare(name, mine, eager, truth), draw=draw))
    buffers = {value: buffer_name(value) for value in program.plan.stored}
    known = {value: name for value, name in buffers.items() if name in found.tensors}
    results = dict(program.ir.outputs + program.ir.updates)
    for name, held in _evaluate(program, known, results, found.tensors, sizes, None).items():
        read = found.results.get(name)
        is_held = read is not None and read.shape == held.shape and bool(_same(read, held).all())
        error = 0.0 if is_held else math.inf
        comparisons.append(Comparison(name, error, 0.0, 0.0, draw))
    return KernelVerdict("whole", program.direction, tuple(comparisons), ())


def _in_single(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _together(verdicts: tuple[KernelVerdict, ...]) -> KernelVerdict:
    """The verdicts of one kernel on several draws as one."""
    return replace(
        verdicts[0],
        comparisons=tuple(one for verdict in verdicts for one in verdict.comparisons),
        findings=tuple(dict.fromkeys(one for verdict in verdicts for one in verdict.findings)),
    )


def small_sizes(
    ir: BlueprintIR,
    sizes: Mapping[str, SizeValue],
    axes: Sequence[int] = DEFAULT_AXES,
    other: int = DEFAULT_SIZE,
) -> dict[str, int]:
    """A number for each size symbol: as given, else N = 3, `axes` of a `...`, `other` for others.

    Where the graph ensures that sizes are equal, those that were not given follow.
    """
    values = size_values(ir, sizes)
    for name in values:
        stem, dot, axis = name.partition(".")
        if stem not in sizes:
            small = axes[int(axis) % len(axes)] if dot else other
            values[name] = DEFAULT_BATCH if name == "N" else small
    free = {name for name in values if name.partition(".")[0] not in sizes}
    _make_equal(_ensured_zeros(ir), values, free)
    return values


def _ensured_zeros(ir: BlueprintIR) -> list[Dim]:
    """The differences of sizes that must be zero for `ir` to run."""
    found = []
    for node in ir.of("ensure_shape"):
        (operand,) = node.operands
        assert operand is not None
        pairs = zip(ir.type(operand).shape, node.type.shape, strict=True)
        found += [zero for one, other in pairs if isinstance(zero := one - other, Dim)]
    return found


def _make_equal(zeros: Sequence[Dim], values: dict[str, int], free: Set[str]) -> None:
    """Changes one of `values` for each of `zeros` that is none, as far as changing one is enough."""
    for zero in zeros:
        names = sorted(size_symbols(zero) & free)
        near = ({**values, name: values[name] + more} for name in names for more in range(MOST_ADDED))
        values.update(next((sizes for sizes in near if evaluate_size(zero, sizes) == 0), {}))


def _verdicts(
    program: Program, found: Simulation, sizes: Mapping[str, int], draw: Draw
) -> Iterator[KernelVerdict]:
    stored = {buffer_name(value): value for value in program.plan.stored}
    exact, eager_tensors = dict(found.tensors), dict(found.tensors)
    known: dict[Value, str] = {}
    for step in program.steps:
        if isinstance(step, Launch):
            values = {name: stored[name] for name in step.written if name in stored}
            sums = _sums(program, step)
            truths = _evaluate(program, known, {**values, **sums}, exact, sizes, torch.float64)
            eager = _evaluate(program, known, {**values, **sums}, eager_tensors, sizes, None)
            for name in sums:
                parts, shape = found.tensors[name], truths[name].shape
                eager_tensors[name], exact[name] = (
                    total.sum(0).reshape(shape) for total in (parts, parts.double())
                )
            written = {
                **{name: found.tensors[name] for name in values},
                **{n: eager_tensors[n] for n in sums},
            }
            comparisons = (compare(name, written[name], eager[name], truths[name]) for name in written)
            yield KernelVerdict(
                step.kernel.name,
                program.direction,
                tuple(replace(one, draw=draw) for one in comparisons),
                tuple(finding for finding in found.findings if finding.kernel == step.kernel.name),
            )
            known |= {value: name for name, value in (*sums.items(), *values.items())}
        else:
            known |= {stored[name]: name for name in step.results if name is not None}


def _sums(program: Program, step: Launch) -> dict[str, Value]:
    """What the partial sums that a launch writes add up to, by the name of their buffer."""
    return {part.partial(node).name: node.result() for part in step.group.parts for node in part.partials}


def _evaluate(
    program: Program,
    known: Mapping[Value, str],
    wanted: Mapping[str, Value],
    tensors: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    dtype: torch.dtype | None,
) -> dict[str, torch.Tensor]:
    """`wanted` values of the program's graph, those of `known` taken from the buffers it names."""
    ir = program.ir
    cut = {value: Value(f"known.{number}") for number, value in enumerate(known)}
    given_nodes = [Node(new.node, "input", (), frozen_attrs({}), (ir.type(old),)) for old, new in cut.items()]
    nodes = [with_operands(node, cut) for node in ir.nodes]
    part = BlueprintIR(ir.name, (*given_nodes, *nodes), replace_results(tuple(wanted.items()), cut))
    needed = needed_by(part, [value.node for _, value in part.outputs])
    part = part.replace(nodes=[node for node in part.nodes if node.op == "input" or node.name in needed])
    given = {new.node: tensors[known[value]] for value, new in cut.items()}
    return _values(part, {**tensors, **given}, sizes, dtype)


def _values(
    ir: BlueprintIR,
    tensors: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    dtype: torch.dtype | None,
) -> dict[str, torch.Tensor]:
    """Outputs and updates of a graph whose leaves are in `tensors`, at `sizes`."""
    symbols = TensorType(DType.F32, tuple(map(symbol, sizes)))  # not all shapes that are known tell them
    ir = ir.replace(nodes=(Node(SIZES, "input", (), frozen_attrs({}), (symbols,)), *ir.nodes))
    held = {**tensors, SIZES: torch.empty(()).expand(tuple(sizes.values()))}
    inputs = {node.name: held[node.name] for node in ir.inputs}
    weights = {node.name: held[node.name] for node in (*ir.params, *ir.buffers)}
    seed = int(held[ir.of("seed")[0].name]) if ir.of("seed") else 0
    return evaluate(ir, inputs, weights, dtype=dtype, seed=seed)


def compare(name: str, found: torch.Tensor, eager: torch.Tensor, truth: torch.Tensor) -> Comparison:
    """Errors of `found` and `eager` against `truth`."""
    rounded = truth.to(found.dtype)
    plain = rounded.isfinite() & eager.isfinite()
    narrow, narrow_truth = found.to(eager.dtype), truth.to(eager.dtype)  # sums of partial sums are wider
    excused = _same(found, rounded) | _same(found, eager) | _same(narrow, narrow_truth) | _same(narrow, eager)
    excused &= ~plain
    allowed = 0.0
    eager_error = _error(eager, truth, plain)
    if eager.is_floating_point():
        limits = torch.finfo(eager.dtype)
        largest = truth[plain].abs().max().item() if plain.any() else 0.0
        allowed = 2.0 * eager_error + limits.eps * 2.0 ** math.floor(math.log2(max(largest, limits.tiny)))
    return Comparison(name, _error(found, truth, ~excused), eager_error, allowed)


def _same(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Where two tensors have the same element; NaN is the same as NaN."""
    return (one == other) | (one.isnan() & other.isnan())


def _error(found: torch.Tensor, truth: torch.Tensor, judged: torch.Tensor) -> float:
    """The largest difference where `judged`; infinite where one of the two is not finite and not the same."""
    mine, exact = found[judged], truth[judged]
    differing = ~_same(mine, exact)
    if not differing.any():
        return 0.0
    difference = (mine[differing].double() - exact[differing].double()).abs()
    if not mine.is_floating_point():
        difference = difference.clamp(min=1.0)  # of integers that float64 cannot tell apart
    return float(difference.nan_to_num(nan=math.inf, posinf=math.inf).max())
