"""`scan`: a loop over one axis of some sequences, whose step is a graph.

The body's inputs are, in order, the carries, one slice of each sequence, and the constants; its outputs are
the next carries, then what the step yields. The gradient of a loop is a loop that runs the other way: its
carries are the gradients of the carries; among its sequences are the carries before each step, from which it
computes the step again. So the backward pass holds one step's intermediates at a time, and what is saved of
a thousand steps is a thousand carries. The gradients of constants are sums over the steps: `scan_sums` takes
those out of the loop that one operator over all steps computes; the others are carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import BlueprintIR, Value
from esper.ir.operator import (
    OPERATORS,
    Attribute,
    Attrs,
    AttrValue,
    Cost,
    Input,
    Kind,
    Operator,
    Outside,
    Sampler,
    Site,
    Vjp,
    define,
    graph_of,
)
from esper.ir.rewrite import needed_by
from esper.ir.types import TensorType
from esper.ops.rules import attribute_integer
from esper.ops.scan_sums import Sums


@dataclass(frozen=True, slots=True)
class Layout:
    """Which of a scan's operands and results, and of its body's inputs and outputs, is what.

    carries, sequences: how many there are. Constants begin at the operand number `constants`.
    along: the axis that counts the steps, the last one of a sequence with fewer axes.
    """

    body: BlueprintIR
    carries: int
    sequences: int
    along: int

    @staticmethod
    def of(attrs: Attrs) -> Layout:
        numbers = (attribute_integer(attrs, name) for name in ("carries", "sequences", "along"))
        return Layout(graph_of(attrs, "body"), *numbers)

    @property
    def constants(self) -> int:
        return self.carries + self.sequences

    @property
    def outputs(self) -> list[tuple[str, TensorType]]:
        """The names and types of the body's outputs: the next carries, then what a step yields."""
        return [(name, self.body.type(value)) for name, value in self.body.outputs]

    def axis(self, rank: int) -> int:
        """Which axis of a sequence, or of stacked results, counts the steps where a slice has `rank` axes."""
        return min(self.along, rank)

    def stacked(self, slice: TensorType, steps: Size) -> TensorType:
        """The type of a sequence of `steps` slices."""
        axis = self.axis(slice.rank)
        return slice.with_shape((*slice.shape[:axis], steps, *slice.shape[axis:]))

    def slice(self, sequence: TensorType) -> TensorType:
        """The type of a slice of `sequence`, which has at least one axis."""
        axis = self.axis(sequence.rank - 1)
        return sequence.with_shape((*sequence.shape[:axis], *sequence.shape[axis + 1 :]))

    def steps(self, sequence: TensorType) -> Size:
        """How many slices `sequence` has."""
        return sequence.shape[self.axis(sequence.rank - 1)]


def _infer(site: Site) -> Sequence[TensorType]:
    layout = Layout.of(site.attrs)
    body, carries, sequences = layout.body, layout.carries, layout.sequences
    operands = [site.type(index) for index in range(len(site.types))]
    site.require(carries >= 0, f"carries is {carries}, expected at least 0")
    site.require(sequences >= 1, f"sequences is {sequences}, expected at least 1, whose length is the loop's")
    site.require(
        len(operands) >= layout.constants,
        f"takes {carries} carries and {sequences} sequences, found {len(operands)} operands",
    )
    site.require(
        len(body.inputs) == len(operands),
        f"`{body.name}` has {len(body.inputs)} inputs, found {len(operands)} operands",
    )
    site.require(
        len(body.outputs) >= carries,
        f"`{body.name}` has {len(body.outputs)} outputs, fewer than {carries} carries",
    )
    site.require(layout.along >= 0, f"along is {layout.along}, expected at least 0")
    steps = _steps(site, layout, operands[carries : layout.constants])
    for index, (node, type) in enumerate(zip(body.inputs, operands, strict=True)):
        given = f"operand {index}"
        if carries <= index < layout.constants:
            given, type = f"a slice of operand {index}", layout.slice(type)
        site.require(type == node.type, f"`{node.name}` of `{body.name}` is {node.type}, {given} is {type}")
    for node, (name, type) in zip(body.inputs[:carries], layout.outputs, strict=False):
        site.require(
            type == node.type,
            f"`{name}` of `{body.name}` is {type}, expected {node.type}, as the next `{node.name}`",
        )
    stacked = [type for _, type in layout.outputs[carries:]]
    if site.flag("histories"):
        stacked += operands[:carries]
    results = [*operands[:carries], *(layout.stacked(type, steps) for type in stacked)]
    site.require(bool(results), f"`{body.name}` has no outputs")
    return results


def _steps(site: Site, layout: Layout, sequences: Sequence[TensorType]) -> Size:
    first = layout.carries
    for index, type in enumerate(sequences, first):
        site.require(type.rank >= 1, f"operand {index} is {type}, a sequence has at least one axis")
        expected = layout.steps(sequences[0])
        site.require(
            layout.steps(type) == expected, f"operand {index} is {type}, operand {first} has {expected} steps"
        )
    steps = layout.steps(sequences[0])
    site.require(steps != 0, f"operand {first} is {sequences[0]}, expected at least one step")
    return steps


def _cost(site: Site) -> Cost:
    """That of the body, for every step."""
    layout = Layout.of(site.attrs)
    steps = layout.steps(site.type(layout.carries))
    total = Cost(0, 0, 0)
    for node in layout.body.nodes:
        entry = OPERATORS[node.op]
        if entry.cost is not None:
            types = tuple(None if value is None else layout.body.type(value) for value in node.operands)
            one = entry.cost(Site(entry, types, node.attrs, node.types))
            total = Cost(total.flops + one.flops, total.read + one.read, total.written + one.written)
    return Cost(total.flops * steps, total.read * steps, total.written * steps)


@dataclass(slots=True)
class _Reverse:
    """The reverse loop's body while it is built, and for each of its inputs what the reverse scan reads."""

    build: Builder
    carries: dict[str, Value] = field(default_factory=dict)
    sequences: dict[str, Value] = field(default_factory=dict)
    constants: dict[str, Value] = field(default_factory=dict)

    def input(self, group: dict[str, Value], name: str, type: TensorType, operand: Value) -> Value:
        """A further input of the body in `group`."""
        found = self.build.input(self.build.fresh(name), type)
        group[found.node] = operand
        return found

    def scan(self, v: Vjp, outputs: Sequence[Value]) -> tuple[Value, ...]:
        """The reverse scan, without what its body does not read; one sequence stays to say how long it is."""
        nodes, name = self.build.nodes, self.build.name
        named = tuple((f"y{index}", value) for index, value in enumerate(outputs))
        live = needed_by(BlueprintIR(name, nodes, named), [value.node for value in outputs])
        sequences = {name: value for name, value in self.sequences.items() if name in live}
        sequences = sequences or dict([next(reversed(self.sequences.items()))])
        constants = {name: value for name, value in self.constants.items() if name in live}
        inputs = [self.build.node(name) for name in (*self.carries, *sequences, *constants)]
        inner = [node for node in nodes if node.name in live and node.op != "input"]
        return v.ops(
            "scan",
            *(*self.carries.values(), *sequences.values(), *constants.values()),
            body=BlueprintIR(name, (*inputs, *inner), named),
            carries=len(self.carries),
            sequences=len(sequences),
            reverse=not v.attrs["reverse"],
            along=v.attrs["along"],
        )


def _vjp(v: Vjp) -> Sequence[Value | None]:
    """Which carries have a gradient is found first: those that a result, or a later step, gives one."""
    layout = Layout.of(v.attrs)
    inputs, outputs, carries = layout.body.inputs, layout.outputs, layout.carries
    final, history = v.gradients[:carries], v.gradients[len(outputs) :]
    wrt = [
        index
        for index, node in enumerate(inputs)
        if node.type.dtype.is_floating and (index < carries or v.needed[index])
    ]
    carried = {index for index in range(carries) if final[index] is not None or history[index] is not None}
    step, found = _reversed_step(v, layout, carried, wrt)
    while not (reached := {index for index in found if index < carries}) <= carried:
        carried |= reached
        step, found = _reversed_step(v, layout, carried, wrt)

    next_carries = {index: _before(v, step, index, found.get(index)) for index in sorted(carried)}
    totals: dict[int, Sums] = {}
    so_far: dict[int, Value] = {}
    for index, gradient in found.items():
        if index >= layout.constants:
            totals[index] = sums = Sums.of(step.build, layout, gradient)
            if sums.rest is not None:
                type = inputs[index].type
                before = step.input(step.carries, f"d.{inputs[index].name}", type, _zeros(v, type))
                so_far[index] = step.build.op("add", before, sums.rest)
    slices = {index: value for index, value in found.items() if carries <= index < layout.constants}
    given = {Value(name): value for name, value in step.sequences.items()}
    parts = (part for sums in totals.values() for part in sums.parts if part not in given)
    yielded = list(dict.fromkeys([*slices.values(), *parts]))
    carried_on = [*next_carries.values(), *so_far.values()]
    made = step.scan(v, [*carried_on, *yielded]) if carried_on or yielded else ()
    results = dict(zip((*next_carries, *so_far), made, strict=False))
    stacked = {**given, **dict(zip(yielded, made[len(carried_on) :], strict=True))}
    results |= {index: stacked[value] for index, value in slices.items()}
    for index, sums in totals.items():
        if (total := sums.total(v.build, stacked, results.get(index))) is not None:
            results[index] = total
    return [results.get(index) if v.needed[index] else None for index in range(len(inputs))]


def _reversed_step(
    v: Vjp, layout: Layout, carried: set[int], wrt: Sequence[int]
) -> tuple[_Reverse, dict[int, Value]]:
    """The reverse body if the carries `carried` have gradients, and those of the body's inputs `wrt`."""
    step = _forward_step(v, layout)
    gradients: dict[str, Value] = {}
    for index, (name, type) in enumerate(layout.outputs):
        given = v.gradients[index]
        if index in carried:
            start = given if given is not None else _zeros(v, type)
            gradients[name] = step.input(step.carries, f"d.{name}", type, start)
        elif index >= layout.carries and given is not None:
            gradients[name] = step.input(step.sequences, f"d.{name}", type, given)
    names = [layout.body.inputs[index].name for index in wrt]
    pulled = v.differentiate(step.build, layout.body, gradients, names)
    return step, {index: value for index, value in zip(wrt, pulled, strict=True) if value is not None}


def _forward_step(v: Vjp, layout: Layout) -> _Reverse:
    """A body that holds the inputs of the forward body, a carry's value read from its history."""
    body = layout.body
    step = _Reverse(Builder(f"{body.name}.gradient", reserved=[node.name for node in body.nodes]))
    for index, node in enumerate(body.inputs):
        step.build.append(node)
        if index < layout.carries:
            step.sequences[node.name] = v.result(len(body.outputs) + index)
        else:
            group = step.sequences if index < layout.constants else step.constants
            group[node.name] = v.operand(index)
    return step


def _before(v: Vjp, step: _Reverse, carry: int, gradient: Value | None) -> Value:
    """The gradient of a carry before the step: what the step gives, and what the history's gradient adds."""
    layout = Layout.of(v.attrs)
    node = layout.body.inputs[carry]
    history = v.gradients[len(layout.outputs) + carry]
    if history is not None:
        added = step.input(step.sequences, f"d.{node.name}", node.type, history)
        return added if gradient is None else step.build.op("add", gradient, added)
    if gradient is None:
        return step.input(step.constants, f"d.{node.name}", node.type, _zeros(v, node.type))
    return gradient


def _zeros(v: Vjp, type: TensorType) -> Value:
    return v.op("broadcast_to", v.build.constant(0.0, type.dtype), shape=type.shape)


def _sample(draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
    first = draw.tensor(dtype=None if draw.integer(0, 3) == 3 else draw.dtype(), min_rank=1, max_rank=3)
    along = draw.integer(0, 1)
    layout = Layout(BlueprintIR("step", (), ()), 0, 1, along)
    steps = layout.steps(draw.type(first))
    sequences = [first]
    if draw.boolean():
        more = TensorType(draw.dtype(), draw.shape(0, 2))
        sequences.append(draw.tensor(layout.stacked(more, steps).shape, more.dtype))
    slices = [layout.slice(draw.type(value)) for value in sequences]
    count = draw.integer(0, 2)
    carries = [
        draw.tensor(slices[0].shape, slices[0].dtype) if draw.boolean() else draw.tensor(max_rank=2)
        for _ in range(count)
    ]
    body, constants = draw.body([draw.type(value) for value in carries], slices)
    return [*carries, *sequences, *constants], {
        "body": body,
        "carries": count,
        "sequences": len(sequences),
        "reverse": draw.boolean(),
        "along": along,
        "histories": count > 0 and draw.boolean(),
    }


define(
    Operator(
        name="scan",
        doc="A loop over the axis `along` of its sequences. `operands` are the first carries, the sequences "
        "[T, ...], or [..., T, ...], then constants; the body takes the carries, one slice of each sequence "
        "and the constants, and gives the next carries, then what the step yields. The results: the last "
        "carries, what the steps yielded, stacked along the same axis, and with `histories` the carries "
        "before each step, each at the place of its step's slice.",
        lowering=Outside(),
        inputs=(Input("operands", variadic=True, doc="carries, sequences, constants"),),
        attributes=(
            Attribute("body", Kind.GRAPH, doc="one step"),
            Attribute("carries", Kind.INT, doc="the number of carries"),
            Attribute("sequences", Kind.INT, doc="the number of sequences, at least 1"),
            Attribute("reverse", Kind.BOOL, False, doc="whether to begin with the last slice"),
            Attribute("along", Kind.INT, 0, doc="the axis of the steps; the last one where there are fewer"),
            Attribute("histories", Kind.BOOL, False, doc="whether to yield the carries before each step"),
        ),
        results=("results",),
        variadic_results=True,
        infer=_infer,
        reference="esper.ops.reference.scan:scan",
        vjp=_vjp,
        residuals={"histories": True},
        cost=_cost,
        sample=_sample,
        in_language=False,
    )
)
