"""The torch tier: the optimised graph as an `fx.GraphModule` over torch's own operators.

It runs on any device, under autograd, and with any batch and image size: run-time sizes are read from the
inputs. It is a pure function: weights, buffers and the random seed are arguments; updates are results.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from esper.ir.dims import Dim, Quotient, Size, size_symbols
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import DType
from esper.ops.reference.evaluate import TORCH_DTYPES, reference
from esper.ops.rules import attribute_number


def leaves(ir: BlueprintIR) -> tuple[Node, ...]:
    """The arguments of the graph module, in order: inputs, params, buffers, then the seed if there is one."""
    return (*ir.inputs, *ir.params, *ir.buffers, *ir.of("seed"))


def graph_module(ir: BlueprintIR) -> fx.GraphModule:
    """A function of `leaves(ir)` that returns a tuple: the outputs, then the updates."""
    return _Translation(ir).run(leaves(ir))


def _body_module(body: BlueprintIR) -> fx.GraphModule:
    """A function of the body's inputs, then of the sizes that it takes from the graph around it."""
    return _Translation(body).run(body.inputs, _outer_symbols(body))


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
    def __init__(self, ir: BlueprintIR) -> None:
        self.ir = ir
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[Value, fx.Node] = {}
        self.symbols: dict[str, fx.Node] = {}
        self.read = {o for node in ir.nodes for o in node.operands if o is not None} | set(ir.results)

    def run(self, given: tuple[Node, ...], sizes: tuple[str, ...] = ()) -> fx.GraphModule:
        for leaf in given:
            self.values[leaf.result()] = self.graph.placeholder(leaf.name.replace(".", "_"))
        for name in sizes:
            self.symbols[name] = self.graph.placeholder(f"size_{name}")
        for node in self.ir.inputs:
            self._bind_symbols(node)
        for node in self.ir.nodes:
            if node.op == "constant":
                value = (attribute_number(node.attrs, "value"),)
                dtype: dict[str, Any] = {"dtype": TORCH_DTYPES[node.type.dtype]}
                self.values[node.result()] = self.graph.call_function(torch.scalar_tensor, value, dtype)
            elif node.result() not in self.values:
                self._call(node)
        self.graph.output(tuple(self.values[value] for value in self.ir.results))
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
        path = (entry.first_result_reference if only_first else None) or entry.reference
        assert path is not None, node.op
        operands = tuple(None if operand is None else self.values[operand] for operand in node.operands)
        attrs = {name: self._attribute(value) for name, value in node.attrs.items()}
        for _, body in node.bodies:
            operands += tuple(self.symbols[name] for name in _outer_symbols(body))
        result = self.graph.call_function(reference(path), operands, attrs)
        if len(node.types) == 1 or (only_first and entry.first_result_reference):
            self.values[node.result()] = result
            return
        for value in node.results:
            if value in self.read:
                self.values[value] = self.graph.call_function(operator.getitem, (result, value.index))

    def _attribute(self, value: AttrValue) -> Any:
        if isinstance(value, BlueprintIR):
            name = f"body_{len(self.root._modules)}"
            self.root.add_module(name, _body_module(value))
            return self.graph.get_attr(name)
        if isinstance(value, Dim):
            return self._size(value)
        if isinstance(value, tuple):
            return tuple(self._attribute(item) for item in value)
        return TORCH_DTYPES[value] if isinstance(value, DType) else value

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
