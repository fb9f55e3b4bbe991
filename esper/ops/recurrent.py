"""Recurrent layers: composites on `scan`, with torch's gates, weights and equations.

What the inputs contribute to the gates is one product for all steps, before the loop; a step multiplies the
state alone, for all gates at once. Gates stand side by side on the last axis.
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

    step: from the states [N, H] and what the inputs and the first state contribute to the gates, both
        [N, gates * H], to the next states, of which the first is the output.
    apart: whether the step needs to know the state's contribution, whose bias then is added to it; otherwise
        all biases are in the inputs' one.
    """

    gates: int
    states: tuple[str, ...]
    step: Callable[[Builder, Values, Value, Value], Values]
    apart: bool = False

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
        batch = build.type(x).shape[0]
        hidden = build.type(weight_hh).shape[1]
        if bias is not None and bias_hh is not None and not self.apart:
            bias = build.op("add", bias, bias_hh)
        parts = build.op("matmul", x, weight_ih, transpose_b=True)
        parts = parts if bias is None else build.op("add", parts, bias)
        constants = [weight_hh, *([bias_hh] if bias_hh is not None and self.apart else [])]

        inner = Builder("step")
        inner.scope = node
        state = build.type(x).with_shape((batch, hidden))
        states = [inner.input(name, state) for name in self.states]
        of_inputs = inner.input("gates", state.with_shape((batch, hidden * self.gates)))
        names = ("weight", "bias")[: len(constants)]
        weight, *biases = [
            inner.input(name, build.type(value)) for name, value in zip(names, constants, strict=True)
        ]
        of_state = inner.op("matmul", states[0], weight, transpose_b=True)
        for added in biases:
            of_state = inner.op("add", of_state, added)
        after = self.step(inner, states, of_inputs, of_state)
        body = inner.finish(
            {f"next_{name}": value for name, value in zip(self.states, after, strict=True)} | {"y": after[0]}
        )
        start = [_zeros(build, state)] * len(self.states)
        *last, every = build.ops(
            "scan",
            *(*start, parts, *constants),
            body=body,
            carries=len(self.states),
            sequences=1,
            reverse=node.attrs["reverse"],
            along=1,
        )
        return [every, *last]

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


def _zeros(build: Builder, type: TensorType) -> Value:
    return build.op("broadcast_to", build.constant(0.0, type.dtype), shape=type.shape)


def _gates(b: Builder, parts: Value, first: int, last: int, hidden: Size) -> Value:
    """Those from `first` to before `last` of `parts`."""
    return b.op("slice", parts, axes=(1,), start=(hidden * first,), stop=(hidden * last,))


def _rnn_step(b: Builder, states: Values, of_inputs: Value, of_state: Value) -> Values:
    return [b.op("tanh", b.op("add", of_inputs, of_state))]


def _gru_step(b: Builder, states: Values, of_inputs: Value, of_state: Value) -> Values:
    """`h' = (1 - z) n + z h`, where the reset gate r scales what the state contributes to n."""
    (h,) = states
    hidden = b.type(h).shape[1]
    both = (_gates(b, parts, 0, 2, hidden) for parts in (of_inputs, of_state))
    opened = b.op("sigmoid", b.op("add", *both))
    r, z = (_gates(b, opened, gate, gate + 1, hidden) for gate in range(2))
    given, kept = (_gates(b, parts, 2, 3, hidden) for parts in (of_inputs, of_state))
    n = b.op("tanh", b.op("add", given, b.op("mul", r, kept)))
    return [b.op("add", n, b.op("mul", z, b.op("sub", h, n)))]


def _lstm_step(b: Builder, states: Values, of_inputs: Value, of_state: Value) -> Values:
    """`c' = f c + i g` and `h' = o tanh(c')`."""
    h, c = states
    hidden = b.type(h).shape[1]
    gates = b.op("add", of_inputs, of_state)
    opened = b.op("sigmoid", _gates(b, gates, 0, 2, hidden))
    i, f = (_gates(b, opened, gate, gate + 1, hidden) for gate in range(2))
    g = b.op("tanh", _gates(b, gates, 2, 3, hidden))
    o = b.op("sigmoid", _gates(b, gates, 3, 4, hidden))
    after = b.op("add", b.op("mul", f, c), b.op("mul", i, g))
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
    _Layer(3, ("h",), _gru_step, apart=True),
)
_define_layer(
    "lstm",
    "Long short-term memory (Hochreiter & Schmidhuber 1997, Gers et al. 2000), from zero states, as "
    "`torch.nn.LSTM`. `x` [N, T, features], the result [N, T, hidden], the last state and cell [N, hidden]; "
    "the rows of weights and biases are the gates input, forget, cell, output.",
    _Layer(4, ("h", "c"), _lstm_step),
)
