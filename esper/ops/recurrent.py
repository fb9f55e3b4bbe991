"""Recurrent layers: composites on `scan`, with torch's gates, weights and equations.

What the inputs contribute to the gates is one product for all steps, before the loop; a step multiplies the
state alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esper.ir.build import Builder
from esper.ir.dims import Size
from esper.ir.graph import Node, Value
from esper.ir.operator import (
    Attribute,
    AttrValue,
    Composite,
    Cost,
    Creation,
    Input,
    Kind,
    Operator,
    Role,
    Sampler,
    Site,
    define,
)
from esper.ir.types import TensorType
from esper.ops.rules import require_floating, traffic

Values = Sequence[Value]


@dataclass(frozen=True, slots=True)
class _Layer:
    """A recurrent layer of some gates and states.

    step: from the states [N, H], each gate's part of the inputs [N, H] and weight of the state [H, H], and
        the kept bias [H] to the next states, of which the first is the output.
    kept: the gate whose bias of the state the step adds itself; the others are added to the inputs' parts.
    """

    gates: int
    states: tuple[str, ...]
    step: Callable[[Builder, Values, Values, Values, Value | None], Values]
    kept: int | None = None

    def infer(self, site: Site) -> Sequence[TensorType]:
        require_floating(site)
        x, weight_hh = site.type(0), site.type(2)
        site.require(x.rank == 3, f"`x` is {x}, expected [N, T, features]")
        site.require(x.shape[1] != 0, f"`x` is {x}, expected at least one step")
        site.require(weight_hh.rank == 2, f"`weight_hh` is {weight_hh}, expected two axes")
        hidden = weight_hh.shape[1]
        rows = hidden * self.gates
        expected = [
            x.with_shape((rows, x.shape[2])),
            x.with_shape((rows, hidden)),
            *[x.with_shape((rows,))] * 2,
        ]
        for index, wanted in enumerate(expected, 1):
            found = site.types[index]
            name = site.op.inputs[index].name
            site.require(found is None or found == wanted, f"`{name}` is {found}, expected {wanted}")
        one, other = site.types[3], site.types[4]
        site.require(
            (one is None) == (other is None),
            f"`bias_ih` is {_shown(one)} and `bias_hh` is {_shown(other)}, expected both or none",
        )
        batch, steps, _ = x.shape
        return [x.with_shape((batch, steps, hidden)), *[x.with_shape((batch, hidden))] * len(self.states)]

    def cost(self, site: Site) -> Cost:
        """The two products."""
        batch, steps, features = site.type(0).shape
        rows, hidden = site.type(2).shape
        return traffic(site, batch * steps * rows * (features + hidden) * 2)

    def define(self, build: Builder, node: Node) -> Values:
        x, weight_ih, weight_hh, bias, bias_hh = node.operands
        assert x is not None and weight_ih is not None and weight_hh is not None
        batch, steps, _ = build.type(x).shape
        hidden = build.type(weight_hh).shape[1]
        if bias is not None and bias_hh is not None and self.kept is None:
            bias = build.op("add", bias, bias_hh)
        parts = build.op("matmul", x, weight_ih, transpose_b=True)
        parts = parts if bias is None else build.op("add", parts, bias)
        parts = build.op("reshape", parts, shape=(batch, steps, self.gates, hidden))
        sequences = _apart(build, build.op("permute", parts, axes=(2, 1, 0, 3)))
        constants = _apart(build, build.op("reshape", weight_hh, shape=(self.gates, hidden, hidden)))
        if bias_hh is not None and self.kept is not None:
            biases = _apart(build, build.op("reshape", bias_hh, shape=(self.gates, hidden)))
            for gate, found in enumerate(biases):
                if gate != self.kept:
                    sequences[gate] = build.op("add", sequences[gate], found)
            constants.append(biases[self.kept])

        inner = Builder("step")
        inner.scope = node
        state = build.type(x).with_shape((batch, hidden))
        states = [inner.input(name, state) for name in self.states]
        slices = [inner.input(f"gate{gate}", state) for gate in range(self.gates)]
        weights = [inner.input(f"weight{gate}", build.type(constants[gate])) for gate in range(self.gates)]
        kept = [inner.input("bias", build.type(value)) for value in constants[self.gates :]]
        after = self.step(inner, states, slices, weights, kept[0] if kept else None)
        body = inner.finish(
            {f"next_{name}": value for name, value in zip(self.states, after, strict=True)} | {"y": after[0]}
        )
        start = [_zeros(build, state)] * len(self.states)
        *last, every = build.ops(
            "scan",
            *(*start, *sequences, *constants),
            body=body,
            carries=len(self.states),
            sequences=self.gates,
            reverse=node.attrs["reverse"],
        )
        return [build.op("permute", every, axes=(1, 0, 2)), *last]

    def sample(self, draw: Sampler) -> tuple[Sequence[Value | None], dict[str, AttrValue]]:
        x = draw.tensor(dtype=draw.dtype(), min_rank=3, max_rank=3)
        type = draw.type(x)
        hidden = draw.integer(1, 3)
        rows = hidden * self.gates
        weights = [draw.param((rows, type.shape[2]), type.dtype), draw.param((rows, hidden), type.dtype)]
        has_bias = draw.boolean()
        biases = [draw.param((rows,), type.dtype) if has_bias else None for _ in range(2)]
        return [x, *weights, *biases], {"reverse": draw.boolean()}


def _shown(type: TensorType | None) -> str:
    return "left out" if type is None else str(type)


def _apart(build: Builder, value: Value) -> list[Value]:
    """The slices of `value` along its first axis, whose size is a number."""
    count, *rest = build.type(value).shape
    assert isinstance(count, int)
    parts = [build.op("slice", value, axes=(0,), start=(index,), stop=(index + 1,)) for index in range(count)]
    return [build.op("reshape", part, shape=tuple(rest)) for part in parts]


def _zeros(build: Builder, type: TensorType) -> Value:
    return build.op("broadcast_to", build.constant(0.0, type.dtype), shape=type.shape)


def _of_state(build: Builder, h: Value, weight: Value) -> Value:
    return build.op("matmul", h, weight, transpose_b=True)


def _rnn_step(b: Builder, states: Values, parts: Values, weights: Values, bias: Value | None) -> Values:
    return [b.op("tanh", b.op("add", parts[0], _of_state(b, states[0], weights[0])))]


def _gru_step(b: Builder, states: Values, parts: Values, weights: Values, bias: Value | None) -> Values:
    """`h' = (1 - z) n + z h`, where the reset gate r scales what the state contributes to n."""
    (h,) = states
    r, z = (b.op("sigmoid", b.op("add", parts[gate], _of_state(b, h, weights[gate]))) for gate in range(2))
    candidate = _of_state(b, h, weights[2])
    candidate = candidate if bias is None else b.op("add", candidate, bias)
    n = b.op("tanh", b.op("add", parts[2], b.op("mul", r, candidate)))
    return [b.op("add", n, b.op("mul", z, b.op("sub", h, n)))]


def _lstm_step(b: Builder, states: Values, parts: Values, weights: Values, bias: Value | None) -> Values:
    """`c' = f c + i g` and `h' = o tanh(c')`."""
    h, c = states
    gates = [b.op("add", part, _of_state(b, h, weight)) for part, weight in zip(parts, weights, strict=True)]
    i, f, o = (b.op("sigmoid", gates[gate]) for gate in (0, 1, 3))
    after = b.op("add", b.op("mul", f, c), b.op("mul", i, b.op("tanh", gates[2])))
    return [b.op("mul", o, b.op("tanh", after)), after]


def _define_layer(name: str, doc: str, layer: _Layer) -> None:
    def weight(name: str, of_state: bool, optional: bool = False) -> Input:
        def shape(c: Creation) -> tuple[Size, ...]:
            rows = c.size("hidden") * layer.gates
            columns = c.size("hidden") if of_state else c.types["x"].shape[2]
            return (rows,) if optional else (rows, columns)

        return Input(
            name,
            Role.PARAM,
            optional=optional,
            shape=shape,
            init="fan_in_uniform",
            fan_in=lambda c: c.size("hidden"),
            when="bias" if optional else None,
        )

    define(
        Operator(
            name=name,
            doc=doc,
            lowering=Composite(layer.define),
            inputs=(
                Input("x"),
                weight("weight_ih", of_state=False),
                weight("weight_hh", of_state=True),
                weight("bias_ih", of_state=False, optional=True),
                weight("bias_hh", of_state=True, optional=True),
            ),
            attributes=(
                Attribute("hidden", Kind.DIM, doc="the size of the state", stored=False),
                Attribute("reverse", Kind.BOOL, False, doc="whether to begin with the last step"),
                Attribute("bias", Kind.BOOL, True, doc="whether to add biases", stored=False),
            ),
            results=("result", *(f"last_{state}" for state in layer.states)),
            infer=layer.infer,
            reference=f"esper.ops.reference.recurrent:{name}",
            no_gradient="`expand` replaces it by its definition",
            cost=layer.cost,
            sample=layer.sample,
        )
    )


_define_layer(
    "rnn",
    "A loop with the state `h' = tanh(W x + b + U h + c)` (Elman 1990), from zeros. "
    "`x` [N, T, features], the result [N, T, hidden], the last state [N, hidden]; weights as "
    "`torch.nn.RNN` has them.",
    _Layer(1, ("h",), _rnn_step),
)
_define_layer(
    "gru",
    "Gated recurrent units (Cho et al. 2014), from zero states, with the reset gate after the product as "
    "in `torch.nn.GRU`. `x` [N, T, features], the result [N, T, hidden], the last state [N, hidden]; the "
    "rows of weights and biases are the gates reset, update, candidate.",
    _Layer(3, ("h",), _gru_step, kept=2),
)
_define_layer(
    "lstm",
    "Long short-term memory (Hochreiter & Schmidhuber 1997, Gers et al. 2000), from zero states, as "
    "`torch.nn.LSTM`. `x` [N, T, features], the result [N, T, hidden], the last state and cell [N, hidden]; "
    "the rows of weights and biases are the gates input, forget, cell, output.",
    _Layer(4, ("h", "c"), _lstm_step),
)
