"""Evaluation: a graph run node by node with the operators' torch references. It is what a graph means.

Run in float64 it is the oracle that passes, kernels and gradients are checked against.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import Any

import torch

from esper.errors import EsperError, require_kind
from esper.ir.dims import Dim, evaluate_size, size_symbols
from esper.ir.graph import BlueprintIR, Node, Value
from esper.ir.operator import OPERATORS, AttrValue
from esper.ir.types import DType

TORCH_DTYPES: Mapping[DType, torch.dtype] = {
    DType.F16: torch.float16,
    DType.BF16: torch.bfloat16,
    DType.F32: torch.float32,
    DType.F64: torch.float64,
    DType.I32: torch.int32,
    DType.I64: torch.int64,
    DType.BOOL: torch.bool,
}

RANDOM_SEED = "random_seed"
"""What the state of a compiled seed holds besides weights: that state may be given as it is."""


class ShapeGiven(EsperError):
    code = "E0310"
    message = "`{name}` has shape {found}, expected {expected}"


class TensorMissing(EsperError):
    code = "E0311"
    message = "no tensor is given for the {kind} `{name}`"


class TensorUnknown(EsperError):
    code = "E0314"
    message = "`{argument}` holds `{name}`, and the graph has no such {kinds}"
    help = "did you mean `{closest}`?"


class TensorUnfit(EsperError):
    code = "E0315"
    message = "`{name}` is given as {found}, and {expected} cannot hold that"
    help = "convert it yourself, if that is meant: tensor.to({expected})"


def bind_sizes(ir: BlueprintIR, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The values of the size symbols, from the shapes of the inputs. Raises `ShapeGiven`."""
    sizes: dict[str, int] = {}
    for node in ir.inputs:
        found = shapes[node.name]
        if len(found) != node.type.rank:
            raise ShapeGiven(name=node.name, found=list(found), expected=node.type)
        for size, given in zip(node.type.shape, found, strict=True):
            if isinstance(size, Dim) and str(size) in size_symbols(size):
                sizes.setdefault(str(size), given)
    for node in ir.inputs:
        for size, given in zip(node.type.shape, shapes[node.name], strict=True):
            if not size_symbols(size) <= sizes.keys() or evaluate_size(size, sizes) != given:
                raise ShapeGiven(name=node.name, found=list(shapes[node.name]), expected=node.type)
    return sizes


@cache
def reference(path: str) -> Callable[..., Any]:
    """The function that an entry's `module:function` names."""
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def evaluate(
    ir: BlueprintIR,
    inputs: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """The outputs, and under `buffer` names the updates, of `ir`.

    inputs, weights: a tensor for each input, and for each parameter and buffer, by name.
    dtype: if given, every floating tensor, casts included, has this dtype instead of its own.
    Raises `WrongArgument`, `TensorUnknown`, `TensorMissing`, `TensorUnfit` and `ShapeGiven`.
    """
    require_kind("ir", ir, BlueprintIR, "a `BlueprintIR`")
    _require_leaves(ir, "inputs", inputs, "input", ("input",))
    _require_leaves(ir, "weights", weights, "parameter or buffer", ("param", "buffer"))
    sizes = bind_sizes(ir, {node.name: tuple(_given(inputs, node).shape) for node in ir.inputs})
    values: dict[Value, torch.Tensor] = {}
    for node in ir.nodes:
        for index, result in enumerate(_run(node, values, inputs, weights, sizes, dtype, seed)):
            values[Value(node.name, index)] = result
    return {name: values[value] for name, value in ir.outputs + ir.updates}


def _require_leaves(
    ir: BlueprintIR, argument: str, tensors: Mapping[str, torch.Tensor], kinds: str, ops: tuple[str, ...]
) -> None:
    """Refuses what is no tensor, and a name that no node of `ops` has: it would be left out unseen."""
    require_kind(argument, tensors, Mapping, "a mapping from names to tensors")
    known = {node.name: None for node in ir.nodes if node.op in ops}
    for name, tensor in tensors.items():
        require_kind(f"{argument}[{name!r}]", tensor, torch.Tensor, "a tensor")
        if name not in known and name != RANDOM_SEED:
            near = get_close_matches(str(name), known, n=1)
            raise TensorUnknown(argument=argument, name=name, kinds=kinds, closest=near[0] if near else None)


def _run(
    node: Node,
    values: Mapping[Value, torch.Tensor],
    inputs: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    sizes: Mapping[str, int],
    dtype: torch.dtype | None,
    seed: int,
) -> tuple[torch.Tensor, ...]:
    of_type = _torch_dtype(node.type.dtype, dtype) if node.types else torch.float32
    match node.op:
        case "input" | "param" | "buffer":
            tensor = _given(inputs if node.op == "input" else weights, node)
            expected = node.type.concrete_shape(sizes)
            if tuple(tensor.shape) != expected:
                raise ShapeGiven(name=node.name, found=list(tensor.shape), expected=node.type)
            if not torch.can_cast(tensor.dtype, of_type):
                raise TensorUnfit(name=node.name, found=tensor.dtype, expected=of_type)
            return (tensor.to(of_type),)
        case "constant":
            return (torch.tensor(node.attrs["value"], dtype=of_type),)
        case "seed":
            return (torch.tensor(seed, dtype=torch.int64),)
    path = OPERATORS[node.op].reference
    assert path is not None, node.op
    operands = [None if operand is None else values[operand] for operand in node.operands]
    attrs = {name: concrete(value, sizes, dtype) for name, value in node.attrs.items()}
    results = reference(path)(*operands, **attrs)
    return results if isinstance(results, tuple) else (results,)


def _given(tensors: Mapping[str, torch.Tensor], node: Node) -> torch.Tensor:
    if node.name not in tensors:
        raise TensorMissing(kind=node.op, name=node.name)
    return tensors[node.name]


def concrete(value: AttrValue, sizes: Mapping[str, int], dtype: torch.dtype | None) -> Any:
    """An attribute as references take it: sizes are integers, floating dtypes are `dtype` if given, and a
    body is a function."""
    if isinstance(value, Dim):
        return evaluate_size(value, sizes)
    if isinstance(value, tuple):
        return tuple(concrete(item, sizes, dtype) for item in value)
    if isinstance(value, DType):
        return _torch_dtype(value, dtype)
    if isinstance(value, BlueprintIR):
        return body_function(value, sizes, dtype)
    return value


def body_function(
    body: BlueprintIR, sizes: Mapping[str, int], dtype: torch.dtype | None
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """`body` as a function from its inputs to its outputs, in order, at `sizes`.

    All but the calls of the references is done once, here: a loop calls the function for every step.
    """
    slots = {node.result(): slot for slot, node in enumerate(body.inputs)}
    constants = []
    for node in body.of("constant"):
        slots[node.result()] = len(slots)
        constants.append(torch.tensor(node.attrs["value"], dtype=_torch_dtype(node.type.dtype, dtype)))
    calls = []
    for node in body.nodes:
        if node.op in ("input", "constant"):
            continue
        path = OPERATORS[node.op].reference
        assert path is not None, node.op
        operands = [None if operand is None else slots[operand] for operand in node.operands]
        attrs = {name: concrete(value, sizes, dtype) for name, value in node.attrs.items()}
        calls.append((reference(path), operands, attrs))
        for result in node.results:
            slots[result] = len(slots)
    outputs = [slots[value] for _, value in body.outputs]

    def call(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = [*given, *constants]
        for function, operands, attrs in calls:
            results = function(*(None if o is None else values[o] for o in operands), **attrs)
            values.extend(results if isinstance(results, tuple) else (results,))
        return tuple(values[slot] for slot in outputs)

    return call


def _torch_dtype(dtype: DType, override: torch.dtype | None) -> torch.dtype:
    return override if override is not None and dtype.is_floating else TORCH_DTYPES[dtype]
