"""The torch tier: the optimised graph as an `fx.GraphModule` over torch's own operators.

It runs on any device, under autograd, and with any batch and image size: run-time sizes are read from the
inputs. Weights, buffers and the random seed are arguments; updates are results, unless a batch norm is asked
to update its statistics in place, as torch's own does. Composite operators stay whole, so a linear layer is
one call of `linear` and a GRU one of torch's; what a seed runs costs the host what a module written by hand
does.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import fx, nn

from esper.ir.dims import Dim, Quotient, Size, size_symbols
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import DType
from esper.ops.reference.evaluate import TORCH_DTYPES, reference
from esper.ops.rules import attribute_number
from esper.passes import run_passes
from esper.passes.manager import CLEAN
from esper.urza.eager.masks_ahead import Streams

INFERENCE = f"inference,{CLEAN}"
REMEMBERED = 256
"""How many graphs are kept ready; seeds of one blueprint share theirs."""


_DROPS = frozenset({"dropout", "feature_dropout", "drop_path"})


Operands = tuple[fx.Node | None, ...]
Translate = Callable[["_Translation", Node, Operands, dict[str, Any]], fx.Node | None]
"""Writes the call of one node; None where it does not know how."""


def _row_norm(function: Callable[..., Any]) -> Translate:
    """A norm of rows whose size is known before the call."""

    def translate(to: _Translation, node: Node, operands: Operands, attrs: dict[str, Any]) -> fx.Node | None:
        size = node.type.shape[-1]
        if not isinstance(size, int):
            return None
        return to.graph.call_function(function, (operands[0], (size,), *operands[1:], attrs["eps"]))

    return translate


_CONVOLUTIONS = {1: torch.conv1d, 2: torch.conv2d, 3: torch.conv3d}


def _conv(to: _Translation, node: Node, operands: Operands, attrs: dict[str, Any]) -> fx.Node | None:
    """Not in bf16, of which some need care before the call."""
    assert node.operands[1] is not None
    channels, _, kernel, *_ = to.ir.type(node.operands[1]).shape
    groups: Any = attrs["groups"] if node.op == "conv" else channels
    if to.dtype_of(node.type.dtype) is torch.bfloat16 or not isinstance(kernel, int):
        return None
    stride, padding, dilation = attrs["stride"], attrs["padding"], attrs["dilation"]
    padding = dilation * (kernel // 2) if padding == -1 else padding
    function = _CONVOLUTIONS[len(node.type.shape) - 2]
    return to.graph.call_function(function, (*operands, stride, padding, dilation, groups))


def _matmul(to: _Translation, node: Node, operands: Operands, attrs: dict[str, Any]) -> fx.Node:
    flags = attrs["transpose_a"], attrs["transpose_b"]
    a, b = (
        to.graph.call_function(getattr, (operand, "mT")) if flag else operand
        for operand, flag in zip(operands, flags, strict=True)
    )
    return to.graph.call_function(torch.matmul, (a, b))


def _function(function: Callable[..., Any], *names: str) -> Translate:
    """A call of `function` with the operands, then the attributes `names`."""
    return lambda to, node, operands, attrs: to.graph.call_function(
        function, (*operands, *(attrs[name] for name in names))
    )


def _method(method: str, *names: str) -> Translate:
    """A call of the first operand's `method` with the attributes `names`."""
    return lambda to, node, operands, attrs: to.graph.call_method(
        method, (*operands, *(attrs[name] for name in names))
    )


_PLAIN: Mapping[str, Translate] = {
    "layer_norm": _row_norm(torch.layer_norm),
    "rms_norm": _row_norm(torch.rms_norm),
    "conv": _conv,
    "depthwise_conv": _conv,
    "matmul": _matmul,
    "relu": _function(torch.relu),
    "silu": _function(torch._C._nn.silu),
    "softmax": _function(torch.softmax, "axis"),
    "reshape": _method("reshape", "shape"),
    "permute": _method("permute", "axes"),
    "cast": _method("to", "dtype"),
}
"""Operators whose references wrap one function of torch, which is called here as it is."""


class Ready(NamedTuple):
    """A graph ready to be called in one mode.

    run: `graph_module(ir, dtype, in_place=True).forward`. outputs: how many of its results are outputs.
    updated: the buffers that the others are for, by name. updates: whether a call changes buffers, these or
    others in place. streams: of the random seed that it takes, if any.
    """

    ir: BlueprintIR
    run: Callable[..., tuple[torch.Tensor, ...]]
    outputs: int
    updated: tuple[str, ...]
    updates: bool
    streams: Streams | None


@lru_cache(maxsize=REMEMBERED)
def ready(ir: BlueprintIR, training: bool, dtype: torch.dtype | None = None) -> Ready:
    """What a seed of `ir` calls. dtype: of all floating tensors, if not their own.

    Its cache counts how often a graph was compiled: `ready.cache_info().misses`.
    """
    optimised = run_passes(ir, CLEAN if training else INFERENCE)
    module = graph_module(optimised, dtype, in_place=True)
    in_place = updated_in_place(optimised)
    updated = tuple(name for name, _ in optimised.updates if name not in in_place)
    streams = Streams(optimised) if optimised.of("seed") else None
    updates = training and bool(optimised.updates)
    return Ready(optimised, module.forward, len(optimised.outputs), updated, updates, streams)


def leaves(ir: BlueprintIR) -> tuple[Node, ...]:
    """The arguments of the graph module, in order: inputs, params, buffers, then the seed if there is one."""
    return (*ir.inputs, *ir.params, *ir.buffers, *ir.of("seed"))


def graph_module(
    ir: BlueprintIR,
    dtype: torch.dtype | None = None,
    *,
    sizes: tuple[str, ...] = (),
    in_place: bool = False,
) -> fx.GraphModule:
    """A function of `leaves(ir)` that returns a tuple: the outputs, then the updates.

    dtype: of all floating tensors, casts included, if not their own. sizes: size symbols that are arguments,
    after the leaves, and not read from inputs. in_place: buffers that `updated_in_place` names are changed,
    and their updates no results.
    """
    return _Translation(ir, dtype, updated_in_place(ir) if in_place else frozenset()).run(leaves(ir), sizes)


def updated_in_place(ir: BlueprintIR) -> frozenset[str]:
    """The buffers of batch norms that nothing but its own norm reads: these may be changed in place."""
    updates, results = dict(ir.updates), {value for _, value in ir.outputs}
    read = {operand for node in ir.nodes for operand in node.operands if operand is not None} | results
    found: list[str] = []
    for node in ir.of("batch_norm"):
        held = _statistics(node)
        of_its_own = [updates.get(name) for name in held] == [node.result(3), node.result(4)]
        alone = all(ir.users(name) == (node,) and Value(name) not in results for name in held)
        if of_its_own and alone and not read.intersection(node.results[1:]):
            found += held
    return frozenset(found)


def _statistics(node: Node) -> list[str]:
    """The names of a batch norm's running statistics."""
    return [operand.node for operand in node.operands[3:5] if operand is not None]


def _batch_norm(to: _Translation, node: Node, operands: Operands, attrs: dict[str, Any]) -> fx.Node:
    """The first result of `batch_norm`; in training, the running statistics become what its last two are."""
    x, scale, shift, mean, variance = operands
    dtypes = [None if operand is None else to.ir.type(operand).dtype for operand in node.operands]
    wide = to.dtype_of(dtypes[3] or DType.F32)
    scale, shift = (
        to.graph.call_method("to", (vector, wide)) if dtype not in (None, dtypes[3]) else vector
        for vector, dtype in zip((scale, shift), dtypes[1:3], strict=True)
    )
    arguments = (x, mean, variance, scale, shift, attrs["training"], attrs["momentum"], attrs["eps"])
    return to.graph.call_function(F.batch_norm, arguments)


def _body_module(body: BlueprintIR, dtype: torch.dtype | None) -> fx.GraphModule:
    """A function of the body's inputs, then of the sizes that it takes from the graph around it."""
    return _Translation(body, dtype).run(body.inputs, _outer_symbols(body))


def _outer_symbols(body: BlueprintIR) -> tuple[str, ...]:
    """The size symbols in a body's attributes that are no axis of one of its inputs."""
    bound = {str(size) for node in body.inputs for size in node.type.shape}
    found: dict[str, None] = {}
    for node in body.nodes:
        for value in node.attrs.values():
            for item in value if isinstance(value, tuple) else (value,):
                if isinstance(item, Dim):
                    found.update(dict.fromkeys(sorted(size_symbols(item))))
                elif isinstance(item, BlueprintIR):
                    found.update(dict.fromkeys(_outer_symbols(item)))
    return tuple(name for name in found if name not in bound)


class _Translation:
    def __init__(
        self, ir: BlueprintIR, dtype: torch.dtype | None, in_place: frozenset[str] = frozenset()
    ) -> None:
        self.ir = ir
        self.dtype = dtype
        self.in_place = in_place
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[Value, fx.Node] = {}
        self.symbols: dict[str, fx.Node] = {}
        self.read = {o for node in ir.nodes for o in node.operands if o is not None} | set(ir.results)

    def run(self, given: tuple[Node, ...], sizes: tuple[str, ...] = ()) -> fx.GraphModule:
        for leaf in given:
            self.values[leaf.result()] = self.graph.placeholder(leaf.name.replace(".", "_"))
        for name in sizes:
            self.symbols[name] = self.graph.placeholder(f"size_{name.replace('.', '_')}")
        for node in self.ir.inputs:
            self._bind_symbols(node)
        for node in self.ir.nodes:
            if node.op == "constant":
                value = (attribute_number(node.attrs, "value"),)
                dtype: dict[str, Any] = {"dtype": self.dtype_of(node.type.dtype)}
                self.values[node.result()] = self.graph.call_function(torch.scalar_tensor, value, dtype)
            elif node.result() not in self.values:
                self._call(node)
        updates = tuple(value for name, value in self.ir.updates if name not in self.in_place)
        results = (*(value for _, value in self.ir.outputs), *updates)
        self.graph.output(tuple(self.values[value] for value in results))
        self.graph.eliminate_dead_code()
        self.graph.lint()
        return fx.GraphModule(self.root, self.graph, class_name=self.ir.name)

    def _bind_symbols(self, node: Node) -> None:
        for axis, size in enumerate(node.type.shape):
            name = str(size)
            if isinstance(size, Dim) and name in self.ir.symbols and name not in self.symbols:
                self.symbols[name] = self.graph.call_method("size", (self.values[node.result()], axis))

    def _call(self, node: Node) -> None:
        entry = OPERATORS[node.op]
        only_first = all(value.index == 0 for value in self.read if value.node == node.name)
        if node.op == "batch_norm" and (
            _statistics(node)[0] in self.in_place or (only_first and not node.attrs["training"])
        ):
            self.values[node.result()] = _batch_norm(self, node, *self._arguments(node))
            return
        if node.op in _DROPS and node.attrs["p"] == 0.0 and node.operands[0] is not None:
            self.values[node.result()] = self.values[node.operands[0]]
            return
        plain = _PLAIN.get(node.op)
        if plain is not None and only_first:
            found = plain(self, node, *self._arguments(node))
            if found is not None:
                self.values[node.result()] = found
                return
        path = (entry.first_result_reference if only_first else None) or entry.reference
        assert path is not None, node.op
        operands, attrs = self._arguments(node)
        for _, body in node.bodies:
            operands += tuple(self.symbols[name] for name in _outer_symbols(body))
        result = self.graph.call_function(reference(path), operands, attrs)
        if len(node.types) == 1 or (only_first and entry.first_result_reference):
            self.values[node.result()] = result
            return
        for value in node.results:
            if value in self.read:
                self.values[value] = self.graph.call_function(operator.getitem, (result, value.index))

    def _arguments(self, node: Node) -> tuple[tuple[fx.Node | None, ...], dict[str, Any]]:
        operands = tuple(None if operand is None else self.values[operand] for operand in node.operands)
        return operands, {name: self._attribute(value) for name, value in node.attrs.items()}

    def dtype_of(self, dtype: DType) -> torch.dtype:
        """What tensors have that the graph declares to be of `dtype`."""
        return TORCH_DTYPES[dtype] if self.dtype is None or not dtype.is_floating else self.dtype

    def _attribute(self, value: AttrValue) -> Any:
        if isinstance(value, BlueprintIR):
            name = f"body_{len(self.root._modules)}"
            self.root.add_module(name, _body_module(value, self.dtype))
            return self.graph.get_attr(name)
        if isinstance(value, Dim):
            return self._size(value)
        if isinstance(value, tuple):
            return tuple(self._attribute(item) for item in value)
        return self.dtype_of(value) if isinstance(value, DType) else value

    def _size(self, size: Size) -> Any:
        if isinstance(size, int):
            return size
        total: Any = 0
        for monomial, coefficient in size.terms:
            term: Any = coefficient
            for atom, power in monomial:
                factor = self._quotient(atom) if isinstance(atom, Quotient) else self.symbols[atom]
                for _ in range(power):
                    term = factor if term == 1 else self._arithmetic(operator.mul, term, factor)
            total = term if total == 0 else self._arithmetic(operator.add, total, term)
        return total

    def _quotient(self, atom: Quotient) -> Any:
        return self._arithmetic(operator.floordiv, self._size(atom.numerator), self._size(atom.denominator))

    def _arithmetic(self, function: Any, left: Any, right: Any) -> fx.Node:
        return self.graph.call_function(function, (left, right))


def call(
    module: fx.GraphModule, ir: BlueprintIR, tensors: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Runs `graph_module(ir)` on tensors by leaf name."""
    results: tuple[torch.Tensor, ...] = module(*(tensors[leaf.name] for leaf in leaves(ir)))
    return results
